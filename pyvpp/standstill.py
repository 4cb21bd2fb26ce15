# SPDX-License-Identifier: Apache-2.0
"""How an engine comes to rest: workers end what they have begun, and take no more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyvpp.handoff_ring import HANDOFF_INPUT

if TYPE_CHECKING:
    from pyvpp.engine import Engine

ROUNDS_TO_DRAIN = 3  # a packet that control code sent, its answer, and what that makes
PATIENCE = 0.1  # seconds for what workers have handed to each other: a full ring takes one worker some 5 ms


def take_no_more(engine: Engine) -> int:
    """Workers ask no input any more but the rings that join them, until those are empty.

    Answers how many packets were still there when patience ended. `set_inputs` of the engine undoes it.
    """
    between = engine.graph.find(HANDOFF_INPUT)
    with engine.barrier():
        for worker in engine.workers:
            worker.inputs[0] = between is not None
            if between is not None:
                worker.inputs[1] = between.index
    deadline = time.monotonic() + PATIENCE
    rounds = 0
    while rounds < ROUNDS_TO_DRAIN or (waiting(engine) and time.monotonic() < deadline):
        engine.synchronize()
        engine.drain_punts()
        rounds += 1
    engine.synchronize()
    return waiting(engine)


def waiting(engine: Engine) -> int:
    """Packets on their way from one worker to another at this moment."""
    return sum(use.waiting for use in engine.handoff.used())
