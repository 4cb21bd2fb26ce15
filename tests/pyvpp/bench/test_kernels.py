# SPDX-License-Identifier: Apache-2.0
"""Kernels are measured on the frames they really get, and the engine does not notice."""

import dataclasses

import pytest

from pyvpp.bench.kernels import measure_kernels, measure_nodes, unreached
from pyvpp.bench.stand import stand_for
from pyvpp.bench.verify import verify
from pyvpp.bench.walk import walk
from pyvpp.loader import load
from tests.pyvpp.bench.stands import DECLARED, SCENARIOS

pytestmark = pytest.mark.slow


def test_the_engine_is_as_it_was_after_each_kernel_ran_alone():
    scenario = SCENARIOS["vxlan-encap-l3"]
    with stand_for(scenario) as stand:
        stand.generate(scenario.packets(stand.engine, count=600))
        verify(stand, scenario)
        stand.settle()
        free = stand.engine.free_buffers
        stand.enable(True)
        found = measure_kernels(stand, scenario.name, lambda node, packets: True, calls=4)
        assert {"pg-input", "ip4-input", "vxlan4-encap", "ip4-rewrite", "interface-output", "pg-tx"} <= {
            each.node for each in found
        }
        assert all(set(each.clocks) == {1, 4, 16, 64, 256} for each in found)
        verify(stand, scenario)
        stand.settle()
        assert stand.engine.free_buffers == free


def test_a_kernel_gets_the_same_frame_in_every_call():
    scenario = SCENARIOS["ip4"]
    with stand_for(scenario) as stand:
        stand.generate(scenario.packets(stand.engine, count=256))
        node = stand.engine.graph.find("ip4-rewrite")
        assert node
        before = node.counts().copy()
        measure_kernels(stand, "ip4", lambda name, packets: name == "ip4-rewrite", calls=300)
        # a frame left as the kernel left it would have a TTL of 0 after 63 calls, which the node counts
        assert (node.counts() == before).all()


def test_each_kernel_comes_from_the_first_full_frame():
    few = dataclasses.replace(SCENARIOS["ip4"], name="few")
    ttl = DECLARED["ttl-expired"]
    found = {each.node: each for each in measure_nodes([few, ttl], calls=4)}
    assert found["ip4-input"].traffic == "few"
    assert found["ip4-icmp-error"].traffic == "ttl-expired"
    assert list(found) == sorted(found)
    json = found["ip4-input"].as_json()
    assert [point["vector_size"] for point in json["vectors"]] == [1, 4, 16, 64, 256]
    assert json["clocks_per_packet"] == json["vectors"][-1]["clocks_per_packet"]


def test_traffic_that_cannot_be_had_is_left_out():
    assert measure_nodes([dataclasses.replace(SCENARIOS["ip4"], needs=("ip9-input",))]) == []


def test_kernels_that_nothing_reaches_are_named():
    declarations = load()
    missing = unreached(declarations, [])
    assert "ip4-input" in missing and "tap-tx" in missing
    assert "pg-capture" not in missing  # Python's


def test_a_walk_follows_extra_packets_and_ends_with_pythons_nodes():
    for name, expected in (("fragments", "ip4-frag"), ("arp-requests", "arp-reply"), ("ttl-expired", "ip4-icmp-error")):
        traffic = DECLARED[name]
        with stand_for(traffic) as stand:
            stand.generate(traffic.packets(stand.engine, count=64), 64)
            stand.settle()
            free = stand.engine.free_buffers
            stand.enable(True)
            visited: dict[str, int] = {}

            def visit(node, frame, visited=visited):
                visited[node.node.name] = visited.get(node.node.name, 0) + len(frame)

            walk(stand.engine, visit)
            assert visited["pg-input"] == 0 and visited[expected] == 64
            if name == "fragments":
                assert visited["pg-tx"] > 64  # a packet became several
            stand.settle()
            assert stand.engine.free_buffers == free
