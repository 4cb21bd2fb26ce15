# SPDX-License-Identifier: Apache-2.0
"""af-xdp-input and af-xdp-tx on rings that the test fills in Linux' place: rightly, and with whatever comes to mind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from pyvpp.buffers import (
    BEHIND_SLOTS,
    BUFFER,
    HEADROOM,
    LARGE_BUFFERS,
    LARGE_ROOM,
    POOL_ENTRIES,
    POOL_LARGE,
    POOL_LARGE_START,
    POOL_SMALL,
    SMALL_SLOT,
    SMALL_START,
    slot_start,
)
from pyvpp.device import af_xdp_input, af_xdp_tx
from pyvpp.device.af_xdp import NO_BOUNDARY
from pyvpp.device.af_xdp_ring import CONTINUED, DATA_AT, LENT_RX, LENT_TX, PIECE_ROOM
from pyvpp.device.af_xdp_tables import AF_XDP_INTERFACE, AF_XDP_RX_QUEUE, AF_XDP_TX_QUEUE
from pyvpp.interface import ADMIN_UP, INTERFACE
from pyvpp.node import FREE, HELD
from pyvpp.tables import COUNTER
from tests.pyvpp.device.test_af_xdp_offload import ones_sum

SLOTS, SMALL, LARGE = 64, 160, 4
TOTAL = LARGE_BUFFERS + SMALL
RINGS = SMALL_START + SMALL * SMALL_SLOT + BEHIND_SLOTS
FOREIGN = TOTAL - 1  # a buffer that somebody else has
QUEUE, SW_IF_INDEX = 3, 5
RX, TX = af_xdp_input.Counter, af_xdp_tx.Counter


@dataclass(frozen=True)
class Piece:
    """What a descriptor says; `wrong` makes it another than Linux was given: shifted, foreign, or told twice."""

    length: int
    more: bool
    wrong: str = ""


class Linux:
    """Rings, buffers and tables of one queue; the test plays Linux."""

    def __init__(self) -> None:
        self.heap = np.zeros(RINGS + 16384, np.uint8)
        self.meta: Any = np.zeros(TOTAL, BUFFER)
        self.pool = np.zeros(POOL_ENTRIES + TOTAL + LARGE_BUFFERS, np.uint32)
        self.pool[POOL_LARGE_START] = POOL_ENTRIES + SMALL
        small, large = np.arange(LARGE_BUFFERS, FOREIGN), np.arange(1, 1 + LARGE)
        self.pool[POOL_ENTRIES:][: len(small) - SLOTS], self.pool[POOL_SMALL] = small[SLOTS:], len(small) - SLOTS
        self.pool[POOL_ENTRIES + SMALL :][:LARGE], self.pool[POOL_LARGE] = large, LARGE
        self.rx_queues: Any = np.zeros(8, AF_XDP_RX_QUEUE)
        self.tx_queues: Any = np.zeros(8, AF_XDP_TX_QUEUE)
        self.of_interface: Any = np.zeros(8, AF_XDP_INTERFACE)
        self.interfaces: Any = np.zeros(8, INTERFACE)
        self.interfaces[SW_IF_INDEX]["flags"], self.interfaces[SW_IF_INDEX]["mtu"] = ADMIN_UP, 9000
        self.received, self.drops, self.counters = np.zeros(8, COUNTER), np.zeros(8, np.uint64), np.zeros(8, np.uint64)
        row = self.rx_queues[QUEUE]
        words = ("rx_producer", "rx_consumer", "fill_producer", "fill_flags")
        for k, name in enumerate(words):
            row[name] = RINGS + 64 * k
        row["rx_ring"], row["fill_ring"], row["slots"], row["sw_if_index"] = (
            RINGS + 512,
            RINGS + 2048,
            SLOTS,
            SW_IF_INDEX,
        )
        row["fd"], row["fill_next"] = -1, SLOTS
        row = self.tx_queues[QUEUE]
        words = ("tx_producer", "tx_consumer", "tx_flags", "completion_producer", "completion_consumer")
        for k, name in enumerate(words):
            row[name] = RINGS + 4096 + 64 * k
        row["tx_ring"], row["completion_ring"] = RINGS + 4608, RINGS + 8192
        row["slots"], row["boundary"], row["fd"], row["send_fd"] = SLOTS, NO_BOUNDARY, -1, -1
        self.of_interface[SW_IF_INDEX]["first"], self.of_interface[SW_IF_INDEX]["queues"] = QUEUE, 1
        for b in range(LARGE_BUFFERS, LARGE_BUFFERS + SLOTS):
            self.meta[b]["flags"], self.meta[b]["rx"] = LENT_RX, QUEUE
        self.has = [slot_start(b) for b in range(LARGE_BUFFERS, LARGE_BUFFERS + SLOTS)]
        self.taken = SLOTS
        self.at = 0

    def word(self, offset: int) -> Any:
        return self.heap[offset : offset + 4].view(np.uint32)

    def refill(self) -> None:
        """Takes what was put into the fill ring."""
        row = self.rx_queues[QUEUE]
        produced = int(self.word(int(row["fill_producer"]))[0])
        ring = self.heap[int(row["fill_ring"]) :][: 8 * SLOTS].view(np.uint64)
        while self.taken < produced:
            self.has.append(int(ring[self.taken % SLOTS]))
            self.taken += 1

    def put(self, piece: Piece, fill: int) -> bytes:
        """Writes a descriptor and the bytes it names."""
        chunk, distance = self.has.pop(0), DATA_AT
        data = bytes((fill + k) & 0xFF for k in range(piece.length))
        self.heap[chunk + distance : chunk + distance + len(data)] = np.frombuffer(data, np.uint8)
        if piece.wrong == "shifted":
            chunk += 8
        elif piece.wrong == "foreign":
            chunk = slot_start(FOREIGN)
        elif piece.wrong == "outside":
            distance = SMALL_SLOT + 1
        elif piece.wrong == "far":
            chunk, distance = (1 << 48) - 4096, 0xFFFF
        at = int(self.rx_queues[QUEUE]["rx_ring"]) + self.at % SLOTS * 16
        self.heap[at : at + 8].view(np.uint64)[0] = chunk | distance << 48
        self.heap[at + 8 : at + 16].view(np.uint32)[:] = piece.length, CONTINUED if piece.more else 0
        self.at += 1
        return data

    def receive(self) -> list[int]:
        row = self.rx_queues[QUEUE]
        self.word(int(row["rx_producer"]))[0] = self.at
        frame, nexts = np.zeros(256, np.uint32), np.zeros(256, np.uint16)
        n = af_xdp_input.af_xdp_input(
            self.heap, self.meta, frame, nexts, self.counters, self.pool, QUEUE, 100, self.interfaces, self.received,
            self.drops, self.rx_queues,
        )  # fmt: skip
        assert int(self.word(int(row["rx_consumer"]))[0]) == self.at
        self.refill()
        self.nexts = [int(each) for each in nexts[:n]]
        return [int(b) for b in frame[:n]]

    def send(self, buffers: list[int]) -> list[int]:
        frame, nexts = np.array(buffers, np.uint32), np.zeros(len(buffers), np.uint16)
        for b in buffers:
            self.meta[b]["tx"] = SW_IF_INDEX
        af_xdp_tx.af_xdp_tx(
            self.heap, self.meta, frame, nexts, self.counters, self.pool, SW_IF_INDEX, 0, 100, self.interfaces,
            self.drops, self.of_interface, self.tx_queues,
        )  # fmt: skip
        return list(map(int, nexts))

    def free(self) -> set[int]:
        small, large, start = (int(self.pool[k]) for k in (POOL_SMALL, POOL_LARGE, POOL_LARGE_START))
        found = [*map(int, self.pool[POOL_ENTRIES:][:small]), *map(int, self.pool[start:][:large])]
        assert len(found) == len(set(found)), "a buffer is free twice"
        return set(found)


WRONG = st.sampled_from(["", "", "", "shifted", "foreign", "outside", "far"])
PACKETS = st.lists(
    st.lists(st.tuples(st.sampled_from([0, 13, 14, 60, 1500, PIECE_ROOM]), WRONG), min_size=1, max_size=5), max_size=10
)


@given(st.lists(PACKETS, min_size=1, max_size=3), st.booleans())
def test_each_packet_arrives_or_is_counted_and_no_buffer_is_lost(rounds: list[Any], up: bool) -> None:
    linux = Linux()
    linux.interfaces[SW_IF_INDEX]["flags"] = ADMIN_UP if up else 0
    linux.counters[:] = 0
    missing = (
        0  # buffers whose descriptor was not believed: Linux has them no more, the interface's deletion finds them
    )
    for packets in rounds:
        expected = []
        count = 0
        for number, lengths in enumerate(packets):
            if len(lengths) > len(linux.has):
                break
            count += 1
            lost = sum(wrong in ("shifted", "foreign", "far") for _, wrong in lengths)
            data = b""
            for k, (length, wrong) in enumerate(lengths):
                data += linux.put(Piece(length, k + 1 < len(lengths), wrong), number)
            missing += lost
            if up and not any(wrong for _, wrong in lengths) and 14 <= len(data) <= LARGE_ROOM:
                expected.append((data, len(lengths) > 1))
        large = int(linux.pool[POOL_LARGE])
        before = linux.counters.copy(), linux.drops.copy(), int(linux.received["packets"][SW_IF_INDEX])
        frame = linux.receive()
        kept = [data for k, (data, many) in enumerate(expected) if not many or sum(m for _, m in expected[:k]) < large]
        got = [linux.heap[int(m["cur"]) : int(m["cur"]) + int(m["len"])].tobytes() for m in linux.meta[frame]]
        assert got == kept
        gained = linux.counters - before[0]
        if up:
            assert int(linux.received["packets"][SW_IF_INDEX]) - before[2] == count
            assert int((linux.drops - before[1])[SW_IF_INDEX]) == count - len(got)
        else:
            assert int(gained[RX.ADMIN_DOWN]) == count and not got
        free = linux.free()
        assert len(linux.has) == SLOTS - missing
        assert not free & {LARGE_BUFFERS + (chunk - SMALL_START) // SMALL_SLOT for chunk in linux.has}
        assert len(free) + len(linux.has) + len(frame) + missing == SMALL - 1 + LARGE
        for b in frame:
            give_back(linux, b)


def give_back(linux: Linux, b: int) -> None:
    """What the dispatcher does with a packet that is done."""
    linux.meta[b]["flags"] = 0
    word, start = (POOL_LARGE, int(linux.pool[POOL_LARGE_START])) if b < LARGE_BUFFERS else (POOL_SMALL, POOL_ENTRIES)
    linux.pool[start + int(linux.pool[word])] = b
    linux.pool[word] += 1


def test_without_free_buffers_linux_keeps_its_own() -> None:
    linux = Linux()
    linux.pool[POOL_SMALL] = linux.pool[POOL_LARGE] = 0
    for length in (60, 1500):
        linux.put(Piece(length, False), 1)
    linux.put(Piece(PIECE_ROOM, True), 1)
    linux.put(Piece(100, False), 1)
    assert linux.receive() == []
    assert int(linux.counters[RX.NO_BUFFERS]) == int(linux.drops[SW_IF_INDEX]) == 3
    assert len(linux.has) == SLOTS


def test_a_packet_whose_end_is_not_there_yet_waits() -> None:
    linux = Linux()
    first = linux.put(Piece(PIECE_ROOM, True), 1)
    row = linux.rx_queues[QUEUE]
    linux.word(int(row["rx_producer"]))[0] = linux.at
    frame, nexts = np.zeros(256, np.uint32), np.zeros(256, np.uint16)
    arguments = (
        linux.heap, linux.meta, frame, nexts, linux.counters, linux.pool, QUEUE, 100, linux.interfaces, linux.received,
        linux.drops, linux.rx_queues,
    )  # fmt: skip
    assert af_xdp_input.af_xdp_input(*arguments) == 0
    assert int(linux.word(int(row["rx_consumer"]))[0]) == 0
    last = linux.put(Piece(7, False), 9)
    (b,) = linux.receive()
    m = linux.meta[b]
    assert linux.heap[int(m["cur"]) : int(m["cur"]) + int(m["len"])].tobytes() == first + last


def test_datagrams_that_nothing_says_where_to_cut_are_dropped() -> None:
    """The checksum field of a packet to be finished holds the pseudo header's sum; two tags more than the MTU may be."""
    linux, mtu = Linux(), 1500
    linux.interfaces[SW_IF_INDEX]["mtu"] = mtu
    sent = []
    for protocol, length, finished in (
        (17, mtu + 9, False), (17, mtu + 8, False), (17, mtu + 9, True), (6, mtu + 9, False),
    ):  # fmt: skip
        layer4, offset = (UDP(len=length - 20), 6) if protocol == 17 else (TCP(), 16)
        frame = bytearray(bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2", len=length, proto=protocol) / layer4))
        frame += bytes(14 + length - len(frame))
        pseudo = bytes((10, 0, 0, 1, 10, 0, 0, 2, 0, protocol)) + (length - 20).to_bytes(2, "big")
        field = ones_sum(pseudo) ^ (0x1234 if finished else 0)
        frame[34 + offset : 36 + offset] = field.to_bytes(2, "big")
        chunk = linux.has[0]
        linux.put(Piece(len(frame), False), 0)
        linux.heap[chunk + DATA_AT : chunk + DATA_AT + len(frame)] = np.frombuffer(bytes(frame), np.uint8)
        sent.append(frame)
    buffers = linux.receive()
    assert linux.nexts == [af_xdp_input.Next.DROP, *[af_xdp_input.Next.ETHERNET] * 3]
    assert int(linux.counters[RX.UNCUTTABLE]) == 1
    assert [int(linux.meta[b]["error"]) for b in buffers] == [100 + RX.UNCUTTABLE, 0, 0, 0]
    assert [int(linux.meta[b]["gso_type"]) != 0 for b in buffers] == [False, False, False, True]
    assert [int(linux.meta[b]["len"]) for b in buffers] == [len(frame) for frame in sent]


def packet(linux: Linux, n: int) -> int:
    """A packet of n bytes in a buffer of the pool."""
    word, start = (POOL_SMALL, POOL_ENTRIES) if n <= SMALL_SLOT - HEADROOM else (POOL_LARGE, POOL_ENTRIES + SMALL)
    linux.pool[word] -= 1
    b = int(linux.pool[start + int(linux.pool[word])])
    m = linux.meta[b]
    m["cur"], m["len"], m["ref"], m["flags"] = slot_start(b) + HEADROOM, n, 1, 0
    return b


@given(st.lists(st.sampled_from([13, 14, 60, 1500, 2112, 9000, 9018, 9019]), min_size=1, max_size=4), st.data())
def test_what_is_sent_is_held_until_linux_says_it_has_left(sizes: list[int], data: st.DataObject) -> None:
    linux = Linux()
    before = linux.free()
    buffers = [packet(linux, n) for n in sizes]
    nexts = linux.send(buffers)
    held = [b for b, n in zip(buffers, sizes) if 14 <= n <= 9018]
    assert nexts == [HELD if b in held else FREE for b in buffers]
    assert int(linux.counters[TX.BAD_LENGTH]) == int(linux.drops[SW_IF_INDEX]) == len(buffers) - len(held)
    row = linux.tx_queues[QUEUE]
    sent = int(linux.word(int(row["tx_producer"]))[0])
    ring = linux.heap[int(row["tx_ring"]) :][: 16 * SLOTS].view(np.uint64).reshape(-1, 2)[:sent]
    at = 0
    for b in held:
        m, left = linux.meta[b], int(linux.meta[b]["len"])
        assert int(m["flags"]) & LENT_TX
        start = int(m["cur"])
        while left:
            n = min(left, SMALL_SLOT - 64)
            more = CONTINUED if left > n else 0
            assert (int(ring[at, 0]), int(ring[at, 1])) == (start, n | more << 32)
            at, start, left = at + 1, start + n, left - n
    assert at == sent
    order = data.draw(st.permutations(range(sent)))  # packets leave in any order
    done = linux.heap[int(row["completion_ring"]) :][: 8 * SLOTS].view(np.uint64)
    done[:sent] = [ring[k, 0] for k in order]
    linux.word(int(row["tx_consumer"]))[0] = linux.word(int(row["completion_producer"]))[0] = sent
    for b in set(buffers) - set(held):
        give_back(linux, b)
    assert linux.send([]) == []
    assert linux.free() == before
    assert not int(linux.counters[TX.BAD_COMPLETION])
    linux.word(int(row["completion_producer"]))[0] = sent + 1
    done[sent] = slot_start(FOREIGN)
    linux.send([])
    assert int(linux.counters[TX.BAD_COMPLETION]) == 1 and linux.free() == before


def test_a_full_ring_drops_and_counts() -> None:
    linux = Linux()
    buffers = [packet(linux, 60) for _ in range(SLOTS + 2)]
    assert linux.send(buffers) == [HELD] * SLOTS + [FREE] * 2
    assert int(linux.counters[TX.RING_FULL]) == int(linux.drops[SW_IF_INDEX]) == 2
