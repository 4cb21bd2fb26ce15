# SPDX-License-Identifier: Apache-2.0
"""The ping command."""

import asyncio
import secrets
import struct
import time
from ipaddress import IPv4Address
from typing import Any

from pyvpp.buffers import LOCALLY_ORIGINATED
from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp.interface import UPLINK
from pyvpp_nodes.fib.adjacency import DROP
from pyvpp_nodes.icmp.message import ECHO_REQUEST, HEADER_BYTES

IP_BYTES = 20
TTL = 64
LARGEST = 1900  # it has to fit a small buffer
MOST = 100_000


@command("ping", help="ping ADDRESS [repeat N] [size N] [interval SECONDS]")
async def ping(engine: Any, args: Arguments) -> Output:
    """Send echo requests from here, 5 of 56 bytes a second apart unless told otherwise, and wait for each answer.

    Neighbors of an uplink cannot be pinged from here, since the answers would be the host's: ping them from the host.
    """
    address = args.ip4()
    repeat, size, interval = 5, 56, 1.0
    while args:
        if args.accept("repeat"):
            repeat = args.unsigned(min=1, max=MOST, what="how often")
        elif args.accept("size"):
            size = args.unsigned(max=LARGEST, what="a number of bytes")
        elif args.accept("interval"):
            interval = args.number(min=0.001, max=3600.0, what="a number of seconds")
        else:
            raise args.unknown("repeat", "size", "interval")
    source = source_for(engine, address)
    identifier = free_identifier(engine)
    answers: dict[int, asyncio.Future[tuple[bytes, int, float]]] = {}

    def answered(data: bytes, icmp: int, now: float) -> None:
        waiting = answers.get(int.from_bytes(data[icmp + 6 : icmp + 8], "big"))
        if waiting is not None and not waiting.done():
            waiting.set_result((data, icmp, now))

    lines: list[str] = []
    replies: list[dict[str, Any]] = []
    sent = 0
    engine.stack.pings[identifier] = answered
    engine.tables["ping_ids"].array[identifier] = 1
    try:
        for number in range(1, repeat + 1):
            sequence = number & 0xFFFF
            answers = {sequence: asyncio.get_running_loop().create_future()}
            start = time.monotonic()
            packet = echo_request(source, address, identifier, sequence, size)
            sent += engine.inject(packet, "ip4-lookup", flags=LOCALLY_ORIGINATED)
            try:
                data, icmp, now = await asyncio.wait_for(answers[sequence], interval)
            except TimeoutError:
                continue
            took = 1000 * (now - start)
            sender = IPv4Address(data[12:16])
            lines.append(f"{len(data) - icmp} bytes from {sender}: icmp_seq={number} ttl={data[8]} time={took:.4f} ms")
            replies.append(
                {"bytes": len(data) - icmp, "from": sender, "icmp_seq": number, "ttl": data[8], "time_ms": took}
            )
            if number < repeat:
                await asyncio.sleep(max(0.0, start + interval - time.monotonic()))
    finally:
        engine.tables["ping_ids"].array[identifier] = 0
        del engine.stack.pings[identifier]
    lost = 100 * (sent - len(replies)) // sent if sent else 0
    lines += ["", f"Statistics: {sent} sent, {len(replies)} received, {lost}% packet loss"]
    return Output("\n".join(lines), {"replies": replies, "sent": sent, "received": len(replies)})


def source_for(engine: Any, address: IPv4Address) -> int:
    """The address to ping from: of the interface the packet leaves by, or our first. Raises CommandError."""
    fib = engine.stack.fib4
    ways = [index for _, index in fib.lookup(address).shares if index != DROP]
    if not ways:
        raise CommandError(f"no route to `{address}'")
    if fib.is_local(int(address)):
        raise CommandError(f"`{address}' is an address of ours (expected that of another host)")
    out = fib.adjacencies[ways[0]].sw_if_index
    interface = engine.interfaces.get(out)
    if interface is not None and interface.flags & UPLINK:
        raise CommandError(f"`{address}' is reached by {interface.name}, whose ICMP is the host's: ping from there")
    sources = [fib.source_for(int(address), each) for each in (out, *(i.sw_if_index for i in engine.interfaces))]
    found = next((source for source in sources if source), None)
    if found is None:
        raise CommandError("no interface has an address to ping from")
    return int(found)


def free_identifier(engine: Any) -> int:
    if not hasattr(engine.stack, "pings"):
        engine.stack.pings = {}
    while True:
        identifier = secrets.randbelow(65536)
        if identifier not in engine.stack.pings:
            return identifier


def echo_request(source: int, destination: IPv4Address, identifier: int, sequence: int, size: int) -> bytes:
    data = bytes(k & 0xFF for k in range(size))
    icmp = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, identifier, sequence)
    icmp = icmp[:2] + checksum(icmp + data) + icmp[4:]
    total = IP_BYTES + HEADER_BYTES + size
    ip = struct.pack("!BBHHHBBHI4s", 0x45, 0, total, secrets.randbelow(65536), 0, TTL, 1, 0, source, destination.packed)
    return ip[:10] + checksum(ip) + ip[12:] + icmp + data


def checksum(data: bytes) -> bytes:
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")
