# SPDX-License-Identifier: Apache-2.0
"""What `show trace` says at the ends of the graph: which interface and queue, and what was left to a device to do."""

from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_packet

NEEDS_CHECKSUM, CHECKSUM_VALID = 1, 2  # virtio_net_hdr flags
CSUM_PARTIAL, CSUM_VALID = 2, 4  # a buffer's


def offload_lines(record: TraceRecord) -> list[str]:
    """The packet's virtio_net_hdr, as VPP shows it; csum_start counts from the packet's first byte."""
    partial = record.flags & CSUM_PARTIAL
    flags = (NEEDS_CHECKSUM if partial else 0) | (CHECKSUM_VALID if record.flags & CSUM_VALID else 0)
    start, offset = (record.csum_start - record.cur, record.csum_offset) if partial else (0, 0)
    return [
        "  vnet-hdr:",
        f"    flags 0x{flags:02x} gso_type 0x{record.gso_type:02x}",
        f"    gso_size {record.gso_size} csum_start {start} csum_offset {offset}",
    ]


def _received(record: TraceRecord) -> str:
    return f"{record.rx_name} {record.len} bytes"


def format_af_packet_input(record: TraceRecord) -> list[str]:
    return [
        f"af_packet: hw_if_index {record.rx} rx-queue {record.rx_queue} next {record.next}, {_received(record)}",
        *offload_lines(record),
    ]


def format_af_xdp_input(record: TraceRecord) -> list[str]:
    return [
        f"af_xdp: hw_if_index {record.rx} rx-queue {record.rx_queue} next {record.next}, {_received(record)}",
        *offload_lines(record),
    ]


def format_tap_input(record: TraceRecord) -> list[str]:
    return [
        f"virtio: hw_if_index {record.rx} next {record.next} vring {record.rx_queue}, {_received(record)}",
        *offload_lines(record),
    ]


def _format_tx(kind: str, record: TraceRecord) -> list[str]:
    packet = format_packet(record.data, ethernet=not record.tx_p2p)
    return [
        f"{kind}: hw_if_index {record.tx} tx-queue {record.tx_queue}, {record.tx_name} {record.len} bytes",
        *offload_lines(record),
        *(f"  {line}" for line in packet),
    ]


def format_af_packet_tx(record: TraceRecord) -> list[str]:
    return _format_tx("af_packet", record)


def format_af_xdp_tx(record: TraceRecord) -> list[str]:
    return _format_tx("af_xdp", record)


def format_tap_tx(record: TraceRecord) -> list[str]:
    return _format_tx("virtio", record)


def format_pg_tx(record: TraceRecord) -> list[str]:
    return _format_tx("pg", record)
