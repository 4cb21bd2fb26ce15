# SPDX-License-Identifier: Apache-2.0
"""What packets need on a NIC that comes home: made ready while others still handle them, set at once when it is there.

To compare first, as `pyvpp.linux.apply` does, takes some ms in which nobody handles packets. A NIC that has just come
has nothing yet, so all can be asked of Linux without looking. It refuses what it does not want; `apply` looks
afterwards, and does what is missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import time
from collections.abc import Mapping

from pyvpp.linux import apply, capture, neighbors, nexthops, routes, rtnetlink
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.rtnetlink import Netlink, Request

_NEWLINK, _NEWADDR = 16, 20
_LINK = struct.Struct("=BxHiII")  # family, type, interface, flags, which of them: struct ifinfomsg
_MTU, _TXQLEN, _ALIAS, _AF_SPEC, _GROUP = 4, 13, 20, 26, 27
_AF_INET6, _ADDR_GEN_MODE = 10, 8
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40
_CARRIER_SECONDS = 0.05  # virtual links have it within a ms; others take seconds, which `apply` waits
_HEADER_BYTES = 16  # struct nlmsghdr


class AtOnce:
    """A NIC's state as messages to Linux. To be made, used and closed in the namespace that the NIC comes to.

    `sysctls` are those to be written while it is down, `ifindex` is what the NIC will have: unless it does,
    nothing here fits. `names` are the other interfaces' by index.
    """

    def __init__(self, state: UplinkState, ifindex: int, names: Mapping[int, str], sysctls: dict[str, str]) -> None:
        self._state, self.ifindex, self._sysctls = state, ifindex, sysctls
        indexes = {name: index for index, name in names.items()} | {state.name: ifindex}
        self._down = _while_down(state, ifindex)
        self._up = [_flags(state, ifindex)]
        self._rest = [
            *(_address(address, ifindex) for address in state.addresses),
            *neighbors.requests(ifindex, state.neighbors),
            *nexthops.requests(state.nexthops, indexes),
            *routes.requests(state.routes, indexes),
        ]
        self._netlink = Netlink()

    def run(self) -> bool:
        """To be called as soon as the NIC is there, down; whether it carries packets by now."""
        with contextlib.suppress(OSError):
            apply.write_stable_secret(self._state.name, self._state)
            apply.write_sysctls(self._state.name, self._sysctls)
            self._netlink.ask(self._down)
            self._netlink.ask(self._up)
            carries = self._wait_for_carrier()
            self._netlink.ask(self._rest)
            return carries
        return False

    def _wait_for_carrier(self) -> bool:
        """Until then Linux drops what it sends, and the first question for a neighbor is repeated after a second."""
        deadline = time.monotonic() + (_CARRIER_SECONDS if self._state.carrier else 0)
        while not (running := _is_running(self._state.name)) and time.monotonic() < deadline:
            time.sleep(0.0005)
        return running

    def close(self) -> None:
        self._netlink.close()


def _is_running(name: str) -> bool:
    """Whether a link is up and has a carrier. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()))
    return bool(struct.unpack_from("H", answer, 16)[0] & _IFF_RUNNING)


def _while_down(state: UplinkState, ifindex: int) -> list[Request]:
    """The link's attributes; before it is up, so that Linux makes no link-local address by itself."""
    attributes = rtnetlink.attribute(_MTU, struct.pack("=I", state.mtu))
    attributes += rtnetlink.attribute(_TXQLEN, struct.pack("=I", state.txqueuelen))
    attributes += rtnetlink.attribute(_GROUP, struct.pack("=I", state.group))
    attributes += rtnetlink.attribute(_ALIAS, state.alias.encode())
    found = [Request(_NEWLINK, 0, _LINK.pack(0, 0, ifindex, 0, 0) + attributes)]
    if state.address_generation is not None:
        mode = rtnetlink.attribute(_ADDR_GEN_MODE, struct.pack("=B", apply.EUI64_OFF))
        family = rtnetlink.attribute(_AF_SPEC, rtnetlink.attribute(_AF_INET6, mode))
        found.append(Request(_NEWLINK, 0, _LINK.pack(0, 0, ifindex, 0, 0) + family))
    return found


def _flags(state: UplinkState, ifindex: int) -> Request:
    flags = (state.flags & capture.KEPT_LINK_FLAGS) | capture.IFF_UP
    return Request(_NEWLINK, 0, _LINK.pack(0, 0, ifindex, flags, capture.KEPT_LINK_FLAGS | capture.IFF_UP))


def _address(address: capture.Address, ifindex: int) -> Request:
    message = apply.address_message(address, ifindex)
    message.encode()
    return Request(_NEWADDR, rtnetlink.NLM_F_CREATE, bytes(message.data[_HEADER_BYTES:]))
