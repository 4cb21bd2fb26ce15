# SPDX-License-Identifier: Apache-2.0
"""An address family's neighbor table: which MAC an on-link address has, who said so, how long it is believed."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyvpp.errors import OperatorError
from pyvpp_nodes.fib.entry import Source, attached_nexthop
from pyvpp_nodes.fib.fib import Fib

LIMIT = 50000
AGE = 60
"""Seconds after which one is asked whether it is still there. VPP believes for ever unless told otherwise; but who
comes back with another MAC address, behind a tunnel say, where no link goes down, is lost then until it asks for us."""
PROBE_SECONDS = 1.0
PROBES = 3
PROBES_AT_ONCE = 32  # in one tick: the buffers of control code are few, and everybody's


@dataclass(slots=True, eq=False)
class Neighbor:
    sw_if_index: int
    address: int
    mac: bytes
    static: bool
    no_fib: bool
    updated: float
    fib_index: int = -1  # where its /32 is, -1 for nowhere
    probes: int = 0
    next_probe: float = 0.0


class NeighborTable:
    """Static and dynamic neighbors. Each completes an adjacency; an on-link one gets a /32 (/128) of source ADJ.

    With `age` seconds set, a dynamic neighbor not heard of for so long is probed once a second, and after three
    unanswered probes forgotten; until then packets go on to where it was. Call `tick()` every second or so.
    `probe(sw_if_index, address)` sends the question, to everybody, since it may have another MAC address now; where it
    answers False nothing was sent, and nobody is forgotten for not having been asked.
    """

    def __init__(
        self,
        fib: Fib,
        clock: Callable[[], float],
        probe: Callable[[int, int], bool] | None = None,
        limit: int = LIMIT,
        age: float = 0,
        recycle: bool = False,
    ) -> None:
        self.fib = fib
        self.limit, self.age, self.recycle = limit, age, recycle
        self.probe: Callable[[int, int], bool] = probe or (lambda sw_if_index, address: False)
        self._clock = clock
        self._all: dict[tuple[int, int], Neighbor] = {}
        self._by_link: dict[int, dict[int, Neighbor]] = {}
        self._dynamic: OrderedDict[tuple[int, int], Neighbor] = OrderedDict()  # least recently heard of first
        self._probing: dict[tuple[int, int], Neighbor] = {}
        fib.on_connected.append(self._connected_changed)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Neighbor]:
        """The latest first, as VPP shows them."""
        return iter(sorted(self._all.values(), key=lambda each: (each.sw_if_index, -each.updated, each.address)))

    def get(self, sw_if_index: int, address: int) -> Neighbor | None:
        return self._all.get((sw_if_index, address))

    def learn(self, sw_if_index: int, address: int, mac: bytes) -> bool:
        """A neighbor spoke. False when it is not believed: static, or the table is full."""
        key = (sw_if_index, address)
        found = self._all.get(key)
        if found is None:
            return self._add(key, mac, static=False, no_fib=False)
        if found.static:
            return False
        self._refresh(key, found)
        if found.mac != mac:
            found.mac = mac
            self._tell(sw_if_index, address, mac)
        return True

    def add(self, sw_if_index: int, address: int, mac: bytes, *, static: bool = False, no_fib: bool = False) -> None:
        """The operator's word: it may replace anything."""
        key = (sw_if_index, address)
        found = self._all.get(key)
        if found is None:
            if not self._add(key, mac, static, no_fib):
                raise OperatorError(f"the neighbor table is full: limit {self.limit}")
            return
        found.updated = self._clock()
        self._dynamic.pop(key, None)
        self._probing.pop(key, None)
        found.static, found.mac, found.no_fib, found.probes = static, mac, no_fib, 0
        if not static:
            self._dynamic[key] = found
        self._connect(found)
        self._tell(sw_if_index, address, mac)

    def remove(self, sw_if_index: int, address: int) -> bool:
        found = self._all.pop((sw_if_index, address), None)
        if found is None:
            return False
        self._dynamic.pop((sw_if_index, address), None)
        self._probing.pop((sw_if_index, address), None)
        on_link = self._by_link[sw_if_index]
        del on_link[address]
        if not on_link:
            del self._by_link[sw_if_index]
        if found.fib_index >= 0:
            self.fib.remove((address, self.fib.family.bits), Source.ADJ, found.fib_index)
        self._tell(sw_if_index, address, None)
        return True

    def flush(self, sw_if_index: int, *, static_too: bool = False) -> None:
        """The interface went down (or away): what was learned there is worth nothing."""
        for neighbor in list(self._by_link.get(sw_if_index, {}).values()):
            if static_too or not neighbor.static:
                self.remove(sw_if_index, neighbor.address)

    def tick(self) -> None:
        now = self._clock()
        if self.age:
            for key, neighbor in list(self._expired(now)):
                del self._dynamic[key]
                neighbor.probes, neighbor.next_probe = 0, now
                self._probing[key] = neighbor
        asked = 0
        for neighbor in list(self._probing.values()):
            if now < neighbor.next_probe:
                continue
            if neighbor.probes >= PROBES:
                self.remove(neighbor.sw_if_index, neighbor.address)
                continue
            if asked == PROBES_AT_ONCE:
                continue
            asked += 1
            neighbor.probes += 1  # before the answer, which may come at once
            neighbor.next_probe = now + PROBE_SECONDS
            if not self.probe(neighbor.sw_if_index, neighbor.address):
                neighbor.probes -= 1

    def _tell(self, sw_if_index: int, address: int, mac: bytes | None) -> None:
        self.fib.adjacencies.set_neighbor(sw_if_index, address, mac, self.fib.family)

    def _expired(self, now: float) -> Iterator[tuple[tuple[int, int], Neighbor]]:
        for key, neighbor in self._dynamic.items():
            if now - neighbor.updated < self.age:
                return
            yield key, neighbor

    def _add(self, key: tuple[int, int], mac: bytes, static: bool, no_fib: bool) -> bool:
        if key[0] not in self.fib.links or (self.limit and len(self._all) >= self.limit and not self._recycled()):
            return False
        neighbor = self._all[key] = Neighbor(*key, mac, static, no_fib, self._clock())
        self._by_link.setdefault(key[0], {})[key[1]] = neighbor
        if not static:
            self._dynamic[key] = neighbor
        self._tell(*key, mac)
        self._connect(neighbor)
        return True

    def _recycled(self) -> bool:
        oldest = next(iter(self._probing), None) or next(iter(self._dynamic), None)
        return bool(self.recycle and oldest is not None and self.remove(*oldest))

    def _refresh(self, key: tuple[int, int], neighbor: Neighbor) -> None:
        neighbor.updated = self._clock()
        self._probing.pop(key, None)
        self._dynamic[key] = neighbor
        self._dynamic.move_to_end(key)

    def _connect(self, neighbor: Neighbor) -> None:
        """Give it its /32, or take it, by whether it is on-link now."""
        fib, where = self.fib, (neighbor.address, self.fib.family.bits)
        link = fib.links[neighbor.sw_if_index]
        want = not neighbor.no_fib and not link.p2p and fib.attached_on(neighbor.address, neighbor.sw_if_index)
        fib_index = fib.link_fib.get(neighbor.sw_if_index, 0) if want else -1
        if neighbor.fib_index == fib_index:
            return
        if neighbor.fib_index >= 0:
            fib.remove(where, Source.ADJ, neighbor.fib_index)
        if want:
            path = attached_nexthop(neighbor.address, neighbor.sw_if_index)
            fib.update(where, (path,), Source.ADJ, fib_index)
        neighbor.fib_index = fib_index

    def _connected_changed(self, sw_if_index: int) -> None:
        for neighbor in list(self._by_link.get(sw_if_index, {}).values()):
            self._connect(neighbor)
