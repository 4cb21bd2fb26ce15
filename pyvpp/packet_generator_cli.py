# SPDX-License-Identifier: Apache-2.0
"""Commands of the packet generator, in VPP's words, and the language of a stream's `data`."""

import math
import random
import re
import struct
from collections.abc import Callable
from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp.node import FRAME_SIZE
from pyvpp.packet_generator import Stream, first_node, generator_of

VARIATIONS = 65536  # a stream has at most so many packets that differ
RANDOM_VARIATIONS = 1024
ETHERTYPES = {"IP4": 0x0800, "ARP": 0x0806, "IP6": 0x86DD}
PROTOCOLS = {"ICMP": 1, "IP_IN_IP": 4, "TCP": 6, "UDP": 17}
ETHERNET_BYTES, IP4_BYTES, IP6_BYTES, MAX_PACKET = 14, 20, 40, 65535
_VPP_MAC = re.compile(r"[0-9a-fA-F]{1,4}(?:\.[0-9a-fA-F]{1,4}){2}")


class Values:
    """A field of a packet: one value, `low - high` in turn, or `low + high` at random."""

    def __init__(self, low: int, sign: str = "-", high: int | None = None) -> None:
        self.low, self.sign, self.high = low, sign, low if high is None else high
        self.count = self.high - self.low + 1

    def at(self, i: int, random_: random.Random) -> int:
        return random_.randint(self.low, self.high) if self.sign == "+" else self.low + i % self.count


def values(args: Arguments, read: Callable[[], int]) -> Values:
    low = read()
    if args.peek() not in ("-", "+"):
        return Values(low)
    sign = args.word()
    high = read()
    if high < low:
        raise CommandError(f"the range ends before it begins: {low} {sign} {high}")
    return Values(low, sign, high)


def read_mac(args: Arguments) -> int:
    """Also in VPP's short form 1.2.3, three numbers of 16 bits."""
    if _VPP_MAC.fullmatch(args.peek() or ""):
        return int("".join(part.zfill(4) for part in args.word().split(".")), 16)
    return int.from_bytes(args.mac(), "big")


