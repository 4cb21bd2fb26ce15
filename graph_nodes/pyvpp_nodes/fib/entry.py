# SPDX-License-Identifier: Apache-2.0
"""What a table is made of: paths, routes, prefixes, and the addresses that others are resolved through."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from pyvpp_nodes.fib.load_balance import DROPPED, Shares


class Source(IntEnum):
    """Who says so. The lowest number wins (VPP's fib_source.h)."""

    SPECIAL = 0x00
    CLASSIFY = 0x01
    PROXY = 0x02
    INTERFACE = 0x03
    API = 0x80
    CLI = 0x81
    DHCP = 0xB0
    ADJ = 0xD0
    RR = 0xFB
    DEFAULT_ROUTE = 0xFD


class Via(IntEnum):
    ATTACHED_NEXTHOP = 0  # via 10.0.0.1 eth0
    ATTACHED = 1  # via eth0
    CONNECTED = 2  # the prefix of an interface's address
    RECURSIVE = 3  # via 10.0.0.1
    RECEIVE = 4
    DROP = 5
    PUNT = 6
    UNREACHABLE = 7
    PROHIBIT = 8


NO_INTERFACE = 0xFFFFFFFF


class Path(NamedTuple):
    via: Via
    address: int = 0
    sw_if_index: int = NO_INTERFACE
    weight: int = 1
    preference: int = 0
    length: int = 0  # CONNECTED: of the prefix; `address` is the interface's own

    @property
    def target(self) -> tuple[int, int, int, int]:
        """What makes two paths the same hop, whatever their weights."""
        return (self.via, self.address, self.sw_if_index, self.length)


DROP_PATH = Path(Via.DROP)


def attached_nexthop(address: int, sw_if_index: int, weight: int = 1, preference: int = 0) -> Path:
    return Path(Via.ATTACHED_NEXTHOP, address, sw_if_index, weight, preference)


def attached(sw_if_index: int, weight: int = 1, preference: int = 0) -> Path:
    return Path(Via.ATTACHED, 0, sw_if_index, weight, preference)


def received(sw_if_index: int, address: int) -> Path:
    """Of an address of our own."""
    return Path(Via.RECEIVE, address, sw_if_index)


def recursive(address: int, weight: int = 1, preference: int = 0) -> Path:
    return Path(Via.RECURSIVE, address, NO_INTERFACE, weight, preference)


Paths = tuple[Path, ...]


class Route:
    """What one or more prefixes of a table have in common: who says what about them, and what that comes to.

    Its best source's paths, resolved, are `shares`; the load balance `lb` spreads packets by them. The `own` route of a
    prefix changes in place and keeps its counters. A shared one is known by what its sources say.
    """

    __slots__ = ("fib_index", "lb", "own", "prefixes", "shares", "sources", "tracks", "vias")

    def __init__(self, fib_index: int, sources: "Sources", own: bool) -> None:
        self.fib_index = fib_index
        self.sources = sources
        self.own = own
        self.prefixes = 0
        self.shares: Shares = DROPPED
        self.lb = 0
        self.vias: tuple[Track, ...] = ()  # what its own recursive paths go through
        self.tracks: dict[Track, None] = {}  # what is resolved through it

    @property
    def best(self) -> Source:
        return min(self.sources)

    @property
    def paths(self) -> Paths:
        return self.sources[min(self.sources)]


Sources = dict[Source, Paths]


class Entry(NamedTuple):
    """A prefix and its route, as they were when asked for."""

    fib_index: int
    prefix: int
    length: int
    route: Route

    @property
    def sources(self) -> Sources:
        return self.route.sources

    @property
    def best(self) -> Source:
        return self.route.best

    @property
    def paths(self) -> Paths:
        return self.route.paths

    @property
    def shares(self) -> Shares:
        return self.route.shares

    @property
    def lb(self) -> int:
        return self.route.lb


class Track:
    """An address that routes or tunnels go through, and the route that it takes at the moment."""

    __slots__ = ("address", "fib_index", "route", "users")

    def __init__(self, fib_index: int, address: int, route: Route) -> None:
        self.fib_index = fib_index
        self.address = address
        self.route = route
        self.users: dict[Any, None] = {}  # Route or Follower


class Follower:
    """Somebody outside the FIB who goes where an address goes: a tunnel. Made by `Fib.track`.

    `through` is the tunnel's own interface: when the address leads back into it, `lb` is 0 and `looped` is true.
    """

    __slots__ = ("callback", "lb", "looped", "shares", "through", "track")

    def __init__(self, track: Track, callback: Callable[["Follower"], None], through: int) -> None:
        self.track = track
        self.callback = callback
        self.through = through
        self.lb = 0
        self.shares: Shares = DROPPED
        self.looped = False

    @property
    def straight(self) -> int | None:
        """The one adjacency it all goes to, if it is one."""
        return self.shares[0][1] if len(self.shares) == 1 else None
