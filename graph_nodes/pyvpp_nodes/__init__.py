# SPDX-License-Identifier: Apache-2.0
"""The network stack: nodes, tables and control plane of Ethernet, ARP, IPv4, ICMP, tunnels and uplinks."""

from typing import Any


def start(engine: Any) -> None:
    """Builds the stack on an engine; called by the engine when it is made."""
    from pyvpp_nodes.stack import start_stack

    start_stack(engine)