def read_size(args: Arguments) -> Values:
    word = args.word("a size such as 64-64 or 64+1500")
    found = re.fullmatch(r"([0-9]{1,6})(?:([-+])([0-9]{1,6}))?", word)
    if not found:
        raise CommandError(f"invalid size `{word}' (expected such as 64-64, 64+1500)")
    low, high = int(found[1]), int(found[3] or found[1])
    if not 1 <= low <= high <= MAX_PACKET:
        raise CommandError(f"invalid size `{word}' (expected from 1 to {MAX_PACKET}, the smaller first)")
    return Values(low, found[2] or "-", high)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class PacketData:
    """What stands in `data { ... }`: headers, then a payload. Built from the inside out, so that lengths fit."""

    def __init__(self, args: Arguments) -> None:
        self.macs: tuple[Values, Values] | None = None
        self.ethertype = 0
        self.addresses: tuple[Values, Values] | None = None
        self.version = 0  # of IP, as the first address says
        self.protocol = 0
        self.ttl = 64
        self.ports: tuple[Values, Values] | None = None
        self.literal = b""
        self.incrementing = 0
        self.length: int | None = None
        while args:
            self._read(args)

    def _read(self, args: Arguments) -> None:
        word = args.word()
        kind = word.removesuffix(":").upper()
        if word == "hex":
            self.literal += _hex(args.word("hexadecimal digits"))
        elif word == "incrementing":
            self.incrementing = args.unsigned(max=MAX_PACKET, what="bytes")
        elif word == "length":
            self.length = args.unsigned(max=MAX_PACKET, what="a length")
        elif word == "ttl":
            self.ttl = args.unsigned(max=255, what="a ttl")
        elif kind in ETHERTYPES and self.macs is None and self.addresses is None:
            self.ethertype = ETHERTYPES[kind]
            self.macs = _pair(args, lambda: read_mac(args))
        elif kind in PROTOCOLS and self.addresses is None:
            self.protocol = PROTOCOLS[kind]
            self.addresses = _pair(args, lambda: self._address(args))
        elif kind in ("UDP", "TCP") and self.ports is None:
            if self.protocol != PROTOCOLS[kind]:
                raise CommandError(f"{kind} ports in a packet of another protocol")
            self.ports = _pair(args, lambda: args.unsigned(max=0xFFFF, what="a port"))
        else:
            known = ("IP4:", "IP6:", "UDP:", "TCP:", "ICMP:", "hex", "incrementing", "length", "ttl")
            raise CommandError(f"unknown input `{word}' (expected {', '.join(known)})")

    def _address(self, args: Arguments) -> int:
        address = args.ip() if self.version == 0 else args.ip4() if self.version == 4 else args.ip6()
        self.version = address.version
        return int(address)

    @property
    def fields(self) -> list[Values]:
        return [value for pair in (self.macs, self.addresses, self.ports) if pair for value in pair]

    def packet(self, i: int, size: int, random_: random.Random) -> bytes:
        """The i-th variation; a payload that is too short for `size` is padded by counting bytes."""
        l4 = b""
        if self.ports:
            source, destination = (value.at(i, random_) for value in self.ports)
            l4 = struct.pack("!HH", source, destination) + bytes(4 if self.protocol == PROTOCOLS["UDP"] else 16)
        headers = self.headers + len(l4)
        payload = self.literal + bytes(k & 0xFF for k in range(self.incrementing))
        room = max(size - headers, 0)
        payload = (payload + bytes(k & 0xFF for k in range(max(room - len(payload), 0))))[: max(room, 0)]
        data = l4 + payload
        if self.addresses:
            width = 4 if self.version == 4 else 16
            addresses = b"".join(value.at(i, random_).to_bytes(width, "big") for value in self.addresses)
            data = self._l4(data, addresses)
            data = (self._ip4 if self.version == 4 else self._ip6)(addresses, len(data)) + data
        if self.macs:
            macs = [value.at(i, random_).to_bytes(6, "big") for value in self.macs]
            data = macs[1] + macs[0] + self.ethertype.to_bytes(2, "big") + data
        return data

    def _ip4(self, addresses: bytes, payload: int) -> bytes:
        length = IP4_BYTES + payload if self.length is None else self.length
        head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, self.ttl, self.protocol, 0) + addresses
        return head[:10] + checksum(head).to_bytes(2, "big") + head[12:]

    def _ip6(self, addresses: bytes, payload: int) -> bytes:
        length = payload if self.length is None else self.length
        return struct.pack("!IHBB", 6 << 28, length, self.protocol, self.ttl) + addresses

    @property
    def headers(self) -> int:
        """Bytes of Ethernet and IP."""
        ip = {0: 0, 4: IP4_BYTES, 6: IP6_BYTES}[self.version]
        return (ETHERNET_BYTES if self.macs else 0) + ip

    def _l4(self, data: bytes, addresses: bytes) -> bytes:
        """Lengths and checksums of UDP and TCP."""
        pseudo = addresses + struct.pack("!HH", self.protocol, len(data))
        if self.ports and self.protocol == PROTOCOLS["UDP"]:
            data = data[:4] + len(data).to_bytes(2, "big") + bytes(2) + data[8:]
            return data[:6] + (checksum(pseudo + data) or 0xFFFF).to_bytes(2, "big") + data[8:]
        if self.ports:
            data = data[:12] + b"\x50\x10\xff\xff" + data[16:]
            return data[:16] + checksum(pseudo + data).to_bytes(2, "big") + data[18:]
        return data

    def packets(self, size: Values | None) -> list[bytes]:
        """All variations: as many as the ranges have in common, then it starts again."""
        fields = [*self.fields, *([size] if size else [])]
        n = math.lcm(*(value.count for value in fields if value.sign == "-"), 1)
        if any(value.sign == "+" for value in fields):
            n = max(n, RANDOM_VARIATIONS)
        random_ = random.Random(1)
        own = self.size
        return [self.packet(i, size.at(i, random_) if size else own, random_) for i in range(min(n, VARIATIONS))]

    @property
    def size(self) -> int:
        """Without `size` in the command: headers and payload as given."""
        l4 = 0 if not self.ports else 8 if self.protocol == PROTOCOLS["UDP"] else 20
        return self.headers + l4 + len(self.literal) + self.incrementing


