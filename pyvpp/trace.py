# SPDX-License-Identifier: Apache-2.0
"""Packet trace: what the dispatcher left in a worker's ring, and VPP's `show trace` made of it.

A record is written after a node ran: its metadata as the node left it, and TRACE_BYTES bytes of the packet from where
its header stood before the node or after it, whichever is first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyvpp.buffers import BUFFER
from pyvpp.tables import record_dtype

if TYPE_CHECKING:
    from pyvpp.engine import Engine

TRACE_BYTES = 128
TRACE_RECORDS = 4096
TRACE_NUMBER_BITS = 24

TRACE = record_dtype(
    [
        ("time", np.int64),  # ns since the worker's clock began
        ("first", np.int64),  # absolute heap offset of data[0]
        ("before", np.int64),  # cur before the node
        ("packet", np.uint32),
        ("node", np.uint16),
        ("next", np.uint16),  # node index, or FREE or HELD
        ("meta", BUFFER),
        ("data", np.uint8, (TRACE_BYTES,)),
    ]
)


@dataclass
class TraceRecord:
    """One node's record, as a node's `trace` formatter gets it. Fields of the metadata are attributes."""

    data: bytes
    """the packet from where this node's header began"""
    meta: Any
    next: str
    node: str
    name_of: Callable[[int], str] = str
    p2p: Callable[[int], bool] = lambda sw_if_index: False
    flags_of: Callable[[int], int] = lambda sw_if_index: 0
    fib_index: int = 0
    instance: int = 0
    rx_queue: int = 0
    """the interface's queue that an input node reads"""
    tx_queue: int = 0
    """the one of `tx` by which this worker sends"""
    stack: Any = None
    """what plugins keep of their own, `engine.stack`"""

    def __getattr__(self, name: str) -> int:
        if name.startswith("__") or self.meta.dtype.names is None or name not in self.meta.dtype.names:
            raise AttributeError(name)
        return int(self.meta[name])

    @property
    def rx_name(self) -> str:
        """The name of the interface it came in on."""
        return self.name_of(int(self.meta["rx"]))

    @property
    def tx_name(self) -> str:
        """The name of the interface it is to leave by."""
        return self.name_of(int(self.meta["tx"]))

    @property
    def tx_p2p(self) -> bool:
        """Whether that one carries bare IP packets, without Ethernet."""
        return self.p2p(int(self.meta["tx"]))


def _record(engine: "Engine", worker: int, row: Any) -> TraceRecord:
    meta = row["meta"]
    at = max(0, min(int(meta["cur"]), int(row["before"])) - int(row["first"]))
    length = max(0, int(meta["len"]) + int(meta["cur"]) - int(row["first"]))
    interfaces = engine.interfaces

    def name_of(sw_if_index: int) -> str:
        interface = interfaces.get(sw_if_index)
        return interface.name if interface else f"sw_if_index {sw_if_index}"

    def p2p(sw_if_index: int) -> bool:
        interface = interfaces.get(sw_if_index)
        return bool(interface and interface.p2p)

    index = int(row["node"])
    node = engine.graph.get(index)
    tx = interfaces.get(int(meta["tx"]))
    return TraceRecord(
        data=row["data"].tobytes()[at : min(length, TRACE_BYTES)],
        meta=meta,
        next=engine.graph.name_of(int(row["next"])),
        node=engine.graph.name_of(index),
        name_of=name_of,
        p2p=p2p,
        instance=node.instance if node else 0,
        rx_queue=next((queue.number for queue in engine.rx_queues if queue.node == index), 0),
        tx_queue=tx.tx_queue(worker, len(engine.workers)) if tx else 0,
        stack=engine.stack,
    )


def _time(ns: int) -> str:
    us = ns // 1000
    seconds = us // 1_000_000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{us % 1_000_000:06}"


def packets(engine: "Engine", worker: int) -> list[list[Any]]:
    """The traced packets of a worker in order, each the list of its rows: its own, then those handed to it."""
    state = engine.workers[worker]
    by_packet: dict[int, list[Any]] = {}
    for row in state.trace[: state.traced_records]:
        by_packet.setdefault(int(row["packet"]), []).append(row)
    return [by_packet[n] for n in sorted(by_packet, key=lambda n: (n >> TRACE_NUMBER_BITS != worker, n))]


def show_trace(engine: "Engine", limit: int = 50) -> tuple[str, list[Any]]:
    """VPP's text, and the same as data: per worker, per packet, the nodes with their lines."""
    lines: list[str] = []
    data: list[Any] = []
    for worker in range(len(engine.workers)):
        lines.append(f"------------------- Start of thread {worker + 1} vpp_wk_{worker} -------------------")
        traced = packets(engine, worker)
        if not traced:
            lines.append("No packets in trace buffer")
        for number, rows in enumerate(traced[:limit], 1):
            lines += [f"Packet {number}", ""]
            hops = []
            for row in rows:
                record = _record(engine, worker, row)
                node = engine.graph.get(int(row["node"]))
                formatter = node.node.trace if node else None  # its interface may have been deleted meanwhile
                text = formatter(record) if formatter else [f"next {record.next}"]
                lines.append(f"{_time(int(row['time']))}: {record.node}")
                lines += ["  " + line for line in text]
                hops.append({"node": record.node, "next": record.next, "time_ns": int(row["time"]), "text": text})
            lines.append("")
            data.append({"thread": worker + 1, "packet": number, "nodes": hops})
    return "\n".join(lines), data
