# SPDX-License-Identifier: Apache-2.0
"""pg-capture: give a packet sent out of a packet generator's interface to whoever captures there, usually a file."""

from typing import Any

from pyvpp.node import Kind, node


@node(name="pg-capture", kind=Kind.PYTHON)
def pg_capture(engine: Any, packet: Any) -> None:
    engine.stack.packet_generator.captured(int(packet.meta["tx"]), packet.data)
