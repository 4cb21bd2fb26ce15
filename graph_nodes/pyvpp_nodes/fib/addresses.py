# SPDX-License-Identifier: Apache-2.0
"""Interface addresses, and the routes that they bring: as in VPP (ip4_add_interface_routes)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pyvpp.errors import OperatorError
from pyvpp_nodes.fib.adjacency import Link
from pyvpp_nodes.fib.entry import DROP_PATH, Path, Source, Via

if TYPE_CHECKING:
    from pyvpp_nodes.fib.fib import Fib

InterfaceRoute = tuple[int, int, Path]


class InterfaceAddresses:
    """Addresses of one family. While an interface is up, each has its routes of source INTERFACE."""

    def __init__(self, fib: "Fib", first_changed: Callable[[int, int], None]) -> None:
        self._fib = fib
        self._family = fib.family
        self._bits = fib.family.bits
        self._first_changed = first_changed  # (sw_if_index, address or 0)
        self.by_link: dict[int, list[tuple[int, int]]] = {}  # (address, length)
        self._connected: dict[tuple[int, int, int], int] = {}  # (sw_if_index, prefix, length): addresses in it

    def add(self, link: Link, address: int, length: int) -> None:
        """Give an interface an address. Raises OperatorError where it overlaps with another, or is no unicast one."""
        if not self._family.is_unicast(address):
            shown = self._family.show(address, length)
            raise OperatorError(f"{shown} on {link.name}: an interface's address must be unicast")
        clash = self._conflict(link.sw_if_index, address, length)
        if clash is not None:
            other, taken, taken_length = clash
            show = self._family.show
            raise OperatorError(
                f"failed to add {show(address, length)} on {link.name} which conflicts with"
                f" {show(taken, taken_length)} for interface {self._fib.links[other].name}"
            )
        self.by_link.setdefault(link.sw_if_index, []).append((address, length))
        self._tell_first(link.sw_if_index)
        if link.admin_up:
            self._add_routes(link, address, length)

    def remove(self, link: Link, address: int, length: int) -> None:
        """Take an address away. Raises OperatorError where there is none."""
        have = self.by_link.get(link.sw_if_index, [])
        if (address, length) not in have:
            raise OperatorError(f"{self._family.show(address, length)} not found for interface {link.name}")
        have.remove((address, length))
        if not have:
            del self.by_link[link.sw_if_index]
        self._tell_first(link.sw_if_index)
        if link.admin_up:
            self._remove_routes(link, address, length)

    def link_state(self, link: Link) -> None:
        """The interface has come up or gone down: its routes come or go."""
        change = self._add_routes if link.admin_up else self._remove_routes
        for address, length in self.by_link.get(link.sw_if_index, []):
            change(link, address, length)

    def source_for(self, address: int, sw_if_index: int) -> int | None:
        """Which of an interface's addresses speaks to `address`: one of the same prefix, else the first."""
        have = self.by_link.get(sw_if_index, ())
        for own, length in have:
            if (own ^ address) & self._family.mask(length) == 0:
                return own
        return have[0][0] if have else None

    def _tell_first(self, sw_if_index: int) -> None:
        have = self.by_link.get(sw_if_index)
        self._first_changed(sw_if_index, have[0][0] if have else 0)

    def _conflict(self, sw_if_index: int, address: int, length: int) -> tuple[int, int, int] | None:
        link_fib = self._fib.link_fib
        for other, have in self.by_link.items():
            if link_fib.get(other, 0) != link_fib.get(sw_if_index, 0):
                continue
            for taken, taken_length in have:
                if (taken ^ address) & self._family.mask(min(length, taken_length)):
                    continue
                if other == sw_if_index and taken_length == length and taken != address:
                    continue  # several addresses of one prefix
                return other, taken, taken_length
        return None

    def _routes(self, link: Link, address: int, length: int) -> list[InterfaceRoute]:
        """The entries that the first address of a prefix brings, but for its own."""
        routes = []
        network = address & self._family.mask(length)
        if length < self._bits:
            connected = Path(Via.CONNECTED, address, link.sw_if_index, length=length)
            routes.append((network, length, connected))
        if not self._family.broadcast:
            return routes
        if length == self._bits - 1:
            routes.append((address ^ 1, self._bits, Path(Via.ATTACHED_NEXTHOP, address ^ 1, link.sw_if_index)))
        elif length < self._bits:
            last = network | (self._family.ones & ~self._family.mask(length))
            routes += [(network, self._bits, DROP_PATH), (last, self._bits, DROP_PATH)]
        return routes

    def _add_routes(self, link: Link, address: int, length: int) -> None:
        fib_index = self._fib.link_fib.get(link.sw_if_index, 0)
        key = (link.sw_if_index, address & self._family.mask(length), length)
        self._connected[key] = self._connected.get(key, 0) + 1
        if self._connected[key] == 1:
            for prefix, bits, path in self._routes(link, address, length):
                if prefix != address or bits != self._bits:
                    self._fib.update((prefix, bits), (path,), Source.INTERFACE, fib_index)
        receive = Path(Via.RECEIVE, address, link.sw_if_index)
        self._fib.update((address, self._bits), (receive,), Source.INTERFACE, fib_index)

    def _remove_routes(self, link: Link, address: int, length: int) -> None:
        fib_index, mask = self._fib.link_fib.get(link.sw_if_index, 0), self._family.mask(length)
        key = (link.sw_if_index, address & mask, length)
        self._connected[key] -= 1
        self._fib.remove((address, self._bits), Source.INTERFACE, fib_index)
        left = [each for each in self.by_link.get(link.sw_if_index, ()) if each[1] == length and each[0] != address]
        heir = next((own for own, _ in left if (own ^ address) & mask == 0), None)
        if self._connected[key] and heir is not None:
            own = {each for each, _ in left}
            for prefix, bits, path in self._routes(link, heir, length):
                if bits != self._bits or prefix not in own:
                    self._fib.update((prefix, bits), (path,), Source.INTERFACE, fib_index)
            return
        del self._connected[key]
        for prefix, bits, _ in self._routes(link, address, length):
            if prefix != address or bits != self._bits:
                self._fib.remove((prefix, bits), Source.INTERFACE, fib_index)
