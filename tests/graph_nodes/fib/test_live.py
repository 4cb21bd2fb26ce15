# SPDX-License-Identifier: Apache-2.0
"""Routes change, one by one and in bulk, while a worker forwards: every packet leaves, by the old route or by the new."""

import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import numpy as np
import pytest

from pyvpp.engine import Engine
from pyvpp.jit import COMPILED
from pyvpp.packet_generator import Stream, generator_of
from pyvpp_nodes.fib import synthetic
from pyvpp_nodes.fib.entry import attached_nexthop
from pyvpp_nodes.fib.trie import owner
from pyvpp_nodes.fib.trie.owner import Prefixes
from tests.graph_nodes.forwarding import ethernet, ip4, udp

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="needs a worker")]

IN_MAC, PEER_MAC = "02:fe:00:00:aa:01", b"\x02\0\0\0\0\x77"
NEAR = int(IPv4Address("10.255.0.1"))
TABLE = synthetic.routes4(20_000, seed=5, next_hops=2)
SECONDS = 2.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    """pg0 receives; a default route leads out of pg1, and so does the way to every neighbor there and on pg2."""
    engine = Engine(buffers=4096, hugepages="off")
    generator = generator_of(engine)
    for k, name in enumerate(("pg0", "pg1", "pg2")):
        made = generator.create_interface(name, bytes.fromhex(IN_MAC.replace(":", "")))
        engine.interfaces.set_admin(made, True)
        engine.stack.fib4.add_address(made.sw_if_index, NEAR + (k << 8), 24)
        engine.stack.neighbors.add(made.sw_if_index, NEAR + (k << 8) + 1, PEER_MAC, static=True)
    engine.stack.fib4.update("0.0.0.0/0", [way(engine, 1)])
    yield engine
    engine.close()


def way(engine: Engine, k: int) -> Any:
    return attached_nexthop(NEAR + (k << 8) + 1, engine.require_interface(f"pg{k}").sw_if_index)


def packets(count: int) -> list[bytes]:
    """To addresses inside routes of the table."""
    high, _ = synthetic.inside(TABLE, 4 * count)
    ten, addresses = 10, (int(each) for each in high >> np.uint64(32))
    chosen = [address for address in addresses if address >> 24 != ten][:count]
    return [ethernet(ip4(udp(), destination=str(IPv4Address(address))), destination=IN_MAC) for address in chosen]


def vectors(engine: Engine, name: str) -> int:
    return int(engine.workers[0].rows["vectors"][engine.graph.index_of(name)])


def flow(engine: Engine) -> None:
    generator = generator_of(engine)
    generator.add(Stream("live", packets(4096), engine.require_interface("pg0"), frame=256))
    generator.set_enabled("live", True)
    engine.start()


def drained(engine: Engine) -> tuple[int, int, int]:
    """Nothing comes in any more and all is out: packets in, and out of pg1 and pg2."""
    generator_of(engine).set_enabled("live", False)
    engine.synchronize()
    engine.synchronize()
    engine.stop()
    return vectors(engine, "pg-input"), vectors(engine, "pg1-tx"), vectors(engine, "pg2-tx")


def change(engine: Engine) -> int:
    """All routes in bulk, in and out and through the other interface; then some one by one; how many changes."""
    fib, paths = engine.stack.fib4, [[way(engine, 1)], [way(engine, 2)]]
    rng = np.random.default_rng(1)
    part = TABLE.prefixes.pick(rng.random(len(TABLE)) < 0.5)
    fib.update_many(TABLE.prefixes, paths, TABLE.next_hop)
    fib.update_many(part, paths, np.ones(len(part.length), np.uint32))
    fib.remove_many(part)
    chosen = rng.choice(len(TABLE), 300, replace=False)
    singles = [(int(TABLE.address4[k]), int(TABLE.length[k])) for k in chosen]
    for prefix in singles:
        fib.update(prefix, paths[1])
    for prefix in singles:
        fib.remove(prefix)
    fib.remove_many(TABLE.prefixes)
    return 2 * len(TABLE) + 2 * len(part.length) + 600


def test_nothing_is_lost_while_routes_change(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "REST", 64)  # pieces are used again as soon as may be
    flow(engine)
    until, changes = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        changes += change(engine)
    arrived, first, second = drained(engine)
    assert changes > 50_000 and arrived > 100_000
    assert first + second == arrived and first and second
    assert vectors(engine, "error-drop") == 0
    fib = engine.stack.fib4
    high, low = synthetic.inside(TABLE, 1000)
    default = fib.find("0.0.0.0/0").lb
    ours = (high >> np.uint64(56)) != 10
    assert set(fib.trie.lookup(0, high[ours], low[ours], 32).tolist()) <= {default, *lbs_of_defaults(engine)}


def lbs_of_defaults(engine: Engine) -> list[int]:
    return [entry.lb for entry in engine.stack.fib4.vrf() if entry.length in (4, 32)]


def test_each_packet_takes_the_old_way_or_the_new(engine: Engine) -> None:
    """A prefix is moved from pg1 to pg2 and back; what leaves each interface is what one of the two says."""
    fib = engine.stack.fib4
    destination = ip4(udp(), destination="20.1.2.3")
    generator = generator_of(engine)
    generator.add(
        Stream("live", [ethernet(destination, destination=IN_MAC)], engine.require_interface("pg0"), frame=64)
    )
    generator.set_enabled("live", True)
    engine.start()
    prefixes = [Prefixes.of(32, (0x14000000, 8)), Prefixes.of(32, (0x14010200, 24)), Prefixes.of(32, (0x14010203, 32))]
    until, moved = time.monotonic() + SECONDS / 2, 0
    seen = []
    while time.monotonic() < until:
        for prefix in prefixes:
            fib.update_many(prefix, [[way(engine, 2)]], np.zeros(1, np.uint32))
            engine.synchronize()
            before = vectors(engine, "pg1-tx")
            engine.synchronize()
            engine.synchronize()
            seen.append(vectors(engine, "pg1-tx") - before)  # once the workers have passed, none takes the old way
            fib.remove_many(prefix)
            moved += 1
    arrived, first, second = drained(engine)
    assert moved > 20 and max(seen) == 0
    assert first + second == arrived and first and second
    assert vectors(engine, "error-drop") == 0
