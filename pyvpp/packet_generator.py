# SPDX-License-Identifier: Apache-2.0
"""The packet generator: interfaces pgN, streams of prebuilt packets that arrive on them, capture of what leaves them.

Its nodes are pg-input, pg-tx and pg-capture in `pyvpp.device`; its commands are in `pyvpp.packet_generator_cli`.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyvpp import pcap
from pyvpp.buffers import BUFFER, L2_VALID, LARGE_ROOM
from pyvpp.device.pg_input import PG_STREAM, STATE_STREAMS
from pyvpp.errors import OperatorError
from pyvpp.interface import P2P, Interface
from pyvpp.node import FRAME_SIZE
from pyvpp.wire import LINE

RAW_IP = 12  # pcap's link type, as VPP writes it


@dataclass(eq=False)
class Stream:
    """Packets that arrive on an interface one after another, again from the first after the last."""

    name: str
    packets: Sequence[bytes]
    interface: Interface
    node: str = "ethernet-input"
    limit: int = 0
    rate: float = 0.0
    """packets a second; 0: as many as possible"""
    frame: int = FRAME_SIZE
    worker: int = 0
    size: tuple[int, str, int] = (64, "-", 64)
    """as the operator wrote it, for `show packet-generator`"""


class Capture:
    """A pcap file that grows by each packet at once."""

    def __init__(self, path: str, link_type: int) -> None:
        self.path = path
        self.packets = 0
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115  (it stays open until `close`)
        self._file.write(pcap.file_header(link_type))

    def __call__(self, data: bytes) -> None:
        self._file.write(pcap.packet_record(time.time_ns(), data, len(data)))
        self.packets += 1

    def close(self) -> None:
        self._file.close()


@dataclass
class Sink:
    """Who takes the packets sent out of an interface, and how many more; -1: all."""

    take: Callable[[bytes], None]
    left: int

    def close(self) -> None:
        if isinstance(self.take, Capture):
            self.take.close()


class PacketGenerator:
    """The generator of an engine; `generator_of(engine)` finds it. Each stream runs on one worker."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.streams: dict[str, Stream] = {}
        self._sinks: dict[int, Sink] = {}
        engine.every_second(self.refresh)
        engine.events.on("interface-deleted", self._interface_deleted)
        engine.on_close.append(self._close)

    def create_interface(self, name: str, mac: bytes | None = None, bare_ip: bool = False) -> Interface:
        """An interface that exists only for the generator; with `bare_ip` it carries IP packets without Ethernet."""
        if mac is not None and (len(mac) != 6 or mac[0] & 1 or not any(mac)):
            raise OperatorError(f"mac address {mac.hex(':')}: must be a unicast address of 6 bytes")
        address = bytes(6) if bare_ip else mac or b"\x02\xfe" + os.urandom(4)
        made: Interface = self._engine.interfaces.create(
            name,
            kind="pg",
            mac=address,
            flags=P2P if bare_ip else 0,
            admin_up=False,
            output="interface-output",
            tx="pg-tx",
        )
        return made

    # ---- streams ----------------------------------------------------------------------------------------------------
    def add(self, stream: Stream) -> None:
        """Defines a stream, disabled. Raises OperatorError."""
        if stream.name in self.streams:
            raise OperatorError(f"stream {stream.name} exists already")
        if self._engine.graph.find(stream.node) is None:
            raise OperatorError(f"unknown node `{stream.node}'")
        if not stream.packets:
            raise OperatorError(f"stream {stream.name}: no packet data given")
        if not 0 < stream.frame <= FRAME_SIZE:
            raise OperatorError(f"maxframe {stream.frame}: must be from 1 to {FRAME_SIZE}")
        if not 0 <= stream.worker < len(self._engine.workers):
            raise OperatorError(f"worker {stream.worker}: must be from 0 to {len(self._engine.workers) - 1}")
        if not all(0 < len(packet) <= LARGE_ROOM for packet in stream.packets):
            raise OperatorError(f"stream {stream.name}: packets must have from 1 to {LARGE_ROOM} bytes")
        self._rebuild([*self.streams.values(), stream])

    def delete(self, name: str) -> None:
        self._stream(name)
        self._rebuild([stream for stream in self.streams.values() if stream.name != name])

    def set_enabled(self, name: str | None, enabled: bool) -> None:
        """One stream, or all. An enabled stream counts to its limit anew."""
        chosen = list(self.streams.values()) if name is None else [self._stream(name)]
        with self._engine.barrier():
            for stream in chosen:
                row = self._row(stream)
                if enabled and not row["enabled"]:
                    row["sent"], row["credit"], row["last"], row["position"] = 0, 0.0, -1, 0
                    row["source"] = row["data"]
                row["enabled"] = enabled
        self.refresh()

    def sent(self, stream: Stream) -> int:
        return int(self._row(stream)["sent"])

    def enabled(self, stream: Stream) -> bool:
        return bool(self._row(stream)["enabled"])

    def refresh(self) -> None:
        """A worker asks pg-input as long as a stream of its is enabled, and may sleep again after the last's limit."""
        index = self._engine.graph.index_of("pg-input")
        busy = {stream.worker for stream in self.streams.values() if self.enabled(stream)}
        for worker in self._engine.workers:
            wanted = 2 if worker.index in busy else 0
            if int(worker.rows[index]["polled"]) != wanted:
                worker.rows["polled"][index] = wanted
                self._engine.set_inputs()
                worker.wake()

    def _stream(self, name: str) -> Stream:
        if name not in self.streams:
            raise OperatorError(f"stream `{name}' does not exist")
        return self.streams[name]

    def _row(self, stream: Stream) -> Any:
        position = list(self.streams).index(stream.name)
        return self._engine.tables["pg_streams"].worker(stream.worker)[position]

    def _rebuild(self, streams: list[Stream]) -> None:
        """Lays the streams' packets out anew; those that were there keep their counts.

        Streams made of the same list share it in memory, so that several workers do not push each other's out of L3.
        """
        tables = self._engine.tables
        rows = np.zeros(len(streams), PG_STREAM)
        lists = {id(stream.packets): stream.packets for stream in streams}
        everything = [packet for each in lists.values() for packet in each]
        firsts = dict(zip(lists, np.cumsum([0, *map(len, lists.values())]).tolist(), strict=False))
        lengths = np.array([len(packet) for packet in everything], np.int64)
        padded = -(-lengths // LINE) * LINE
        starts = np.cumsum(padded) - padded
        data = np.frombuffer(b"".join(packet + bytes(-len(packet) % LINE) for packet in everything), np.uint8)
        metadata = np.zeros(len(streams), BUFFER)
        metadata["rx"] = [stream.interface.sw_if_index for stream in streams]
        metadata["flags"] = [L2_VALID if stream.node == "ethernet-input" else 0 for stream in streams]
        metadata["adj"] = range(len(streams))  # for the trace: the stream's number
        metadata["ref"] = 1
        with self._engine.barrier():
            for at, stream in enumerate(streams):
                if stream.name in self.streams:
                    rows[at] = self._row(stream)
                else:
                    self._define(rows[at], stream)
                first = firsts[id(stream.packets)]
                rows["first"][at], rows["variations"][at] = first, len(stream.packets)
                rows["data"][at], rows["source"][at] = starts[first], starts[first + rows["position"][at]]
            for name, array in (("pg_metadata", metadata), ("pg_lengths", lengths), ("pg_data", data)):
                tables[name].grow(len(array))
                tables[name].array[: len(array)] = array
            tables["pg_streams"].grow(len(rows))
            for worker in self._engine.workers:
                others = np.array([stream.worker != worker.index for stream in streams], bool)
                mine = tables["pg_streams"].worker(worker.index)[: len(rows)]
                mine[:] = rows
                mine["enabled"][others] = 0
                tables["pg_state"].worker(worker.index)[STATE_STREAMS] = len(streams)
        self.streams = {stream.name: stream for stream in streams}
        self.refresh()

    def _define(self, row: Any, stream: Stream) -> None:
        pps = stream.rate
        row["last"], row["rate"], row["burst"] = -1, pps / 1e9, max(float(stream.frame), pps)
        row["interface"], row["frame"], row["limit"] = stream.interface.sw_if_index, stream.frame, stream.limit
        row["next"] = self._engine.graph.to_node(stream.node)
        row["largest"] = max(map(len, stream.packets))

    # ---- capture ----------------------------------------------------------------------------------------------------
    def capture(self, interface: Interface, sink: Callable[[bytes], None], count: int = 0) -> None:
        """Hands packets sent out of the interface to `sink` on the main thread: `count` of them, or all with 0."""
        _check(interface)
        self.stop_capture(interface)
        self._sinks[interface.sw_if_index] = Sink(sink, count or -1)
        self._hand_over(interface, count or -1)

    def capture_file(self, interface: Interface, path: str, count: int = 0) -> None:
        """Writes them into a pcap file. Raises OSError."""
        _check(interface)
        self.capture(interface, Capture(path, RAW_IP if interface.p2p else pcap.ETHERNET), count)

    def stop_capture(self, interface: Interface) -> None:
        sink = self._sinks.pop(interface.sw_if_index, None)
        if sink:
            self._hand_over(interface, 0)
            sink.close()

    def _hand_over(self, interface: Interface, count: int) -> None:
        """So many packets from every worker: the first of all are among them. Workers count down, so they stop."""
        with self._engine.barrier():
            for wanted in self._engine.tables["pg_capture"].arrays:
                wanted[interface.sw_if_index] = count

    def captured(self, sw_if_index: int, data: bytes) -> None:
        """A packet from pg-capture."""
        sink = self._sinks.get(sw_if_index)
        if sink and sink.left:
            sink.left -= sink.left > 0
            sink.take(data)

    def _interface_deleted(self, interface: Interface, *_: Any) -> None:
        if interface.kind == "pg":
            self.stop_capture(interface)
        rest = [stream for stream in self.streams.values() if stream.interface is not interface]
        if len(rest) < len(self.streams):
            self._rebuild(rest)

    def _close(self) -> None:
        for sink in self._sinks.values():
            sink.close()
        self._sinks.clear()


def first_node(interface: Interface, packet: bytes) -> str:
    """Where such a packet goes from pg-input when nobody says otherwise."""
    if not interface.p2p:
        return "ethernet-input"
    return "ip6-input" if packet[:1] and packet[0] >> 4 == 6 else "ip4-input"


def _check(interface: Interface) -> None:
    if interface.kind != "pg":
        raise OperatorError(f"{interface.name} is no packet generator interface")


def generator_of(engine: Any) -> PacketGenerator:
    """The engine's packet generator, made with the first question for it."""
    if getattr(engine.stack, "packet_generator", None) is None:
        engine.stack.packet_generator = PacketGenerator(engine)
    found: PacketGenerator = engine.stack.packet_generator
    return found
