# SPDX-License-Identifier: Apache-2.0
"""What every input kernel does with a packet it received: find a buffer that holds it and fill in the metadata."""

from numba import int64

from pyvpp.buffers import NO_BUFFER, SMALL_ROOM, take_large, take_small
from pyvpp.jit import inline
from pyvpp.node import FRAME_SIZE
from pyvpp.typing import U32, Record

SEGMENTS_AT_ONCE = FRAME_SIZE
"""What an input takes in a round at most, counted in packets as a wire carries them. 256 GSO packets that a tunnel cuts
into 11,520 segments keep the worker busy for some 20 ms, in which the rings of the other interfaces run over."""


@inline
def segments_of(m: Record) -> int:
    """How many packets this one is, or will be, on a wire."""
    size = int64(m.gso_size) if m.gso_type else int64(0)
    return 1 if size == 0 else (int64(m.len) + size - 1) // size


@inline
def take_for(pool: U32, n: int) -> int:
    """A buffer with room for n bytes, the smallest there is, or NO_BUFFER."""
    b = NO_BUFFER
    if n <= SMALL_ROOM:
        b = take_small(pool)
    if b == NO_BUFFER:
        b = take_large(pool)
    return b


@inline
def set_received(m: Record, sw_if_index: int, cur: int, n: int, flags: int) -> None:
    """Metadata of a fresh packet of n bytes at cur, without GSO or checksum state (`read_vnet` gives that)."""
    m.cur = cur
    m.len = n
    m.flags = flags
    m.l2 = cur
    m.l3 = cur
    m.l4 = cur
    m.rx = sw_if_index
    m.tx = 0
    m.adj = 0
    m.flow_hash = 0
    m.csum_start = 0
    m.csum_offset = 0
    m.gso_size = 0
    m.gso_type = 0
    m.error = 0
    m.ref = 1
    m.feature = 0
    m.trace = 0
