# SPDX-License-Identifier: Apache-2.0
"""tap-input: read packets that Linux sends into a TAP or TUN.

Each is read into a large buffer, since its size is known only afterwards; one that fits a small buffer is copied
there and the large one, warm in the cache, takes the next (7 instead of 9 microseconds for 64 KiB).

A TAP's packets go to ethernet-input, or to host-input when the TAP stands in for an uplink; a TUN's go to ip4-input
by the version in their first byte. A packet is lost, and counted, when its IP version is another and when the
interface is down. Without a free buffer nothing is read: Linux keeps the packets, as many as its queue holds. A
device that is gone, since its namespace was deleted, is counted once and asked no more, until another worker is to.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import (
    HEADROOM,
    L2_VALID,
    LARGE_ROOM,
    NO_BUFFER,
    SMALL_ROOM,
    give_back,
    slot_start,
    take_large,
    take_small,
)
from pyvpp.device import vnet
from pyvpp.device.receive import SEGMENTS_AT_ONCE, segments_of, set_received
from pyvpp.device.syscalls import EAGAIN, EBADFD, address_of, epoll_forget, read
from pyvpp.device.trace import format_tap_input
from pyvpp.device.vnet import read_vnet
from pyvpp.interface import ADMIN_UP, HOST
from pyvpp.jit import inline, jit
from pyvpp.node import Kind, NodeCounter, Severity, node
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import copy, u8


class Next(IntEnum):
    DROP = 0
    ETHERNET = 1
    HOST = 2
    IP4 = 3


class Counter(NodeCounter):
    UNSUPPORTED_VERSION = 0, "unsupported ip version"
    NO_BUFFERS = 1, "no buffers", Severity.WARNING
    ADMIN_DOWN = 2, "interface is down", Severity.WARNING
    READ_FAILED = 3, "read failed"
    DEVICE_GONE = 4, "linux interface is gone", Severity.WARNING


@inline
def move_to_small(heap: U8, meta: Records, pool: U32, large: int) -> int:
    """Copies a packet that fits into a small buffer, and answers that, or the large one when none is free."""
    small = take_small(pool)
    if small == NO_BUFFER:
        return large
    source = meta[large]
    m = meta[small]
    start = slot_start(small) + HEADROOM
    copy(heap, start, int(source.cur), int(source.len))
    set_received(m, int(source.rx), start, int(source.len), int(source.flags))
    m.csum_start = int(source.csum_start) - int(source.cur) + start if source.csum_start else 0
    m.csum_offset = source.csum_offset
    m.gso_size = source.gso_size
    m.gso_type = source.gso_type
    return small


@inline
def next_of(heap: U8, m: Record, layer3: int, flags: int) -> int:
    if not layer3:
        return Next.HOST.value if flags & HOST else Next.ETHERNET.value
    return Next.IP4.value if u8(heap, m.cur) >> 4 == 4 else Next.DROP.value


@inline
def count_failure(tap: Record, result: int, counters: U64) -> None:
    """EAGAIN is no failure. A device that is gone would be ready for ever: the worker would never sleep again."""
    if result == -EBADFD:
        counters[Counter.DEVICE_GONE] += uint64(1)
        epoll_forget(int(tap.epoll_fd), int(tap.fd))
        tap.open = 0
    elif result != -EAGAIN:
        counters[Counter.READ_FAILED] += uint64(1)


@node(
    name="tap-input",
    next={Next.DROP: "error-drop", Next.ETHERNET: "ethernet-input", Next.HOST: "host-input", Next.IP4: "ip4-input"},
    counters=Counter,
    kind=Kind.INPUT,
    template=True,
    trace=format_tap_input,
)
@jit
def tap_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    instance: int,
    error_base: int,
    interfaces: Records,
    interface_rx: Records,
    tap_rx_queues: Records,
) -> int:
    tap = tap_rx_queues[instance]
    sw_if_index = int(tap.sw_if_index)
    flags = int(interfaces[sw_if_index].flags)
    layer3 = int(tap.layer3)
    received = interface_rx[sw_if_index]
    produced = 0
    segments = 0
    large = NO_BUFFER
    for _ in range(len(frame) if tap.open else 0):
        if segments >= SEGMENTS_AT_ONCE:
            break
        if large == NO_BUFFER:
            large = take_large(pool)
            if large == NO_BUFFER:
                counters[Counter.NO_BUFFERS] += uint64(1)
                break
        start = slot_start(large) + HEADROOM
        n = read(int(tap.fd), address_of(heap, start - vnet.BYTES), LARGE_ROOM + vnet.BYTES) - vnet.BYTES
        if n <= 0:
            count_failure(tap, n + vnet.BYTES, counters)
            break
        if not flags & ADMIN_UP:
            counters[Counter.ADMIN_DOWN] += uint64(1)
            continue
        received.packets += uint64(1)
        received.bytes += uint64(n)
        set_received(meta[large], sw_if_index, start, n, 0 if layer3 else L2_VALID)
        read_vnet(heap, start - vnet.BYTES, meta[large])
        b = move_to_small(heap, meta, pool, large) if n <= SMALL_ROOM else large
        if b == large:
            large = NO_BUFFER
        next_node = next_of(heap, meta[b], layer3, flags)
        if next_node == Next.DROP:
            counters[Counter.UNSUPPORTED_VERSION] += uint64(1)
            meta[b].error = error_base + Counter.UNSUPPORTED_VERSION
        segments += segments_of(meta[b])
        frame[produced] = b
        nexts[produced] = next_node
        produced += 1
    if large != NO_BUFFER:
        give_back(pool, large)
    return produced
