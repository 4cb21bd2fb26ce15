# SPDX-License-Identifier: Apache-2.0
"""A worker that stands still is found by the node it stands in; one that sleeps, or that the barrier holds, is not."""

import asyncio
import logging
import threading
import time

import pytest

from pyvpp import dispatch as d
from pyvpp.engine import Engine
from pyvpp.errors import in_one_line
from pyvpp.watchdog import Watchdog

pytestmark = pytest.mark.slow


def test_a_worker_that_stands_still_is_named_with_its_node() -> None:
    engine = Engine(buffers=1024, hugepages="off")
    try:
        watchdog = Watchdog(engine, 3)
        (worker,) = engine.workers
        worker.control[d.AT_NODE] = engine.graph.index_of("ip4-lookup")
        assert [watchdog.look() for _ in range(3)] == [""] * 3  # the first look only learns where it is
        assert watchdog.look() == "worker 0 has stood still in node ip4-lookup for 3 s"
        worker.control[d.LOOPS] += 1
        assert watchdog.look() == ""
        worker.control[d.PARKED] = 1
        assert [watchdog.look() for _ in range(5)] == [""] * 5
        worker.control[d.PARKED] = 0
    finally:
        engine.close()


def test_a_worker_that_runs_tells_where_it_is_and_does_not_stand_still() -> None:
    engine = Engine(buffers=1024, hugepages="off")
    try:
        engine.start()
        (worker,) = engine.workers
        watchdog = Watchdog(engine, 1)
        for _ in range(3):
            rounds = int(worker.control[d.LOOPS])
            deadline = time.monotonic() + 10
            while int(worker.control[d.LOOPS]) == rounds:
                assert time.monotonic() < deadline
            assert watchdog.look() == ""
        worker.control[d.AT_NODE] = -1
        assert engine.inject(bytes(60), "ip4-input")
        deadline = time.monotonic() + 10
        while int(worker.control[d.AT_NODE]) != engine.graph.index_of("error-drop"):
            assert time.monotonic() < deadline
    finally:
        engine.close()


def test_a_timer_or_the_main_thread_that_fails_is_one_line_and_the_next_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine(buffers=1024, hugepages="off")
    done = threading.Event()

    def fails() -> None:
        raise ValueError("of no\nuse")

    async def serve() -> None:
        task = asyncio.create_task(engine.serve())
        assert await asyncio.to_thread(done.wait, 20)
        task.cancel()

    original = engine.drain_punts

    def fails_once() -> int:
        engine.drain_punts = original  # type: ignore[method-assign]
        raise KeyError("lost")

    engine.drain_punts = fails_once  # type: ignore[method-assign]
    engine.every_second(fails)
    engine.every_second(done.set)
    try:
        with caplog.at_level(logging.ERROR):
            asyncio.run(serve())
    finally:
        engine.close()
    first, second = caplog.messages[:2]
    assert first.startswith("the main thread failed: KeyError: 'lost' (") and first.endswith(")")
    assert "fails failed: ValueError: of no use (" in second and "\n" not in second


def test_an_exception_without_a_traceback_is_told_as_well() -> None:
    assert in_one_line(ValueError("so")) == "ValueError: so"
