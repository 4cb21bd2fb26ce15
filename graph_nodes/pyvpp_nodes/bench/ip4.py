# SPDX-License-Identifier: Apache-2.0
"""IPv4 forwarding: one route, ten thousand, and tables like the Internet's."""

import random
from dataclasses import replace
from functools import cache, cached_property
from ipaddress import IPv4Address
from typing import Any

import numpy as np

from pyvpp.bench.scenario import OUT_MAC, Scenario, VppFigures
from pyvpp_nodes.bench.ground import BASE, NEAR, ROUTE, inner, rewritten, to
from pyvpp_nodes.bench.model import ETHERNET_BYTES, ethernet, ip4_forwarded
from pyvpp_nodes.fib import synthetic
from pyvpp_nodes.fib.entry import attached_nexthop

NEXT_HOPS = 200
CONTIGUOUS = IPv4Address("16.0.0.0")
MILLION = 1_000_000
MANY_DESTINATIONS = 1 << 18
OWN_NETWORK = 10
FAMILY = "ip4"


def hop_mac(hop: int) -> bytes:
    return bytes.fromhex("0200000003") + hop.to_bytes(1, "big")


HOPS = tuple(f"set ip neighbor pg1 {NEAR + 1 + hop} {hop_mac(hop).hex(':')} static" for hop in range(NEXT_HOPS))


def contiguous(name: str, routes: int) -> Scenario:
    """So many /24 side by side with one next hop: VPP's own way to fill a table."""

    @cache
    def destinations() -> list[IPv4Address]:
        """Not drawn before somebody wants them: each pyvpp that starts imports this."""
        random_ = random.Random(routes)
        return [
            CONTIGUOUS + (random_.randrange(routes) << 8) + random_.randrange(1, 255) for _ in range(MANY_DESTINATIONS)
        ]

    return Scenario(
        name=name,
        summary=f"{routes:,} contiguous /24 with one next hop, random destinations",
        setup=(*BASE, f"ip route add count {routes} {CONTIGUOUS}/24 via {NEAR + 1} pg1"),
        packet=to(lambda i: destinations()[i]),
        expect=rewritten,
        routes=routes,
        family=FAMILY,
    )


class Internet:
    """So many routes like the Internet's: in the FIB, as destinations, and as the model of a lookup."""

    def __init__(self, count: int) -> None:
        self.table = synthetic.routes4(count, next_hops=NEXT_HOPS)

    @cached_property
    def routes(self) -> list[tuple[int, int, int]]:
        """Prefix, length, number of the next hop."""
        table = self.table
        return list(zip(table.address4.tolist(), table.length.tolist(), table.next_hop.tolist(), strict=True))

    @cached_property
    def destinations(self) -> list[IPv4Address]:
        """Addresses inside random routes, but none of the ground's own 10/8."""
        high, _ = synthetic.inside(self.table, 2 * MANY_DESTINATIONS)
        drawn = [address for address in (high >> np.uint64(32)).tolist() if address >> 24 != OWN_NETWORK]
        return [IPv4Address(address) for address in drawn[:MANY_DESTINATIONS]]

    @cached_property
    def _by_length(self) -> dict[int, dict[int, int]]:
        found: dict[int, dict[int, int]] = {}
        for prefix, length, hop in sorted(self.routes, key=lambda route: -route[1]):
            found.setdefault(length, {})[prefix] = hop
        return found

    def next_hop(self, address: int) -> int:
        """Longest prefix match the obvious way."""
        for length, hops in self._by_length.items():
            hop = hops.get(address >> (32 - length) << (32 - length))
            if hop is not None:
                return hop
        raise LookupError(f"no route to {IPv4Address(address)}")


tables = cache(Internet)


def internet(routes: int) -> Scenario:
    """Routes like the Internet's, to NEXT_HOPS different next hops, and destinations inside random ones of them."""

    def prepare(engine: Any) -> None:
        sw_if_index = engine.require_interface("pg1").sw_if_index
        paths = [(attached_nexthop(int(NEAR) + 1 + hop, sw_if_index),) for hop in range(NEXT_HOPS)]
        table = tables(routes).table
        engine.stack.fib4.update_many(table.prefixes, paths, table.next_hop)

    def expect(engine: Any, frame: bytes) -> bytes:
        packet = frame[ETHERNET_BYTES:]
        hop = tables(routes).next_hop(int.from_bytes(packet[16:20], "big"))
        return ethernet(hop_mac(hop), OUT_MAC, ip4_forwarded(packet))

    return Scenario(
        name=f"ip4-{routes}",
        summary=f"{routes:,} routes like the Internet's, {NEXT_HOPS} next hops, destinations inside random routes",
        setup=(*BASE, *HOPS),
        prepare=prepare,
        packet=lambda engine, i, size: to(tables(routes).destinations.__getitem__)(engine, i, size),
        expect=expect,
        routes=routes,
        family=FAMILY,
        variations=MANY_DESTINATIONS,
        with_routes=internet,
    )


ONE = Scenario(
    name="ip4",
    summary="IPv4 forwarding, one route",
    setup=(*BASE, ROUTE),
    packet=to(inner),
    expect=rewritten,
    family=FAMILY,
    vpp=VppFigures(132, 66),
)
TEN_THOUSAND = replace(contiguous("ip4-10k", 10_000), vpp=VppFigures(150, 80))
INTERNET = replace(internet(MILLION), name="ip4-1m", vpp=VppFigures(323, 255, "a million contiguous /24, one next hop"))
