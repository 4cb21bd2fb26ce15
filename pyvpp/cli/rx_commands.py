# SPDX-License-Identifier: Apache-2.0
"""Commands about receive queues: which worker asks them, and what wakes it."""

from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError
from pyvpp.cli.registry import Output, command
from pyvpp.rx_queue import RxMode, RxQueue


@command("show interface rx-placement", help="show interface rx-placement [INTERFACE [INTERFACE [..]]]")
def show_interface_rx_placement(engine: Any, args: Arguments) -> Output:
    """The receive queues of each worker, by the input node that reads them, and their modes."""
    named = []
    while args:
        named.append(args.interface(engine))
    lines: list[str] = []
    data = []
    for worker in engine.workers:
        mine = [queue for queue in engine.rx_queues if queue.worker is worker]
        mine = [queue for queue in mine if not named or queue.interface in named]
        lines += [f"Thread {worker.index + 1} (vpp_wk_{worker.index}):"] if mine else []
        kinds = {queue.node: str(engine.graph.by_index(queue.node).node.name) for queue in mine}
        for kind in sorted(set(kinds.values())):
            lines.append(f" node {kind}:")
            for queue in mine:
                if kinds[queue.node] == kind:
                    lines.append(f"    {queue.interface.name} queue {queue.number} ({queue.mode.value})")
                    data.append({**queue_data(queue), "node": kind})
    return Output("\n".join(lines), data)


def queue_data(queue: RxQueue) -> dict[str, Any]:
    """A queue as `show` commands give it in JSON."""
    return {
        "interface": queue.interface.name,
        "queue": queue.number,
        "thread": queue.worker.index + 1,
        "worker": queue.worker.index,
        "mode": queue.mode.value,
    }


@command("set interface rx-mode", help="set interface rx-mode INTERFACE [queue N] polling|interrupt|adaptive")
def set_interface_rx_mode(engine: Any, args: Arguments) -> None:
    """How a worker learns that an interface has packets: for one of its queues or for all.

    polling: it looks all the time and never sleeps. interrupt: it sleeps until Linux wakes it. adaptive, with which
    interfaces begin: it sleeps, but not as long as waiting for the next packet is likely to pay.
    """
    queues = _queues(engine, args)
    mode = RxMode(args.choice(*(mode.value for mode in RxMode), what="an rx-mode"))
    args.end()
    for queue in queues:
        engine.rx_queues.set_mode(queue, mode)


@command("set interface rx-placement", help="set interface rx-placement INTERFACE [queue N] worker N")
def set_interface_rx_placement(engine: Any, args: Arguments) -> None:
    """Have a worker read a queue of an interface, or all its queues."""
    queues = _queues(engine, args)
    args.expect("worker")
    most = len(engine.workers) - 1
    worker = args.unsigned(max=most, what="a worker")
    args.end()
    for queue in queues:
        engine.rx_queues.place(queue, worker)


def _queues(engine: Any, args: Arguments) -> list[RxQueue]:
    """The queue that is named behind an interface, or all that the interface has."""
    interface = args.interface(engine)
    queues: list[RxQueue] = engine.rx_queues.of(interface)
    if not queues:
        raise CommandError(f"{interface.name} has no receive queues")
    if args.accept("queue"):
        number = args.unsigned(max=len(queues) - 1, what=f"a queue of {interface.name}")
        queues = [queues[number]]
    return queues
