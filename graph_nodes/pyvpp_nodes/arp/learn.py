# SPDX-License-Identifier: Apache-2.0
"""arp-learn: make the sender of an ARP packet a neighbor. Runs on the main thread; the packet ends here."""

from typing import Any

from pyvpp.node import Kind, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_arp
from pyvpp_nodes.arp.packet import ARP_BYTES, SENDER, SENDER_MAC


def format_trace(record: TraceRecord) -> list[str]:
    return format_arp(record.data)


@node(name="arp-learn", next={}, kind=Kind.PYTHON, trace=format_trace)
def arp_learn(engine: Any, packet: Any) -> None:
    if len(packet.data) < ARP_BYTES:
        return
    address = int.from_bytes(packet.data[SENDER : SENDER + 4], "big")
    engine.stack.neighbors.learn(packet.rx, address, packet.data[SENDER_MAC : SENDER_MAC + 6])
