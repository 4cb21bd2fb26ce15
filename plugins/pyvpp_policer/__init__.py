# SPDX-License-Identifier: Apache-2.0
"""policer: how much may pass an interface, by one rate or two; what exceeds it is marked or dropped.

A policer belongs to no interface: several may use one, and share its tokens. Each worker has tokens of its own, so
packets that one policer is to judge together have to be seen by one worker (`set interface rx-placement`).

Packets of some DSCPs, a class, may have a policer of their own. A color-aware policer goes by what a router in front
has marked: the drop precedence of assured forwarding. Not here: classes by anything but the DSCP.
"""

from typing import Any

from pyvpp_policer.owner import Policers


def start(engine: Any) -> None:
    """Called by the engine once it is put together."""
    engine.stack.policers = Policers(engine)


def resume(engine: Any, before: Any) -> None:
    """Called by the engine in the place of `start` when another version takes over: policers and their tokens stay."""
    engine.stack.policers = Policers(engine, engine.stack.policers)
