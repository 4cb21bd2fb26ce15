# SPDX-License-Identifier: Apache-2.0
"""How a trace shows an IPv6 packet and which table it was looked up in."""

from pyvpp.trace import TraceRecord


def fib_index_of(record: TraceRecord) -> int:
    """The table of what comes in on the packet's interface."""
    fib = getattr(record.stack, "fib6", None)
    return int(fib.link_fib.get(record.rx, 0)) if fib is not None else 0
