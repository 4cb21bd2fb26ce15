# SPDX-License-Identifier: Apache-2.0
"""`pyvpp --dry-run`: what would be read, created, moved, set and restored. Nothing is changed.

The steps are those that a take-over and a restore run (`TakeOver.steps`, `GiveBack.steps`); here they are only told.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pyvpp.buffers import Heap
from pyvpp.cli.server import SOCKET_NAME, check_room
from pyvpp.confirm import UNCONFIRMED
from pyvpp.device.uplink import choose_driver, take_over_by
from pyvpp.linux import plan
from pyvpp.linux.capture import UplinkState, inspect_uplink, losses
from pyvpp.linux.hooks import AFTER_RESTORE, AFTER_TAKE_OVER, BEFORE_RESTORE, BEFORE_TAKE_OVER, Hooks
from pyvpp.linux.journal import Journal, Record, check_unused
from pyvpp.linux.names import interface_names_of
from pyvpp.linux.restore import GiveBack


def told(options: argparse.Namespace) -> str:
    """The plan for the options of the command line, as text. Raises OperatorError where `pyvpp` itself would."""
    directory = Path(options.runtime_dir).absolute()
    check_unused(directory)
    check_room(directory / SOCKET_NAME)
    record = Journal(directory).look()
    lines = ["Nothing is changed now. pyvpp would do this, in this order:", ""]
    lines += _indented(_beginning(options, directory, record))
    pages = _pages(options)
    for name in interface_names_of(options.uplink):
        lines += ["", f"uplink {name}", *_indented(_uplink(options, name, pages, record))]
    return "\n".join(lines) + "\n"


def _beginning(options: argparse.Namespace, directory: Path, record: Record | None) -> list[str]:
    found = [] if directory.exists() else [f"{'create':<8}directory {directory}"]
    found.append(f"{'create':<8}{directory}/pyvpp.lock and {SOCKET_NAME}")
    for entry in record.entries if record is not None else ():
        found.append(f"{'restore':<8}{entry.uplink.name}, which an earlier pyvpp left taken over")
    if options.uplink:
        found.append(f"{'start':<8}a guardian process, which restores if pyvpp dies")
    if options.confirm is not None:
        found.append(
            f"{'wait':<8}{options.confirm:g} s for `pyvppctl confirm', or restore and end with status {UNCONFIRMED}"
        )
    return found


def _uplink(options: argparse.Namespace, name: str, pages: str, record: Record | None) -> list[str]:
    entries = record.entries if record is not None else []
    left = next((entry.uplink for entry in entries if entry.uplink.name == name), None)
    state = left or inspect_uplink(name)
    choice = choose_driver(name, options.driver, pages, options.nic) if left is None else None
    found = [f"{'read':<8}{_summary(state)}"]
    if choice is None:
        return [*found, "the rest can be told when it is restored"]
    taking = take_over_by(choice, state, options.runtime_dir, options.workers, options.gro, None)
    found.append(f"{'use':<8}{choice.driver}" + (f": {choice.reason}" if choice.reason else ""))
    found += [f"{'warn':<8}{loss}" for loss in losses(state)]
    found += [*_hooks(options, BEFORE_TAKE_OVER), *plan.lines(taking.steps())]
    found += ["when packets flow:", *plan.lines(taking.late_steps()), *_hooks(options, AFTER_TAKE_OVER)]
    found += ["at the end, or when pyvpp dies:", *_hooks(options, BEFORE_RESTORE)]
    return [*found, *plan.lines(GiveBack(taking.entry).steps()), *_hooks(options, AFTER_RESTORE)]


def _hooks(options: argparse.Namespace, event: str) -> list[str]:
    found = Hooks(options.hooks).find()
    but = {BEFORE_TAKE_OVER: " (one that fails forbids it)", BEFORE_RESTORE: " (not when pyvpp dies)"}.get(event, "")
    told = [f"{'run':<8}{hook} {event}{but}" for hook in found.hooks]
    return told + [f"{'warn':<8}{refused}" for refused in found.refused if event == BEFORE_TAKE_OVER]


def _summary(state: UplinkState) -> str:
    counted = {
        "addresses": len(state.addresses),
        "routes": len(state.routes),
        "nexthop objects": len(state.nexthops),
        "neighbors": len(state.neighbors),
        "queueing disciplines, classes and filters": len(state.disciplines),
        "sysctls": len(state.sysctls),
    }
    numbers = ", ".join(f"{number} {what}" for what, number in counted.items() if number)
    return f"{state.name} ({state.kind or 'physical'}), index {state.ifindex}, {state.mac}: {numbers}"


def _pages(options: argparse.Namespace) -> str:
    """What pages the packets would lie in: the memory is asked for and given back."""
    heap = Heap(options.buffers, options.hugepages)
    try:
        return heap.pages
    finally:
        heap.close()


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
