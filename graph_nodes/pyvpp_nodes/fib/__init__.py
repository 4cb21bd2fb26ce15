# SPDX-License-Identifier: Apache-2.0
"""The IPv4 FIB: routes, load balances, adjacencies and neighbors, and how they follow the engine's interfaces."""

from pyvpp_nodes.fib.stack import FibStack, create

__all__ = ["FibStack", "create"]
