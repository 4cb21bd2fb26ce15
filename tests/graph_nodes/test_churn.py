# SPDX-License-Identifier: Apache-2.0
"""Ten thousand things made and unmade by command while packets flow: in the end everything is as it was.

Tunnels, routes over one path or several, neighbors and loopbacks come and go in any order, dozens alive at a time.
"""

import asyncio
import gc
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest

from pyvpp import dispatch as d
from pyvpp.cli import commands, device_commands, engine_commands, trace_commands
from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import commands_in, commands_of
from pyvpp.engine import Engine
from pyvpp.packet_generator import Stream, generator_of
from pyvpp_nodes.ipip.cli import tunnels_of as ipip_tunnels_of
from pyvpp_nodes.vxlan.cli import tunnels_of as vxlan_tunnels_of
from tests.graph_nodes.forwarding import ethernet, ip4, udp

pytestmark = pytest.mark.slow

CYCLES = 10_000
ALIVE = 60
MAC = "02:fe:00:00:00:01"
REUSED = {"_free", "_resting"}  # what waits to be used again
RENEWED = "ip4_fib_nodes"  # as large as its contents were when it was made anew


class Console:
    """An engine with a generator's interface 10.0.0.1/24, and its command line."""

    def __init__(self) -> None:
        self.engine = Engine(buffers=1024, hugepages="off")
        modules = (commands, engine_commands, trace_commands, device_commands)
        found = [each for module in modules for each in commands_in(module)]
        found += [each for package in self.engine.declarations.packages for each in commands_of(package)]
        self._tree = CommandTree(found)
        self._loop = asyncio.new_event_loop()
        self.generator = generator_of(self.engine)
        pg0 = self.generator.create_interface("pg0", bytes.fromhex(MAC.replace(":", "")))
        self.engine.interfaces.set_admin(pg0, True)
        self("set interface ip address pg0 10.0.0.1/24")
        for last in (2, 3):
            self(f"set ip neighbor pg0 10.0.0.{last} 02:fe:00:00:00:99 static")
        ipip_tunnels_of(self.engine), vxlan_tunnels_of(self.engine)
        self.pg0 = pg0

    def __call__(self, line: str) -> str:
        output = self._loop.run_until_complete(self._tree.run(self.engine, line))
        return output.text.strip()

    def add_traffic(self, chance: random.Random) -> None:
        """Packets to addresses of what comes and goes, for the time when the worker runs."""
        packets = [
            ethernet(ip4(udp(b"x"), "10.0.0.2", str(IPv4Address(0x0A640000 + chance.randrange(1 << 20)))), MAC)
            for _ in range(500)
        ]
        self.generator.add(Stream("traffic", packets, self.pg0, rate=20_000))

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """All buffers are back in the end."""
        self.generator.set_enabled("traffic", True)
        self.engine.start()
        yield
        self.generator.set_enabled("traffic", False)
        self.engine.stop()
        control = self.engine.workers[0].control
        control[d.STOP], control[d.EPOLL_FD] = 0, -1
        for _ in range(3):
            self.engine.run(4)
            self.engine.drain_punts()

    def close(self) -> None:
        self.engine.close()
        self._loop.close()


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    console.close()


# ---- what comes and goes: a number makes a thing and the command that takes it away again


def ipip(console: Console, n: int) -> str:
    name = console(f"create ipip tunnel src 10.0.0.1 dst {IPv4Address(0x0B000000 + n)}")
    console(f"set interface state {name} up")
    console(f"ip route add {IPv4Address(0x0A640000 + n % 4096 * 256)}/24 via {name}")
    return f"delete ipip tunnel {name}"


def vxlan(console: Console, n: int) -> str:
    tunnel = f"src 10.0.0.1 dst {IPv4Address(0x0C000000 + n)} vni {1 + n % 1000}"
    name = console(f"create vxlan tunnel {tunnel}{' l3' if n % 2 else ''}")
    console(f"set interface ip address {name} {IPv4Address(0x0D000001 + n * 256)}/24")
    if n % 2 == 0:
        console(f"set ip neighbor {name} {IPv4Address(0x0D000002 + n * 256)} 02:00:00:00:00:07")
    return f"create vxlan tunnel {tunnel} del"


def route(console: Console, n: int) -> str:
    prefix = f"{IPv4Address(0x0E000000 + n * 16)}/28"
    console(f"ip route add {prefix} via 10.0.0.{2 + n % 2} pg0")
    return f"ip route del {prefix}"


