# SPDX-License-Identifier: Apache-2.0
"""The ping command, in VPP's words."""

import asyncio
import time
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp.interface import UPLINK
from pyvpp_nodes.fib.adjacency import DROP
from pyvpp_ping.message import Address, Answer
from pyvpp_ping.owner import Ping, Pings

LARGEST = 1900  # it has to fit a small buffer
MOST, MOST_AT_ONCE = 100_000, 32
SEQUENCES = 65536
WITHOUT_BUFFER, LAST_SECONDS = 0.01, 2.0


@command(
    "ping",
    help="ping [ipv4|ipv6] ADDRESS [source INTERFACE] [size N] [interval SECONDS] [repeat N] [burst N] [table-id N]",
    ends_with_client=True,
)
async def ping(engine: Any, args: Arguments) -> Output:
    """Send echo requests from here, 5 of 56 bytes a second apart unless told otherwise, and tell of each answer.

    They come from an address of the interface they leave by, else from our first, or from one of `source INTERFACE`,
    in whose table the address is looked up; `table-id` names another one. `burst` are sent at once, each time. Ctrl-C
    ends it. Neighbors of an uplink cannot be pinged from here, since the answers would be the host's.
    """
    address, source, options, table_id = read(engine, args)
    pings: Pings = engine.stack.pings
    running = pings.begin(*way_to(engine, address, source, table_id))
    told = Told(args)
    try:
        await run(engine, running, told, **options)
    except asyncio.CancelledError:
        told.interrupted = True
    finally:
        engine.stack.pings.end(running)  # by now it may be another version's
    return told.output()


def read(engine: Any, args: Arguments) -> tuple[Address, Any, dict[str, Any], int | None]:
    """The command's words: the address, the interface or None, the options of `run`, and the table."""
    family = args.accept("ipv4", "ipv6")
    address: Address = args.ip4() if family == "ipv4" else args.ip6() if family == "ipv6" else args.ip()
    options: dict[str, Any] = {"repeat": 5, "size": 56, "interval": 1.0, "burst": 1}
    source, table_id = None, None
    while args:
        if args.accept("source"):
            source = args.interface(engine)
        elif args.accept("repeat"):
            options["repeat"] = args.unsigned(min=1, max=MOST, what="how often")
        elif args.accept("size"):
            options["size"] = args.unsigned(max=LARGEST, what="a number of bytes")
        elif args.accept("interval"):
            options["interval"] = args.number(min=0.001, max=3600.0, what="a number of seconds")
        elif args.accept("burst"):
            options["burst"] = args.unsigned(min=1, max=MOST_AT_ONCE, what="how many at once")
        elif args.accept("table-id"):
            table_id = args.unsigned(what="a table")
        else:
            raise args.unknown("source", "repeat", "size", "interval", "burst", "table-id")
    return address, source, options, table_id


def way_to(engine: Any, address: Address, source: Any, table_id: int | None) -> tuple[Address, Address, int]:
    """The address to ping from, the one to ping, and an interface of the table it is in. Raises CommandError."""
    fib = engine.stack.fib4 if address.version == 4 else engine.stack.fib6
    if table_id is not None:
        vrf = fib.table(table_id)
        if vrf is None:
            raise CommandError(f"no table {table_id}")
        fib_index = int(vrf.fib_index)
    else:
        fib_index = fib.link_fib.get(source.sw_if_index, 0) if source else 0
    ways = [index for _, index in fib.lookup(address, fib_index).shares if index != DROP]
    if not ways:
        raise CommandError(f"no route to `{address}'")
    if fib.is_local(int(address), fib_index):
        raise CommandError(f"`{address}' is an address of ours (expected that of another host)")
    out = fib.adjacencies[ways[0]].sw_if_index
    interface = engine.interfaces.get(out)
    if interface is not None and interface.flags & UPLINK:
        raise CommandError(f"`{address}' is reached by {interface.name}, whose ICMP is the host's: ping from there")
    of_table = [each.sw_if_index for each in engine.interfaces if fib.link_fib.get(each.sw_if_index, 0) == fib_index]
    asked = [source.sw_if_index] if source else [out, *of_table]
    found = next((each for each in (fib.source_for(int(address), i) for i in asked) if each), None)
    if found is None:
        lacking = f"{source.name} has no" if source else "no interface has an"
        raise CommandError(f"{lacking} IPv{address.version} address to ping from")
    if fib_index and not of_table:
        raise CommandError(f"no interface is in table {table_id}, so no answer would come")
    here = IPv4Address(found) if address.version == 4 else IPv6Address(found)
    return here, address, of_table[0] if fib_index else 0


class Told:
    """What a ping has to say: each line as soon as it can be, all of it in the end where nobody reads meanwhile."""

    def __init__(self, args: Arguments) -> None:
        self._args = args
        self._lines: list[str] = []
        self.replies: list[dict[str, Any]] = []
        self.sent = self.duplicates = 0
        self.interrupted = False

    def answer(self, answer: Answer, took: float, again: bool, number: int) -> None:
        line = f"{answer.size} bytes from {answer.source}: icmp_seq={number} ttl={answer.hops} time={took:.4f} ms"
        line += " (DUP!)" if again else ""
        if not self._args.tell(line):
            self._lines.append(line)
        self.duplicates += again
        if not again:
            self.replies.append(
                {"bytes": answer.size, "from": answer.source, "icmp_seq": number, "ttl": answer.hops, "time_ms": took}
            )

    def output(self) -> Output:
        received = len(self.replies)
        lost = 100 * (self.sent - received) // self.sent if self.sent else 0
        line = f"Statistics: {self.sent} sent, {received} received, {lost}% packet loss"
        if self.duplicates:
            line += f", {self.duplicates} duplicates"
        times = [reply["time_ms"] for reply in self.replies]
        spread = {"min": min(times), "avg": sum(times) / received, "max": max(times)} if times else {}
        if spread:
            line += f"\nrtt min/avg/max = {'/'.join(f'{each:.4f}' for each in spread.values())} ms"
        return Output(
            "\n".join([*self._lines, "", line]),
            {
                "replies": self.replies, "sent": self.sent, "received": received, "duplicates": self.duplicates,
                "rtt_ms": spread, "interrupted": self.interrupted,
            },
        )  # fmt: skip


async def run(engine: Any, ping: Ping, told: Told, repeat: int, size: int, interval: float, burst: int) -> None:
    """Sends and listens; returns as soon as all are answered, or an interval after the last, 2 seconds at least."""
    number = 0
    for turn in range(repeat):
        last = turn == repeat - 1
        until = time.monotonic() + (max(interval, LAST_SECONDS) if last else interval)
        for _ in range(burst):
            number += 1
            while not engine.stack.pings.send(ping, number % SEQUENCES, size):
                await asyncio.sleep(WITHOUT_BUFFER)  # so many others send just now
            told.sent += 1
        while not (last and len(told.replies) == told.sent):
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    answer, took, again = await ping.answers.get()
            except TimeoutError:
                break
            told.answer(answer, took, again, number - (number - answer.sequence) % SEQUENCES)
