# SPDX-License-Identifier: Apache-2.0
"""Commands that switch segmentation and coalescing on an interface."""

from typing import Any

from pyvpp.cli.registry import Arguments, command
from pyvpp_nodes.ethernet.interface_output import ARC


@command("set interface feature gro", help="set interface feature gro INTERFACE [enable|disable]")
def set_interface_feature_gro(engine: Any, args: Arguments) -> None:
    """Coalesce the TCP packets of each frame that leaves by an interface; on from the start where Linux gets or sends
    them."""
    switch(engine, args, "gro")


@command("set interface feature gso", help="set interface feature gso INTERFACE [enable|disable]")
def set_interface_feature_gso(engine: Any, args: Arguments) -> None:
    """Segment large packets and finish checksums that the device behind an interface leaves; on from the start where it
    leaves any."""
    switch(engine, args, "gso")


def switch(engine: Any, args: Arguments, node: str) -> None:
    interface = args.interface(engine)
    on = args.expect("enable", "disable") == "enable" if args else True
    args.end()
    engine.features.enable(ARC.name, node, interface.sw_if_index, on)
