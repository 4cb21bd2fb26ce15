# SPDX-License-Identifier: Apache-2.0
"""The namespace where a NIC is while it is taken over, and the NIC in there."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pyroute2 import IPRoute

from pyvpp.errors import OperatorError
from pyvpp.linux import capture, ethtool, netns
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.ethtool import Offload


def make_namespace(path: Path) -> int:
    """Made anew and kept on `path`, as a file descriptor. Raises OperatorError when an uplink is in there."""
    if netns.is_kept(path):
        if left := netns.uplink_inside(path):
            raise OperatorError(f"{path}: {left} is still in there; run `pyvpp restore --runtime-dir {path.parent}`")
        netns.release_kept(path)
    descriptor = netns.create_kept(path)
    netns.run_in(descriptor, _switch_ip6_off)
    return descriptor


def _switch_ip6_off() -> None:
    for which in ("all", "default"):
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("1")


def bring_nic_up(name: str, state: UplinkState, gro: bool) -> int:
    """To be called in there when the NIC has come; its index."""
    with IPRoute() as ip:
        link = capture.find_link(ip, name)
        if link is None:
            raise OSError(f"{name} did not arrive in pyvpp's namespace")
        ifindex = int(link["index"])
        if link.get_attr("IFLA_MTU") != state.mtu:
            ip.link("set", index=ifindex, IFLA_MTU=state.mtu)
        ip.link("set", index=ifindex, flags=capture.IFF_UP, change=capture.IFF_UP | capture.IFF_PROMISC)
    if state.gro is not None and state.gro != gro:
        with contextlib.suppress(OSError):  # it is an improvement, no necessity
            ethtool.switch(name, Offload.GRO, gro)
    return ifindex
