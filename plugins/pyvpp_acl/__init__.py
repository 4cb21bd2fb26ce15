# SPDX-License-Identifier: Apache-2.0
"""acl: which packets may pass an interface, by lists of rules, stateless and with sessions.

A list is applied to an interface for packets that arrive (input) or leave (output); several are looked through one
after the other, and the first rule that matches decides. A packet that no rule matches is denied. `permit+reflect`
makes a session, so that what comes back passes without a rule of its own.

Not here: rules for MAC addresses; ICMP errors that belong to a session, which need a rule of their own; and sessions
that several workers share: both directions of a flow have to be seen by one worker, which `set interface handoff
INTERFACE workers ... symmetrical` sees to.
"""

from typing import Any

from pyvpp_acl.owner import AclPlugin


def start(engine: Any) -> None:
    """Called by the engine once it is put together."""
    engine.stack.acl = AclPlugin(engine)


def resume(engine: Any, before: Any) -> None:
    """Called by the engine in the place of `start` when another version takes over: lists, hits and sessions stay."""
    engine.stack.acl = AclPlugin(engine, engine.stack.acl)
