# SPDX-License-Identifier: Apache-2.0
"""Several workers beside one: a figure is given only for packets and buffers that are all there. No test looks at one."""

import dataclasses
from typing import Any

import pytest

from pyvpp.bench import report, workers
from pyvpp.bench.errors import BenchError
from pyvpp.bench.machine import free_processors
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.bench.workers import Run, crew, measure_workers, verify_each
from tests.pyvpp.bench.stands import SCENARIOS

IP4 = SCENARIOS["ip4"]
FEW = dataclasses.replace(IP4, variations=512)


def test_a_run_lasts_until_the_last_one_is_done():
    run = Run((1000, 3000), (50_000, 200_000), 2.0)
    assert run.mpps == pytest.approx(40.0)  # 4000 packets in 100 us
    assert run.clocks_per_packet == [50.0, 66.67]


def test_what_others_leave_free(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert free_processors({"others_busy": 1.5, "stolen": 0.25}) == 2.25
    assert free_processors({"others_busy": 4.5, "stolen": 0.0}) == 0.0


def a_result(**changes: Any) -> dict[str, Any]:
    return {
        "name": "ip4", "workers": 2, "vector_size": 256, "mpps": 90.0, "mpps_one": 48.0, "scaling": 1.875,
        "mpps_median": 80.0, "mpps_one_median": 40.0, "clocks_per_packet": [55.0, 56.0],
        "clocks_per_packet_one": 54.0, "packets": 1_000_000, "runs": 7, "verified": True, "free_processors": 3.0,
        "pages": "ordinary pages", **changes,
    }  # fmt: skip


@pytest.mark.parametrize(("free", "said"), [(3.0, False), (2.0, False), (1.9, True)])
def test_the_table_says_so_when_processors_were_not_free(free: float, said: bool):
    console = report.console()
    with console.capture() as capture:
        console.print(report.worker_table(a_result(free_processors=free)))
    shown = capture.get()
    assert "ip4 on 2 workers" in shown and "55.0, 56.0" in shown and "1.88" in shown and "2.00" in shown
    assert ("Fewer than 2 processors were free" in shown) is said


@pytest.mark.slow
def test_the_json_of_a_measurement(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "PROBES", 2)
    found = measure_workers(FEW, 3, 0.02, frame=64)
    assert set(found) == set(a_result())
    assert (found["name"], found["workers"], found["vector_size"], found["verified"]) == ("ip4", 3, 64, True)
    assert len(found["clocks_per_packet"]) == 3 and found["packets"] > 0
    assert found["scaling"] == pytest.approx(found["mpps"] / found["mpps_one"], rel=0.01)


@pytest.mark.slow
def test_those_who_run_are_those_who_were_chosen():
    with stand_for(FEW, workers=3) as stand:
        stand.generate(FEW.packets(stand.engine), 16)
        free = stand.free_buffers
        with crew(stand) as run:
            assert run([0, 2], 10).packets == (160, 160)
            assert run([1], 5).packets == (80,)
            assert min(run(range(3), 3).clocks) > 0
        assert [stand.generated_by(k) for k in range(3)] == [208, 128, 208]
        assert [stand.sent_by(k) for k in range(3)] == [208, 128, 208]
        stand.settle()
        assert stand.free_buffers == free


@pytest.mark.slow
def test_a_worker_that_loses_packets_gives_an_error():
    with stand_for(FEW, workers=2) as stand:
        stand.generate(FEW.packets(stand.engine), 16)
        stand.engine.interfaces.set_admin(stand.pg1, False)
        with crew(stand) as run, pytest.raises(BenchError, match=r"worker 1: 160 packets in, 0 out\n  ip4-drop"):
            run([1], 10)


@pytest.mark.slow
def test_every_workers_output_is_compared():
    with stand_for(FEW, workers=2) as stand:
        stand.generate(FEW.packets(stand.engine, count=512), 64)
        first = FEW.packets(stand.engine, count=512)
        seen: list[bytes] = []

        def expect(engine: Any, packet: bytes) -> bytes:
            seen.append(packet)
            return IP4.expect(engine, packet)

        verify_each(stand, dataclasses.replace(FEW, expect=expect))
        assert seen == first * 4  # 1024 of each
        assert [stand.generated_by(k) for k in range(2)] == [1024, 1024]


@pytest.mark.slow
def test_a_buffer_in_another_workers_pool_gives_an_error(monkeypatch: pytest.MonkeyPatch):
    def moves_one(stand: Stand, *rest: Any) -> None:
        verify_each(stand, *rest)
        first, second = stand.engine.buffers.pools
        first[0] -= 1
        second[0] += 1

    monkeypatch.setattr(workers, "PROBES", 2)
    monkeypatch.setattr(workers, "verify_each", moves_one)
    with pytest.raises(BenchError, match="buffers did not return to their workers"):
        measure_workers(FEW, 2, 0.01)
