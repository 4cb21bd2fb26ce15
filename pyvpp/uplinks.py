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

from pyvpp.errors import OperatorError
from pyvpp.service import notify

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger("pyvpp")


async def take_uplinks(engine: "Engine", options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Takes the uplinks over, one after the other, unless told to stop."""
    from pyvpp.device.uplink import add_uplink, choose_driver, settle_uplink, take_over_by
    from pyvpp.linux.capture import inspect_uplink
    from pyvpp.linux.hooks import AFTER_RESTORE, facts_of

    for name in options.uplink:
        if stop.is_set():
            break
        state = await asyncio.to_thread(inspect_uplink, name)
        choice = await asyncio.to_thread(choose_driver, name, options.driver, engine.buffers.heap.pages, options.nic)
        taking = take_over_by(choice, state, options.runtime_dir, options.workers, options.gro, engine)
        facts = facts_of(state, options.runtime_dir, driver=choice.driver)
        try:
            await asyncio.to_thread(_ask_hooks, options.hooks, facts)
            if options.confirm is not None and engine.confirmation.until is None:
                engine.confirmation.begin(options.confirm)
            uplink = await asyncio.to_thread(taking.run, settled=False)
        except OperatorError:
            await asyncio.to_thread(_tell_hooks, options.hooks, AFTER_RESTORE, [{**facts, "reason": "failure"}])
            raise
        engine.uplinks.append(uplink)
        nic, _ = add_uplink(engine, uplink, choice)
        uplink.taken_over_ms = 1000 * (time.monotonic() - uplink.left_at)
        if options.driver == "auto":
            print(f"pyvpp: {name} is driven by {nic.kind}: {nic.driver_reason}", flush=True)
        for warning in (*uplink.warnings, *await asyncio.to_thread(settle_uplink, uplink, nic)):
            log.warning("%s: %s", name, warning)


def _ask_hooks(directory: str, facts: dict[str, str]) -> None:
    """Raises OperatorError when a hook is against it."""
    from pyvpp.linux.hooks import BEFORE_TAKE_OVER, Hooks

    if failures := Hooks(directory).run(BEFORE_TAKE_OVER, facts):
        raise OperatorError(f"uplink {facts['uplink']}: not taken over: {failures[0]}; Linux is left as it was")


def _tell_hooks(directory: str, event: str, uplinks: list[dict[str, str]]) -> None:
    from pyvpp.linux.hooks import Hooks

    for failure in Hooks(directory).run(event, *uplinks):
        log.warning("%s", failure)


def hook_facts(engine: "Engine", runtime_dir: str, **more: str) -> list[dict[str, str]]:
    """What hooks are told of the uplinks that are taken over."""
    from pyvpp.linux.hooks import facts_of

    nics = {each.nic_name: engine.interfaces.by_name(f"host-{each.nic_name}") for each in engine.uplinks}
    drivers = {name: nic.kind if nic else "" for name, nic in nics.items()}
    return [facts_of(each.state, runtime_dir, driver=drivers[each.nic_name], **more) for each in engine.uplinks]


def tell_gaps(uplink: Any, given_back_ms: float | None) -> None:
    """How long an uplink's packets had nobody, as far as it came: None when the NIC was not given back."""
    told = []
    if uplink.taken_over_ms:
        told.append(f"{uplink.taken_over_ms:.1f} ms when it was taken over")
    if given_back_ms is not None:
        told.append(f"{given_back_ms:.1f} ms when it was given back")
    if told:
        print(f"pyvpp: {uplink.tap_name}: nobody handled its packets for {', '.join(told)}", flush=True)


async def give_back(engine: "Engine", options: argparse.Namespace, hung: bool) -> list[str]:
    """Gives Linux its NICs back; what could not be restored. The graph forwards until the TAP is gone."""
    from pyvpp.device.uplink import let_go
    from pyvpp.linux.hooks import AFTER_RESTORE, BEFORE_RESTORE
    from pyvpp.linux.journal import pending
    from pyvpp.linux.restore import restore
    from pyvpp.standstill import take_no_more

    notify("STOPPING=1")
    runtime_dir = options.runtime_dir
    reason = "failure" if hung else "unconfirmed" if engine.confirmation.lapsed else "stop"
    facts = hook_facts(engine, runtime_dir, reason=reason)
    if not hung:  # when nobody forwards, nobody has time
        await asyncio.to_thread(_tell_hooks, options.hooks, BEFORE_RESTORE, facts)
    let_go(engine)
    gaps: dict[str, float] = {}
    problems = await asyncio.to_thread(partial(restore, runtime_dir, gaps=gaps)) if engine.uplinks else []
    if not hung:  # a thread that hangs cannot be waited for; it ends with the process
        if unread := take_no_more(engine):
            log.warning("%d packets on their way from worker to worker are lost", unread)
        engine.stop()
    for problem in problems:
        print(f"pyvpp: restore: {problem}", file=sys.stderr)
    for uplink in engine.uplinks:
        tell_gaps(uplink, gaps.get(uplink.tap_name))
    left = pending(runtime_dir) if problems else []
    if not left:
        engine.confirmation.settle()
    given = [each for each in facts if each["uplink"] not in left]
    await asyncio.to_thread(_tell_hooks, options.hooks, AFTER_RESTORE, given)
    return problems