def _hex(word: str) -> bytes:
    digits = word.removeprefix("0x")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise CommandError(f"invalid hex data `{word}' (expected pairs of hexadecimal digits)") from None


def _pair(args: Arguments, read: Callable[[], int]) -> tuple[Values, Values]:
    """`source -> destination`, in the order they are written."""
    source = values(args, read)
    args.expect("->")
    return source, values(args, read)


@command(
    "create packet-generator interface",
    help="create packet-generator interface <interface name> [hw-addr <addr>] [mode ethernet|ip4|ip6]",
)
def create_interface(engine: Any, args: Arguments) -> str:
    """Creates an interface for the packet generator: streams arrive on it, what is sent out of it ends there. It is
    down until `set interface state`."""
    name = args.word("an interface name")
    if not re.fullmatch(r"pg[0-9]{1,5}", name):
        raise CommandError(f"invalid interface name `{name}' (expected pg0, pg1, ...)")
    mac, mode = None, "ethernet"
    while args:
        if args.accept("hw-addr"):
            mac = args.mac()
        elif args.accept("mode"):
            mode = args.choice("ethernet", "ip4", "ip6", what="mode")
        else:
            raise args.unknown("hw-addr", "mode")
    return generator_of(engine).create_interface(name, mac, bare_ip=mode != "ethernet").name


@command(
    "packet-generator new",
    help="packet-generator new { name NAME [limit N] [rate PPS] [size A-B|A+B] [node NODE] interface INTERFACE"
    " [maxframe N] [worker N] data { IP4: MAC -> MAC UDP: ADDRESS -> ADDRESS UDP: PORT -> PORT [length N] [ttl N]"
    " [incrementing N] [hex 0xDIGITS] } }",
)
def new(engine: Any, args: Arguments) -> None:
    """Defines a stream, which waits for `packet-generator enable-stream`. Addresses and ports may be a range: `A - B`
    goes through it, `A + B` draws from it at random. The same for `size A-B` and `size A+B`. Without `rate` packets
    are made as fast as possible, without `limit` for ever, by the first worker unless another is named."""
    inner = args.block()
    args.end()
    name, limit, rate, size, node, interface, frame, data = "", 0, 0.0, None, None, None, FRAME_SIZE, None
    worker = 0
    while inner:
        if inner.accept("name"):
            name = inner.word("a name")
        elif inner.accept("limit"):
            limit = int(inner.number(what="a number of packets"))
        elif inner.accept("rate"):
            rate = inner.number(what="packets a second")
        elif inner.accept("size"):
            size = read_size(inner)
        elif inner.accept("node"):
            node = inner.word("a node")
        elif inner.accept("interface", "source"):
            interface = inner.interface(engine)
        elif inner.accept("maxframe"):
            frame = inner.unsigned(min=1, max=FRAME_SIZE, what="packets")
        elif inner.accept("worker"):
            worker = inner.unsigned(what="a worker's number")
        elif inner.accept("data"):
            data = PacketData(inner.block())
        else:
            raise inner.unknown("name", "limit", "rate", "size", "node", "interface", "maxframe", "worker", "data")
    if not name:
        raise CommandError("name not specified")
    if interface is None:
        raise CommandError("interface not specified")
    if data is None:
        raise CommandError("no packet data given")
    packets = data.packets(size)
    shown = (size.low, size.sign, size.high) if size else (data.size, "-", data.size)
    node = node or first_node(interface, packets[0])
    generator_of(engine).add(Stream(name, packets, interface, node, limit, rate, frame, worker, shown))


