# SPDX-License-Identifier: Apache-2.0
"""policer: how much may pass an interface, by one rate or two; what exceeds it is marked or dropped.

A policer belongs to no interface: several may use one, and share its tokens. Each worker has tokens of its own, so
packets that one policer is to judge together have to be seen by one worker (`set interface rx-placement`).

Not here: colour-aware metering, which nothing before a policer could colour packets for, and classes of packets.
"""

from typing import Any

from pyvpp_policer.owner import Policers


def start(engine: Any) -> None:
    """Called by the engine once it is put together."""
    engine.stack.policers = Policers(engine)


def resume(engine: Any, before: Any) -> None:
    """Called by the engine in the place of `start` when another version takes over: policers and their tokens stay."""
    engine.stack.policers = Policers(engine, engine.stack.policers)
