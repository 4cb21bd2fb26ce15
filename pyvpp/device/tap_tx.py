# SPDX-License-Identifier: Apache-2.0
"""tap-tx: write packets into a TAP or TUN, for Linux to receive.

One system call a packet, straight from the buffer; the virtio_net_hdr is written into the headroom in front of it,
so that Linux finishes checksums and segments where somebody needs it. A packet Linux does not take is lost, and
counted by the reason.
"""

from numba import uint64

from pyvpp.device import vnet
from pyvpp.device.syscalls import EAGAIN, EBADFD, EIO, address_of, write
from pyvpp.device.trace import format_tap_tx
from pyvpp.device.vnet import write_vnet
from pyvpp.jit import inline, jit
from pyvpp.node import FREE, NodeCounter, node
from pyvpp.typing import U8, U16, U32, U64, Record, Records


class Counter(NodeCounter):
    QUEUE_FULL = 0, "tx queue full"
    LINK_DOWN = 1, "link is down"
    WRITE_FAILED = 2, "write failed"


@inline
def write_packet(heap: U8, fd: int, m: Record) -> int:
    """Zero, or minus errno."""
    start = int(m.cur) - vnet.BYTES
    write_vnet(heap, start, m, 0)
    return min(write(fd, address_of(heap, start), int(m.len) + vnet.BYTES), 0)


@inline
def reason(result: int) -> int:
    """Linux answers EIO while the interface is down (tun_get_user), EBADFD when it is gone."""
    if result == -EAGAIN:
        return Counter.QUEUE_FULL.value
    if result == -EIO or result == -EBADFD:
        return Counter.LINK_DOWN.value
    return Counter.WRITE_FAILED.value


@node(name="tap-tx", next={}, counters=Counter, template=True, trace=format_tap_tx)
@jit
def tap_tx(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    instance: int,
    error_base: int,
    interface_drops: U64,
    tap_tx_queues: Records,
) -> None:
    fd = int(tap_tx_queues[instance].fd)
    for i, b in enumerate(frame):
        m = meta[b]
        nexts[i] = FREE
        result = write_packet(heap, fd, m)
        if result < 0:
            error = reason(result)
            counters[error] += uint64(1)
            interface_drops[instance] += uint64(1)
            m.error = error_base + error
