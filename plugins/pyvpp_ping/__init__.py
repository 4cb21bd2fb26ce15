# SPDX-License-Identifier: Apache-2.0
"""ping: echo requests from pyvpp's own command line, IPv4 and IPv6, and the answers to them.

Answers are known by their ICMP identifier, so any number of pings run at once; what belongs to none of them goes on as
if the plugin were not there. The times are the workers': what the command line waits for is not in them.

Not here: answers on uplinks, whose addresses are the host's (ping from there), and IPv6 neighbor discovery, which the
stack has not: an IPv6 neighbor has to be set, or be reached over a point-to-point interface.
"""

from typing import Any

from pyvpp_ping.owner import Pings


def start(engine: Any) -> None:
    """Called by the engine once it is put together."""
    engine.stack.pings = Pings(engine)


def resume(engine: Any, before: Any) -> None:
    """Called by the engine in the place of `start` when another version takes over: pings that run go on."""
    engine.stack.pings = Pings(engine, engine.stack.pings)
