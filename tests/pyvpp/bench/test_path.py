# SPDX-License-Identifier: Apache-2.0
"""A figure is given only for packets that are all there and right. No test looks at a time."""

import dataclasses
from typing import Any

import pytest

from pyvpp.bench import path
from pyvpp.bench.errors import AbsentError, BenchError
from pyvpp.bench.measure import run_once
from pyvpp.bench.path import path_of, run_scenario
from pyvpp.bench.scenario import Scenario
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.bench.verify import verify
from tests.pyvpp.bench.stands import RUNS, SCENARIOS, tried

pytestmark = pytest.mark.slow
IP4 = SCENARIOS["ip4"]
STRAIGHT = ["pg-input", "ethernet-input", "pg1-output", "pg1-tx"]
FIELDS = {
    "name", "packet_bytes", "vector_size", "routes", "packets", "seconds", "mpps", "ns_per_packet", "clocks_per_packet",
    "nodes", "verified",
}  # fmt: skip


def test_the_json_of_a_scenario(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(path, "RUNS", RUNS)
    figures, found = run_scenario(IP4, 0.02, 64, size=128)
    assert set(found) >= FIELDS
    assert (found["name"], found["packet_bytes"], found["vector_size"], found["routes"]) == ("ip4", 128, 64, 1)
    assert found["verified"] is True and found["path"] == STRAIGHT
    assert found["packets"] > 0 and found["packets"] % 64 == 0
    assert {node["name"] for node in found["nodes"]} == set(STRAIGHT)
    assert all(node["vectors_per_call"] == 64 and node["share"] == 1 for node in found["nodes"])
    assert found["resident_bytes"] > found["tables_bytes"] > 0
    again, _ = run_scenario(IP4, 0.02, 64, earlier=figures)
    assert len(again.runs) == 2 * len(figures.runs) and again.runs[: len(figures.runs)] == figures.runs


def test_a_packet_that_differs_gives_an_error_instead_of_a_figure():
    def wrong(engine: Any, packet: bytes) -> bytes:
        right = IP4.expect(engine, packet)
        return right[:22] + bytes([right[22] ^ 1]) + right[23:]

    with stand_for(IP4) as stand, pytest.raises(BenchError, match="differs from the model"):
        tried(stand, dataclasses.replace(IP4, expect=wrong))


def test_what_a_model_leaves_open_is_masked():
    def ttl_unknown(engine: Any, packet: bytes) -> bytes:
        right = IP4.expect(engine, packet)
        return right[:22] + b"?" + right[23:]

    with stand_for(IP4) as stand:
        tried(stand, dataclasses.replace(IP4, expect=ttl_unknown, masked=(22,)))


def test_packets_that_are_lost_give_an_error_that_says_where():
    lost = dataclasses.replace(IP4, setup=IP4.setup[:-1])
    with stand_for(lost) as stand, pytest.raises(BenchError, match=r"1024 packets in, 0 out(.|\n)*ip4-drop"):
        tried(stand, lost)


def test_a_run_that_loses_packets_is_no_run():
    with stand_for(IP4) as stand:
        stand.generate(IP4.packets(stand.engine, count=256))
        assert run_once(stand, 10).packets == 2560
        stand.engine.interfaces.set_admin(stand.pg1, False)
        with pytest.raises(BenchError, match=r"2560 packets in, 0 out"):
            run_once(stand, 10)
        assert run_once(stand, 10, lossless=False).nodes["error-drop"].packets == 2560


class FailsLater:
    """A model that is right for so many packets."""

    def __init__(self, scenario: Scenario, right: int) -> None:
        self.scenario, self.left = scenario, right

    def __call__(self, engine: Any, packet: bytes) -> bytes:
        self.left -= 1
        return self.scenario.expect(engine, packet) if self.left >= 0 else b""


def test_output_is_compared_again_during_the_runs_and_after_them():
    checks = 2 + path.CHECKS
    model = FailsLater(IP4, 1_000_000)
    with stand_for(IP4) as stand:
        tried(stand, dataclasses.replace(IP4, expect=model))
        compared = 1_000_000 - model.left
        assert compared == checks * 1024
    with stand_for(IP4) as stand, pytest.raises(BenchError, match="differs"):
        tried(stand, dataclasses.replace(IP4, expect=FailsLater(IP4, compared - 1)))


def test_a_buffer_that_stays_away_gives_an_error(monkeypatch: pytest.MonkeyPatch):
    def loses_one(stand: Stand, scenario: Scenario) -> None:
        verify(stand, scenario)
        stand.engine.workers[0].pool[0] -= 1

    monkeypatch.setattr(path, "verify", loses_one)
    with stand_for(IP4) as stand, pytest.raises(BenchError, match="buffers did not return"):
        tried(stand, IP4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"needs": ("ip9-input", "ip4-input")}, "needs ip9-input, which"), ({"setup": ("ip9 route add",)}, "ip4:1: ")],
)
def test_a_scenario_that_cannot_be_had_is_absent(change: dict[str, Any], reason: str):
    with pytest.raises(AbsentError, match=reason), stand_for(dataclasses.replace(IP4, **change)):
        pass


def test_the_next_packets_of_the_stream_are_caught():
    with stand_for(IP4) as stand:
        packets = IP4.packets(stand.engine, count=100)
        stand.generate(packets, 30)
        first, out = stand.catch(60)
        second, _ = stand.catch(60)
    assert first == packets[:60] and second == packets[60:] + packets[:20]
    assert out == [IP4.expect(None, packet) for packet in packets[:60]]


def test_a_path_is_walked_in_order_and_leaves_nothing_behind():
    with stand_for(IP4) as stand:
        stand.generate(IP4.packets(stand.engine, count=300))
        stand.settle()
        free = stand.engine.free_buffers
        stand.enable(True)
        assert path_of(stand) == STRAIGHT
        stand.engine.fusion = False
        assert path_of(stand) == [*STRAIGHT[:2], "ip4-input", "ip4-lookup", "ip4-rewrite", *STRAIGHT[2:]]
        stand.settle()
        assert stand.engine.free_buffers == free
