# SPDX-License-Identifier: Apache-2.0
import pytest

from pyvpp import dispatch as d
from pyvpp.bench import cost
from pyvpp.bench.cost import measure_costs
from pyvpp.bench.measure import Run, run_once
from pyvpp.bench.stand import Stand
from tests.pyvpp.bench.stands import SCENARIOS

pytestmark = pytest.mark.slow


def test_what_is_said_to_be_on_is_on_in_every_other_run_and_off_again_at_last(monkeypatch: pytest.MonkeyPatch):
    """Looks at the engine during each run: what was on, and how many records that left."""
    seen: list[tuple[int, ...]] = []

    def watched(stand: Stand, rounds: int, lossless: bool = True) -> Run:
        worker = stand.engine.workers[0]
        rows, control = worker.rows, worker.control
        feature = stand.engine.graph.index_of("bench-idle-feature")
        state = [
            int(control[d.TRACE_ON]),
            int(control[d.TRACE_USED]),
            int(control[d.CAPTURE_KINDS]),
            int(control[d.CAPTURE_USED]),
        ]
        passed = int(rows["vectors"][feature])
        made = run_once(stand, rounds, lossless)
        traced, captured = int(control[d.TRACE_USED]) - state[1], int(control[d.CAPTURE_USED]) - state[3]
        seen.append((state[0], traced, state[2], captured, int(rows["vectors"][feature]) - passed))
        return made

    monkeypatch.setattr(cost, "run_once", watched)
    costs = measure_costs(SCENARIOS["ip4"], pairs=1)
    pairs = dict(zip([each.name for each in costs], zip(seen[3::2], seen[4::2], strict=False), strict=False))
    assert [*pairs, "counters of the nodes"] == [each.name for each in costs]
    off = {name: pair[0] for name, pair in pairs.items()}
    assert set(off.values()) == {(0, 0, 0, 0, 0)}
    on = {name: pair[1] for name, pair in pairs.items()}
    rounds = cost.TRACE_RECORDS // (7 * 256)
    assert on["trace of every packet"] == (1, 7 * 256 * rounds, 0, 0, 0)
    assert on["trace, its buffer full"] == (1, 0, 0, 0, 0)
    assert on["trace off again"] == (0, 0, 0, 0, 0)
    both = d.CAPTURE_RX | d.CAPTURE_TX
    assert on["pcap trace rx tx"] == (0, 0, both, cost.CAPTURED, 0)
    assert on["pcap trace, its file full"] == (0, 0, both, 0, 0)
    assert on["pcap trace off again"] == (0, 0, 0, 0, 0)
    for arc in ("ip4-unicast", "ip4-output", "interface-output"):
        assert on[f"a feature on {arc}"] == (0, 0, 0, 0, 256 * cost.ROUNDS)


def test_the_counters_of_a_node_cost_something_a_call_and_little_a_packet():
    (counters,) = [each for each in measure_costs(SCENARIOS["ip4"], pairs=1) if each.name == "counters of the nodes"]
    assert 0 < counters.more < counters.clocks
    assert "4 nodes, vectors of 256" in counters.note
