# SPDX-License-Identifier: Apache-2.0
"""Linux in a VLAN without Linux' VLAN devices, which not every kernel has; and frames with tags, one by one.

`in_vlan` puts BPF programs in the place of a VLAN device: what leaves by an interface gets a tag, beside the packet as a
VLAN device leaves it; what arrives with that tag loses it, and whatever else arrives is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyvpp.device import bpf
from pyvpp.device.bpf import Register
from tests.system.conftest import Namespace

# linux/bpf.h: BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS and _EGRESS, bpf_skb_vlan_push and _pop, struct __sk_buff
SCHEDULER_PROGRAM, TCX_INGRESS, TCX_EGRESS = 3, 46, 47
PUSH, POP, VLAN_TCI = 18, 19, 24
PASS, SHOT = 0, 2
SOL_PACKET, PACKET_AUXDATA = 263, 8
AUXDATA = struct.Struct("=IIIHHHH")
TP_STATUS_VLAN_VALID = 0x10
ALL_PROTOCOLS = 3


@contextlib.contextmanager
def in_vlan(namespace: Namespace, vlan: int, name: str = "eth0") -> Iterator[None]:
    """All that an interface of Linux sends and receives is in a VLAN."""
    tag = bpf.assemble(
        bpf.set_to(Register.R2, socket.htons(0x8100)), bpf.set_to(Register.R3, vlan), bpf.call(PUSH),
        bpf.set_to(Register.R0, PASS), bpf.leave(),
    )  # fmt: skip
    untag = bpf.assemble(
        bpf.load_word(Register.R2, Register.R1, VLAN_TCI),
        bpf.when(Register.R2, vlan, bpf.call(POP), bpf.set_to(Register.R0, PASS), bpf.leave()),
        bpf.set_to(Register.R0, SHOT), bpf.leave(),
    )  # fmt: skip
    links = []
    try:
        for code, where in ((tag, TCX_EGRESS), (untag, TCX_INGRESS)):
            program = bpf.load_program(code, SCHEDULER_PROGRAM, where, b"in_vlan")
            try:
                links.append(
                    namespace.inside(
                        lambda program=program, where=where: bpf.create_link(  # type: ignore[misc]
                            program, socket.if_nametoindex(name), where
                        )
                    )
                )
            finally:
                os.close(program)
        yield
    finally:
        for link in links:
            os.close(link)


class Tagged(NamedTuple):
    """A frame and the tag that Linux took out of it, None where there was none."""

    vlan: int | None
    frame: bytes


class Wire:
    """An interface of Linux as frames come and go by it; its tags are in the frames that are sent."""

    def __init__(self, namespace: Namespace, name: str = "eth0", seconds: float = 10) -> None:
        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
            made.bind((name, ALL_PROTOCOLS))
            made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            made.settimeout(seconds)
            return made

        self._socket = namespace.inside(opened)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self) -> Tagged:
        """The next frame that arrives. Raises TimeoutError."""
        while True:
            frame, ancillary, _, sender = self._socket.recvmsg(1 << 17, 64)
            if sender[2] == socket.PACKET_OUTGOING:
                continue
            vlan = None
            for level, kind, data in ancillary:
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    status, *_, tci, _ = AUXDATA.unpack(data)
                    vlan = tci & 0xFFF if status & TP_STATUS_VLAN_VALID else None
            return Tagged(vlan, frame)

    def until(self, wanted: bytes) -> Tagged:
        """The first frame that holds these bytes. Raises TimeoutError."""
        while True:
            found = self.receive()
            if wanted in found.frame:
                return found
