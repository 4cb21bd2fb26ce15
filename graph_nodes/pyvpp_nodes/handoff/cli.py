# SPDX-License-Identifier: Apache-2.0
"""Commands about handoff: whose packets are spread over which workers, and what the rings between those hold."""

import re
from dataclasses import asdict
from typing import Any

import numpy as np

from pyvpp.cli import render
from pyvpp.cli.arguments import CommandError
from pyvpp.cli.registry import Arguments, Output, command
from pyvpp_nodes.fib.tables import FLOW_HASH_DEFAULT
from pyvpp_nodes.handoff.tables import HANDOFF, HANDOFF_INTERFACES, MOST_WORKERS
from pyvpp_nodes.ip4.flow_hash import HASH_SYMMETRIC

NODE = "worker-handoff"


def worker_list(engine: Any, text: str) -> list[int]:
    """Workers as VPP lists them: numbers and ranges with commas between, 0-1,3."""
    found: set[int] = set()
    most = min(len(engine.workers), MOST_WORKERS) - 1
    for part in text.split(","):
        ends = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last or last > most:
            raise CommandError(f"invalid workers `{text}' (expected numbers from 0 to {most}, as in 0-1,3)")
        found.update(range(first, last + 1))
    return sorted(found)


@command(
    "set interface handoff",
    help="set interface handoff INTERFACE workers LIST [symmetrical|asymmetrical] | INTERFACE disable",
)
def set_interface_handoff(engine: Any, args: Arguments) -> None:
    """Spread an interface's packets over workers by their flow, whichever worker reads its queues.

    symmetrical: both directions of a flow go to the same worker.
    """
    interface = args.interface(engine)
    workers: list[int] = []
    fields = FLOW_HASH_DEFAULT
    enable = True
    while args or not (workers or not enable):
        word = args.expect("workers", "symmetrical", "asymmetrical", "disable")
        if word == "workers":
            workers = worker_list(engine, args.word("a list of workers"))
        elif word == "disable":
            enable = False
        elif word == "symmetrical":
            fields |= HASH_SYMMETRIC
    engine.handoff.send_via(interface, NODE if enable else None)
    row = np.zeros((), HANDOFF)
    if enable:
        row["workers"], row["flow_hash"] = len(workers), fields
        row["worker"][: len(workers)] = workers
    with engine.barrier():
        engine.tables[HANDOFF_INTERFACES.name].array[interface.sw_if_index] = row


@command("show handoff queues", help="show handoff queues")
def show_handoff_queues(engine: Any, args: Arguments) -> Output:
    """Which interfaces hand packets on to which workers, and for each two workers what went from one to the other.

    Waiting: packets in the ring. Congestion: packets lost since it was full. Owed: buffers on their way home.
    """
    args.end()
    rows = engine.tables[HANDOFF_INTERFACES.name].array
    interfaces = [
        {
            "interface": interface.name,
            "workers": [int(worker) for worker in row["worker"][: int(row["workers"])]],
            "symmetrical": bool(int(row["flow_hash"]) & HASH_SYMMETRIC),
        }
        for interface in engine.interfaces
        if int((row := rows[interface.sw_if_index])["workers"])
    ]
    used = engine.handoff.used()
    lines = [
        f"{each['interface']}: workers {','.join(map(str, each['workers']))}{' symmetrical' * each['symmetrical']}"
        for each in interfaces
    ]
    headings = ("From", "To", "Slots", "Packets", "Waiting", "Congestion", "Wakeups", "Owed")
    cells = [
        [f"vpp_wk_{use.source}", f"vpp_wk_{use.target}", engine.handoff.slots, *list(asdict(use).values())[2:]]
        for use in used
    ]
    lines += [render.table(headings, cells, "<<>>>>>>")] if cells else []
    return Output("\n".join(lines), {"interfaces": interfaces, "rings": [asdict(use) for use in used]})
