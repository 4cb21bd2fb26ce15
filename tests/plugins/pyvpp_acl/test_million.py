# SPDX-License-Identifier: Apache-2.0
"""A million sessions begin, go on, age and make room for another million, in memory that does not grow."""

import resource
from collections.abc import Iterator

import pytest

from pyvpp.bench.scenario import IN_MAC
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.node import FRAME_SIZE
from pyvpp_acl import cli
from pyvpp_acl.bench import SCENARIOS
from pyvpp_acl.filter import Counter
from pyvpp_nodes.bench.ground import INNER, SENDER, SENDER_MAC
from pyvpp_nodes.bench.model import UDP, ethernet, ip4, udp
from pyvpp_nodes.kit.hash_table import ENTRIES_USED

pytestmark = pytest.mark.slow

SCENARIO = next(each for each in SCENARIOS if each.name == "acl-sessions")
ROUNDS = 1 << 10
FLOWS = ROUNDS * FRAME_SIZE  # of a batch
BATCHES = 4
PORTS_AT = 34
ANOTHER_MILLION = (64 + 16) << 10
"""KiB of a million entries and their slots; Python's own memory moves by a tenth of that."""


@pytest.fixture
def stand() -> Iterator[Stand]:
    with stand_for(SCENARIO, hugepages="off") as stand:
        yield stand


def batch(generation: int, number: int) -> list[bytes]:
    """Packets that differ in their ports alone; no two batches share a flow."""
    frame = ethernet(IN_MAC, SENDER_MAC, ip4(SENDER, INNER + generation, UDP, udp(0, 0, bytes(22))))
    first = number * FLOWS
    return [
        frame[:PORTS_AT] + (first + i).to_bytes(4, "big") + frame[PORTS_AT + 4 :] for i in range(FLOWS)
    ]  # fmt: skip


def test_a_million_sessions(stand: Stand) -> None:
    engine = stand.engine
    node = engine.graph.find("acl-plugin-in-ip4-fa")
    assert node is not None
    sessions, index = engine.tables["acl_sessions"].array, engine.tables["acl_sessions_index"].array
    total = BATCHES * FLOWS
    assert total == 1 << 20 == len(sessions) - 1
    resident = []
    for generation in range(2):
        before = node.counts()
        for number in range(BATCHES):
            stand.generate(batch(generation, number), FRAME_SIZE)
            engine.run(ROUNDS)
            assert cli.show_acl_plugin_sessions(engine).data["ip4"] == (number + 1) * FLOWS
        engine.run(ROUNDS)  # the last batch once more
        gained = [int(n) for n in node.counts() - before]
        assert gained[Counter.NEW_SESSION] == total
        assert gained[Counter.EXIST_SESSION] == FLOWS
        assert gained[Counter.DENY] == gained[Counter.TOO_MANY_SESSIONS] == 0
        assert int(index[ENTRIES_USED]) == total
        sessions["expires"][1:] = 1  # their time is over
        assert cli.show_acl_plugin_sessions(engine).data["ip4"] == 0
        resident.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert resident[1] - resident[0] < ANOTHER_MILLION / 2, "KiB"
