# SPDX-License-Identifier: Apache-2.0
"""VLAN devices of the host on an uplink: they would stay on the NIC, so they move to the TAP with it, and back.

Linux cannot put a VLAN on another device. It is removed and made anew, with the same name, index and MAC address, and
gets its own state like the uplink: addresses, routes, sysctls and all. With the same index sockets stay bound to it;
groups are joined and packet sockets bound again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.linux import apply, multicast, other_sockets, stacked
from pyvpp.linux.capture import Vlan


class _Moved(NamedTuple):
    """A VLAN, and its index by now."""

    vlan: Vlan
    ifindex: int


class Vlans:
    """An uplink's VLANs, and those in them, on their way to another link. To be closed in the end."""

    def __init__(self, vlans: Iterable[Vlan]) -> None:
        self.vlans = tuple(vlans)
        self._moved: list[_Moved] = []
        self._members: dict[int, list[multicast.Member]] = {}  # by the index that each VLAN had
        self._packet_sockets: dict[int, list[other_sockets.PacketSocket]] = {}

    @property
    def told(self) -> tuple[str, ...]:
        """A line each, for a plan."""
        return tuple(
            f"{vlan.state.name}: {', '.join(map(str, vlan.state.addresses)) or 'no address'}" for vlan in self._all()
        )

    def _all(self, vlans: tuple[Vlan, ...] | None = None) -> Iterator[Vlan]:
        """Each before those in it."""
        for vlan in self.vlans if vlans is None else vlans:
            yield vlan
            yield from self._all(vlan.state.vlans)

    def remember(self) -> None:
        """Copies the sockets that will be cut off, while the VLANs are where they were."""
        for vlan in self._all():
            index = vlan.state.ifindex
            self._members[index] = multicast.find_members(index, vlan.state.groups)
            self._packet_sockets[index] = other_sockets.find_packet_sockets(index, vlan.state.packet_sockets)

    def remove(self) -> None:
        """Takes them off the link they are on; those in them go, too. Raises OSError."""
        for vlan in self.vlans:
            stacked.remove(vlan.state.ifindex)

    def make(self, ip: Any, below: int, *, wait: float, best_effort: bool = False) -> list[str]:
        """Makes them on a link, with addresses and routes; what could not be done.

        With `best_effort` a VLAN that cannot be made is among that; else its OSError goes on.
        """
        self._moved = []
        return self._make_all(ip, self.vlans, below, wait, best_effort)

    def _make_all(self, ip: Any, vlans: tuple[Vlan, ...], below: int, wait: float, best_effort: bool) -> list[str]:
        failures: list[str] = []
        for vlan in vlans:
            try:
                ifindex = stacked.make(vlan, below)
                apply.prepare_link(ip, ifindex, vlan.state.name, vlan.state, with_mac=True)
                found = (
                    apply.apply_state(ip, ifindex, vlan.state, wait=wait, best_effort=best_effort)
                    if vlan.state.is_up
                    else []
                )
            except (OSError, NetlinkError) as error:
                if not best_effort:
                    raise
                failures.append(f"VLAN {vlan.state.name}: {error}")
                continue
            self._moved.append(_Moved(vlan, ifindex))
            failures += [f"{vlan.state.name}: {failure}" for failure in found]
            failures += self._make_all(ip, vlan.state.vlans, ifindex, wait, best_effort)
        return failures

    def settle(self, ip: Any, *, wait: float, best_effort: bool = False) -> list[str]:
        """What packets need not wait for, their sockets too; what could not be done."""
        failures: list[str] = []
        for vlan, ifindex in self._moved:
            state = vlan.state
            found = apply.settle_state(ip, ifindex, state, wait=wait if state.is_up else 0, best_effort=best_effort)
            found += other_sockets.bind_again(self._packet_sockets.get(state.ifindex, []), state.name)
            found += multicast.join_again(self._members.get(state.ifindex, []), state.ifindex, ifindex)
            failures += [f"{state.name}: {failure}" for failure in found]
        return failures

    def close(self) -> None:
        """Lets go of the sockets."""
        for members in self._members.values():
            multicast.close(members)
        for sockets in self._packet_sockets.values():
            other_sockets.close(sockets)
