# SPDX-License-Identifier: Apache-2.0
"""On which interfaces packets are coalesced and segmented without being told so."""

from typing import Any

from pyvpp.interface import OFFLOAD_ALL, Interface
from pyvpp_nodes.ethernet.interface_output import ARC

LINUX = ("tap", "tun")
"""Linux is behind them: each write and each packet in its stack costs about as much as 64 KiB cost in one."""
DEVICES = (*LINUX, "af-packet", "af-xdp")
"""What they send is read by others. The packet generator's capture shows packets as they are, unless told otherwise."""


def does_all(offload: int) -> bool:
    """Whether a device leaves nothing of what the node gso is for."""
    return offload & OFFLOAD_ALL == OFFLOAD_ALL


def offload_by_default(engine: Any) -> None:
    """`gro` runs on every TAP and TUN there will be, `gso` where a device does not do everything, unless withheld."""

    def enable(interface: Interface) -> None:
        wanted = {"gro": interface.kind in LINUX, "gso": interface.kind in DEVICES and not does_all(interface.offload)}
        for name, on in wanted.items():
            if on and name not in engine.withheld:
                engine.features.enable(ARC.name, name, interface.sw_if_index)

    engine.events.on("interface-created", enable)
