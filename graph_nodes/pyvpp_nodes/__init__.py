# SPDX-License-Identifier: Apache-2.0
"""The network stack: nodes, tables and control plane of Ethernet, ARP, IPv4, ICMP, tunnels and uplinks."""

from typing import Any

API = (
    "pyvpp_nodes.kit", "pyvpp_nodes.kit.hash_table", "pyvpp_nodes.kit.token_bucket", "pyvpp_nodes.kit.prefixes",
    "pyvpp_nodes.kit.transport", "pyvpp_nodes.kit.noise", "pyvpp_nodes.ethernet.header", "pyvpp_nodes.ip4.header",
    "pyvpp_nodes.ip6.header", "pyvpp_nodes.gso.checksum",
)  # fmt: skip
"""What of the stack is for plugins, see `pyvpp plugin api`."""


def start(engine: Any) -> None:
    """Builds the stack on an engine; called by the engine when it is made."""
    from pyvpp_nodes.stack import start_stack

    start_stack(engine)
