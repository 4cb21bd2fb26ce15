# SPDX-License-Identifier: Apache-2.0
"""Commands about the trace: which packets are followed, and what each node saw of them."""

from typing import Any

from pyvpp import dispatch as d
from pyvpp.cli.arguments import Arguments
from pyvpp.cli.engine_commands import named_node
from pyvpp.cli.registry import Output, command
from pyvpp.trace import packets, show_trace

PACKETS_SHOWN = 50


@command("trace add", help="trace add NODE N")
def trace_add(engine: Any, args: Arguments) -> None:
    """Trace the next N packets that reach a node.

    The name that several nodes have in common, such as af-packet-input, stands for the nodes of all interfaces, each of
    which traces N packets. Every worker counts for itself.
    """
    name = args.peek()
    indices = [node.index for node in engine.graph if node.node.template and node.node.name == name]
    if indices:
        args.word()
    else:
        indices = [named_node(engine, args).index]
    count = args.unsigned(min=1, what="a number of packets")
    args.end()
    with engine.barrier():
        for worker in engine.workers:
            for index in indices:
                worker.rows[index]["trace_limit"] += count
            worker.control[d.TRACE_ON] = 1


@command("show trace", help="show trace [max N]")
def show_trace_(engine: Any, args: Arguments) -> Output:
    """The traced packets, and what each node saw of them; 50 of each worker unless max says otherwise."""
    limit = PACKETS_SHOWN
    while args:
        args.expect("max")
        limit = args.unsigned(min=1, what="a number of packets")
    text, data = show_trace(engine, limit)
    if any(len(packets(engine, worker.index)) > limit for worker in engine.workers):
        text = f"Limiting display to {limit} packets. To display more specify max.\n{text}"
    return Output(text, data)


@command("clear trace", help="clear trace")
def clear_trace(engine: Any, args: Arguments) -> None:
    """Forget the traced packets and trace no more."""
    args.end()
    with engine.barrier():
        for worker in engine.workers:
            worker.control[d.TRACE_ON] = 0
            worker.control[d.TRACE_USED] = 0
            worker.control[d.TRACE_PACKETS] = 0
            worker.rows["trace_limit"] = 0