def _switch(engine: Any, args: Arguments, enabled: bool) -> None:
    name = args.word() if args else None
    args.end()
    generator_of(engine).set_enabled(name, enabled)


@command("packet-generator enable-stream", help="packet-generator enable-stream [NAME]")
def enable_stream(engine: Any, args: Arguments) -> None:
    """Starts a stream, or all of them. One that had reached its limit starts again."""
    _switch(engine, args, True)


@command("packet-generator disable-stream", help="packet-generator disable-stream [NAME]")
def disable_stream(engine: Any, args: Arguments) -> None:
    """Stops a stream, or all of them."""
    _switch(engine, args, False)


@command("packet-generator delete", help="packet-generator delete NAME")
def delete(engine: Any, args: Arguments) -> None:
    """Deletes a stream."""
    name = args.word("a stream's name")
    args.end()
    generator_of(engine).delete(name)


@command("packet-generator capture", help="packet-generator capture INTERFACE pcap FILE [count N] | INTERFACE disable")
def capture(engine: Any, args: Arguments) -> None:
    """Writes packets sent out of a packet generator's interface into a file that Wireshark reads, each at once."""
    interface = args.interface(engine)
    path, count = None, 0
    generator = generator_of(engine)
    if args.accept("disable"):
        args.end()
        generator.stop_capture(interface)
        return
    while args:
        if args.accept("pcap"):
            path = args.word("a file")
        elif args.accept("count"):
            count = args.unsigned(min=1, what="packets")
        else:
            raise args.unknown("pcap", "count", "disable")
    if path is None:
        raise CommandError("pcap file name not specified")
    try:
        generator.capture_file(interface, path, count)
    except OSError as error:
        raise CommandError(f"pcap file {path}: {error.strerror}") from None


@command("show packet-generator", help="show packet-generator [NAME] [verbose]")
def show(engine: Any, args: Arguments) -> Output:
    """Shows streams, whether they run, and how many packets each has sent since it was enabled."""
    generator = generator_of(engine)
    generator.refresh()
    name = None
    while args:
        if not args.accept("verbose"):
            name = args.word()
    chosen = [stream for stream in generator.streams.values() if name in (None, stream.name)]
    if not generator.streams:
        return Output("no streams currently defined", [])
    if not chosen:
        raise CommandError(f"stream `{name}' does not exist")
    lines = [f"{'Name':<16}{centered('Enabled', 12)}{centered('Count', 16)}Parameters"]
    rows = []
    for stream in chosen:
        enabled, sent, (low, sign, high) = generator.enabled(stream), generator.sent(stream), stream.size
        lines.append(
            f"{stream.name:<16}{centered('Yes' if enabled else 'No', 12)}{centered(str(sent), 16)}"
            f"limit {stream.limit}, rate {_scientific(stream.rate)} pps, size {low}{sign}{high}, buffer-size 2048,"
            f" worker {stream.worker}, "
        )
        rows.append(
            {
                "name": stream.name,
                "enabled": enabled,
                "count": sent,
                "limit": stream.limit,
                "rate": stream.rate,
                "worker": stream.worker,
                "size": f"{low}{sign}{high}",
                "interface": stream.interface.name,
                "node": stream.node,
                "variations": len(stream.packets),
            }
        )
    return Output("\n".join(lines), rows)


def centered(text: str, width: int) -> str:
    """VPP's `%=12s`: the odd space goes to the left."""
    right = max(width - len(text), 0) // 2
    return text.rjust(width - right) + " " * right


def _scientific(value: float) -> str:
    """VPP's `%.2e`: 1.00e3."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
