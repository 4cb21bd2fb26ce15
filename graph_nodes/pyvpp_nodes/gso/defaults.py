# SPDX-License-Identifier: Apache-2.0
"""On which interfaces packets are coalesced without being told so."""

from typing import Any

from pyvpp.interface import Interface
from pyvpp_nodes.ethernet.interface_output import ARC

COALESCED_FOR = ("tap", "tun")
"""Linux is behind them: each write and each packet in its stack costs about as much as 64 KiB cost in one."""


def coalesce_for_linux(engine: Any) -> None:
    """`gro` runs on every TAP and TUN there will be, unless it is withheld."""
    if "gro" in engine.withheld:
        return

    def enable(interface: Interface) -> None:
        if interface.kind in COALESCED_FOR:
            engine.features.enable(ARC.name, "gro", interface.sw_if_index)

    engine.events.on("interface-created", enable)