def multipath(console: Console, n: int) -> str:
    prefix = f"{IPv4Address(0x0A640000 + n % 4096 * 256)}/{25 + n % 8}"
    console(f"ip route add {prefix} via 10.0.0.2 pg0 weight {1 + n % 5} via 10.0.0.3 pg0 via 10.100.{n % 256}.1")
    return f"ip route del {prefix}"


def neighbor(console: Console, n: int) -> str:
    address = f"10.0.0.{4 + n % 250}"
    console(f"set ip neighbor pg0 {address} 02:00:00:00:{n >> 8 & 255:02x}:{n & 255:02x}")
    return f"set ip neighbor del pg0 {address} 02:00:00:00:00:00"


def loopback(console: Console, n: int) -> str:
    name = console("create loopback interface")
    console(f"set interface state {name} up")
    console(f"set interface ip address {name} {IPv4Address(0x0F000001 + n * 256)}/24")
    console(f"ip route add {IPv4Address(0x10000000 + n * 256)}/24 via {name}")
    return f"delete loopback interface intfc {name}"


KINDS: tuple[Callable[[Console, int], str], ...] = (ipip, vxlan, route, route, multipath, neighbor, loopback)


def churn(console: Console, chance: random.Random, cycles: int) -> None:
    """Makes so many things and unmakes them all."""
    alive: dict[str, None] = {}  # by what ends it: a route or neighbor may be made again before
    for _ in range(cycles):
        alive[chance.choice(KINDS)(console, chance.randrange(60_000))] = None
        console.engine.drain_punts()
        if len(alive) >= ALIVE:
            end = chance.choice(list(alive))
            del alive[end]
            console(end)
    for end in alive:
        console(end)


# ---- what must be as it was


def sizes(console: Console) -> dict[str, int]:
    """The length of every container that the control plane keeps its state in, and of every table."""
    engine, fib = console.engine, console.engine.stack.fib4
    owners = (
        engine.graph, engine.interfaces, engine.features, engine.events, fib, fib.vrfs[0], fib.adjacencies,
        fib.load_balances, engine.stack.neighbors, ipip_tunnels_of(engine), vxlan_tunnels_of(engine),
    )  # fmt: skip
    found = {
        f"{type(owner).__name__}.{name}": len(value)
        for owner in owners
        for name, value in vars(owner).items()
        if isinstance(value, (dict, list, set)) and name not in REUSED
    }
    pools = {"adjacencies": fib.adjacencies._pool, "load balances": fib.load_balances.pool}
    pools |= {"buckets": fib.load_balances.bucket_pool}
    found |= {f"{name} in use": pool.in_use for name, pool in pools.items()}
    found |= {f"table {name}": len(table) for name, table in engine.tables.items() if name != RENEWED}
    found |= {f"events {name}": len(each) for name, each in engine.events._subscribers.items()}
    found["entries"] = len(fib.vrfs[0])
    fib.trie.reclaim()
    found["words of the trie"] = fib.trie.words_in_use
    found["free buffers"] = engine.buffers.free + len(engine._inject_buffers)
    return found


def routes(console: Console) -> str:
    """`show ip fib` without what it has counted."""
    return re.sub(r"to:\[\d+:\d+\]", "", console("show ip fib"))


def objects() -> Counter[str]:
    """How many objects of each of our own classes there are, and of all others together."""
    gc.collect()
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        kind: Any = type(each)
        found[kind.__qualname__ if str(kind.__module__).startswith("pyvpp") else "others"] += 1
    return found


def test_ten_thousand_things_come_and_go(console: Console) -> None:
    chance = random.Random(7)
    fib = routes(console)
    console.add_traffic(chance)
    with console.traffic():
        pass  # the worker's loop is loaded
    churn(console, chance, CYCLES // 5)  # tables grow to the size they need, caches fill
    before, objects_before = sizes(console), objects()
    churn(console, chance, CYCLES * 7 // 10)
    with console.traffic():
        churn(console, chance, CYCLES * 3 // 10)
    after, objects_after = sizes(console), objects()
    assert after == before
    assert objects_after.pop("others") <= objects_before.pop("others") + 200
    assert objects_after == objects_before
    assert routes(console) == fib
    assert int(console.engine.workers[0].control[d.BAD_NEXT]) == 0
    assert console.generator.sent(console.generator.streams["traffic"]) > 10_000
