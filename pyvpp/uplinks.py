# SPDX-License-Identifier: Apache-2.0
"""The uplinks of a pyvpp that runs: taken from Linux at its begin, given back at its end.

What takes long to import is imported late: the guardian comes first.
"""

import argparse
import asyncio
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pyvpp.service import notify

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger("pyvpp")


async def take_uplinks(engine: "Engine", options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Takes the uplinks over, one after the other, unless told to stop."""
    from pyvpp.device.uplink import add_uplink, choose_driver, settle_uplink, take_over_by
    from pyvpp.linux.capture import inspect_uplink

    for name in options.uplink:
        if stop.is_set():
            break
        state = await asyncio.to_thread(inspect_uplink, name)
        choice = await asyncio.to_thread(choose_driver, name, options.driver, engine.buffers.heap.pages, options.nic)
        taking = take_over_by(choice, state, options.runtime_dir, options.workers, options.gro, engine)
        uplink = await asyncio.to_thread(taking.run, settled=False)
        engine.uplinks.append(uplink)
        nic, _ = add_uplink(engine, uplink, choice)
        uplink.taken_over_ms = 1000 * (time.monotonic() - uplink.left_at)
        if options.driver == "auto":
            print(f"pyvpp: {name} is driven by {nic.kind}: {nic.driver_reason}", flush=True)
        for warning in (*uplink.warnings, *await asyncio.to_thread(settle_uplink, uplink, nic)):
            log.warning("%s: %s", name, warning)


def tell_gaps(uplink: Any, given_back_ms: float | None) -> None:
    """How long an uplink's packets had nobody, as far as it came: None when the NIC was not given back."""
    told = []
    if uplink.taken_over_ms:
        told.append(f"{uplink.taken_over_ms:.1f} ms when it was taken over")
    if given_back_ms is not None:
        told.append(f"{given_back_ms:.1f} ms when it was given back")
    if told:
        print(f"pyvpp: {uplink.tap_name}: nobody handled its packets for {', '.join(told)}", flush=True)


async def give_back(engine: "Engine", runtime_dir: str, hung: bool) -> list[str]:
    """Gives Linux its NICs back; what could not be restored. The graph forwards until the TAP is gone."""
    from pyvpp.device.uplink import let_go
    from pyvpp.linux.restore import restore

    notify("STOPPING=1")
    let_go(engine)
    gaps: dict[str, float] = {}
    problems = await asyncio.to_thread(partial(restore, runtime_dir, gaps=gaps)) if engine.uplinks else []
    if not hung:  # a thread that hangs cannot be waited for; it ends with the process
        engine.stop()
    for problem in problems:
        print(f"pyvpp: restore: {problem}", file=sys.stderr)
    for uplink in engine.uplinks:
        tell_gaps(uplink, gaps.get(uplink.tap_name))
    return problems
