# SPDX-License-Identifier: Apache-2.0
"""How a trace shows a packet that has got an adjacency's string in front of it."""

from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_hex
from pyvpp_nodes.fib.show import adjacency_text


def adjacency_of(record: TraceRecord) -> str:
    """The packet's adjacency as `show adjacency` words it, in one line, or that it is gone by now."""
    fib = getattr(record.stack, "fib4", None)
    adjacency = fib.adjacencies.get(record.adj) if fib is not None else None
    if fib is None or adjacency is None:
        return "deleted"
    return adjacency_text(fib, adjacency).split("\n")[0]


def format_rewritten(record: TraceRecord) -> list[str]:
    adjacency = f"tx_sw_if_index {record.tx} dpo-idx {record.adj} : {adjacency_of(record)}"
    return [f"{adjacency} flow hash: 0x{record.flow_hash:08x}", *format_hex(record.data)]
