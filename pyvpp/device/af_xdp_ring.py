# SPDX-License-Identifier: Apache-2.0
"""The four rings of an AF_XDP socket as kernels see them (linux/if_xdp.h), and which buffers are with Linux.

A ring is an array of entries, a power of two, between a producer and a consumer that count modulo 2**32. `rx` and `tx`
hold descriptors: address u64, length u32, options u32; `fill` and `completion` hold addresses. An address is a heap
offset, since the umem begins where the heap begins; its upper 16 bits are a distance to be added
(XDP_UMEM_UNALIGNED_CHUNK_FLAG).

A buffer that is with Linux says so in its metadata. So what comes back is checked: a descriptor of a buffer that was
not there is believed by nobody, and a socket that is closed leaves none behind.
"""

from pyvpp.buffers import LARGE_BUFFERS, NO_BUFFER, SMALL_SLOT, buffer_at, give_back, slot_start
from pyvpp.jit import inline
from pyvpp.typing import U8, U32, Record, Records
from pyvpp.wire import le32, put_le32

ADDRESS_BYTES = 8
DESCRIPTOR_BYTES = 16
LENGTH, OPTIONS = 8, 12
CONTINUED = 1  # option: the packet goes on in the next descriptor
WITH_METADATA = 2  # option of tx: struct xsk_tx_metadata lies in front of the packet
NEED_WAKEUP = 1  # flag of fill and tx: Linux looks at the ring only when called

CHUNK_BYTES = SMALL_SLOT
DATA_AT = 256  # XDP_PACKET_HEADROOM: where in a chunk Linux begins to write
PIECE_ROOM = CHUNK_BYTES - DATA_AT  # what of a packet one receive descriptor holds
SENT_PIECE = CHUNK_BYTES - 64
"""What of a packet one transmit descriptor names at most. Linux counts the metadata in front of it as part of the chunk
and never completes a descriptor that it finds too long: its buffer would be lost."""

LENT_RX = 1 << 30
"""Flag of a buffer in the fill or receive ring of queue `m.rx`; it has no other."""
LENT_TX = 1 << 31
"""Flag of a packet in the transmit or completion ring of interface `m.tx`, in `m.feature` descriptors."""
NOT_LENT_TX = 0xFFFFFFFF ^ LENT_TX

WRAP = 0xFFFFFFFF


@inline
def entries(producer: int, consumer: int, slots: int) -> int:
    """How many entries wait in a ring; none when the two contradict each other."""
    n = (producer - consumer) & WRAP
    return n if n <= slots else 0


@inline
def entry(ring: int, index: int, slots: int, size: int) -> int:
    """Heap offset of an entry; `slots` is a power of two."""
    return ring + (index & (slots - 1)) * size


@inline
def chunk_of(heap: U8, at: int) -> int:
    """The chunk that the address at `at` names, as it was given to Linux."""
    return int(le32(heap, at) | (le32(heap, at + 4) & 0xFFFF) << 32)


@inline
def data_of(heap: U8, at: int) -> int:
    """The byte that the address at `at` names: the chunk's own and the distance added."""
    return chunk_of(heap, at) + int(le32(heap, at + 4) >> 16)


@inline
def put_address(heap: U8, at: int, offset: int) -> None:
    put_le32(heap, at, offset & WRAP)
    put_le32(heap, at + 4, offset >> 32)


@inline
def put_descriptor(heap: U8, at: int, offset: int, n: int, options: int) -> None:
    put_address(heap, at, offset)
    put_le32(heap, at + LENGTH, n)
    put_le32(heap, at + OPTIONS, options)


@inline
def lend(heap: U8, meta: Records, ring: Record, queue: int, b: int) -> None:
    """Puts a small buffer into a queue's fill ring, for Linux to see with the next store to `fill_producer`.

    There is always room: a queue has as many buffers as the ring has entries, and gets one for each that it gives.
    """
    m = meta[b]
    m.flags = LENT_RX
    m.rx = queue
    at = entry(int(ring.fill_ring), int(ring.fill_next), int(ring.slots), ADDRESS_BYTES)
    put_address(heap, at, slot_start(b))
    ring.fill_next = (int(ring.fill_next) + 1) & WRAP


@inline
def lent_to(heap: U8, meta: Records, at: int, queue: int) -> int:
    """The buffer of a receive descriptor, or NO_BUFFER when it names none that is with Linux for this queue."""
    chunk = chunk_of(heap, at)
    b = buffer_at(chunk)
    if b < LARGE_BUFFERS or b >= len(meta) or chunk != slot_start(b):
        return NO_BUFFER
    m = meta[b]
    return b if int(m.flags) == LENT_RX and int(m.rx) == queue else NO_BUFFER


@inline
def is_inside(heap: U8, at: int, b: int) -> bool:
    """Whether the bytes of a receive descriptor lie in its buffer's slot."""
    return data_of(heap, at) + int(le32(heap, at + LENGTH)) <= slot_start(b) + SMALL_SLOT


@inline
def piece_bytes(start: int, left: int, boundary: int) -> int:
    """How much of a packet of `left` bytes from `start` on one transmit descriptor names.

    At most SENT_PIECE, and nothing beyond the next multiple of `boundary`: behind it the NIC may see other memory.
    """
    return min(left, SENT_PIECE, boundary - start % boundary)


@inline
def pieces_of(start: int, n: int, boundary: int) -> int:
    """How many transmit descriptors a packet takes."""
    count = 0
    while n > 0:
        size = piece_bytes(start, n, boundary)
        start += size
        n -= size
        count += 1
    return count


@inline
def take_back(heap: U8, meta: Records, pool: U32, at: int) -> bool:
    """Frees the packet that a completion names, once all of it has left; False when it names none with Linux."""
    offset = data_of(heap, at)
    b = buffer_at(offset)
    if b == NO_BUFFER or b >= len(meta):
        return False
    m = meta[b]
    if int(m.flags) & LENT_TX == 0:
        return False
    m.feature = int(m.feature) - 1
    if m.feature == 0:
        if m.ref > 1:
            m.ref = int(m.ref) - 1
            m.flags = int(m.flags) & NOT_LENT_TX
        else:
            m.flags = 0
            give_back(pool, b)
    return True
