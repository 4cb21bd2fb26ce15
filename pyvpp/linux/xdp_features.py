# SPDX-License-Identifier: Apache-2.0
"""What an interface's driver can do for XDP, as the netdev family of generic netlink tells it (linux/netdev.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

_DEV_GET = 1
_BASIC, _REDIRECT, _ZERO_COPY, _RX_FRAGMENTS = 1, 2, 8, 32
_TX_CHECKSUM = 2


class _Device(genlmsg):  # type: ignore[misc]
    """struct netdev_dev: attributes of NETDEV_CMD_DEV_GET."""

    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "hex"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
        ("NETDEV_A_DEV_XDP_ZC_MAX_SEGS", "uint32"),
        ("NETDEV_A_DEV_XDP_RX_METADATA_FEATURES", "uint64"),
        ("NETDEV_A_DEV_XSK_FEATURES", "uint64"),
    )


@dataclass(frozen=True)
class XdpFeatures:
    """`native`: programs run in the driver and can redirect. `zero_copy_pieces`: of one packet, at most."""

    native: bool = False
    zero_copy: bool = False
    fragments: bool = False
    zero_copy_pieces: int = 1
    tx_checksum: bool = False


def read(ifindex: int) -> XdpFeatures | None:
    """The features of an interface in the caller's namespace; None when Linux (before 6.3) does not tell."""
    request = _Device()
    request["cmd"], request["version"] = _DEV_GET, 1
    request["attrs"] = [("NETDEV_A_DEV_IFINDEX", ifindex)]
    try:
        with GenericNetlinkSocket() as netlink:
            netlink.bind("netdev", _Device)
            answer: Any = next(iter(netlink.nlm_request(request, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST)))
    except (NetlinkError, OSError, StopIteration):
        return None
    features = int(answer.get_attr("NETDEV_A_DEV_XDP_FEATURES") or 0)
    return XdpFeatures(
        native=features & (_BASIC | _REDIRECT) == _BASIC | _REDIRECT,
        zero_copy=bool(features & _ZERO_COPY),
        fragments=bool(features & _RX_FRAGMENTS),
        zero_copy_pieces=int(answer.get_attr("NETDEV_A_DEV_XDP_ZC_MAX_SEGS") or 1),
        tx_checksum=bool(int(answer.get_attr("NETDEV_A_DEV_XSK_FEATURES") or 0) & _TX_CHECKSUM),
    )
