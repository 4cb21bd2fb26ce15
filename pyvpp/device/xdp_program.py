# SPDX-License-Identifier: Apache-2.0
"""The XDP program that hands an interface's packets to AF_XDP sockets.

Six instructions: look up the socket of the queue a packet came by and redirect it there; a queue without one keeps
its packets for Linux.
"""

from __future__ import annotations

import struct

from pyvpp.device.bpf import (
    Pinned,
    Register,
    assemble,
    bpf,
    call,
    create_link,
    leave,
    load_map,
    load_word,
    set_to,
)
from pyvpp.device.bpf import load_program as load

_MAP_CREATE, _MAP_UPDATE = 0, 2
_MAP_TYPE_XSKMAP = 17
_PROG_TYPE_XDP = 6
_ATTACH_TYPE_XDP = 37
_PROG_HAS_FRAGS = 1 << 5

GENERIC = 2
"""Attach flag: the program runs on Linux' own packets (sk_buff), with every driver."""
NATIVE = 4
"""Attach flag: the program runs in the driver, before Linux makes a packet of its own."""

XDP_PASS = 2
REDIRECT_MAP = 51  # bpf_redirect_map(map, key, action if there is no such key)
RX_QUEUE_INDEX = 16  # offset in struct xdp_md


def redirect_program(map_fd: int) -> bytes:
    """return bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS)"""
    return assemble(
        load_word(Register.R2, Register.R1, RX_QUEUE_INDEX),
        load_map(Register.R1, map_fd),
        set_to(Register.R3, XDP_PASS),
        call(REDIRECT_MAP),
        leave(),
    )


def create_socket_map(entries: int) -> int:
    """An XSKMAP, sockets by queue number, as a file descriptor. Raises OSError."""
    return bpf(_MAP_CREATE, struct.pack("IIII", _MAP_TYPE_XSKMAP, 4, 4, entries))


def put_socket(map_fd: int, queue: int, socket_fd: int) -> None:
    """Raises OSError; a socket must be bound to be taken."""
    key, value = struct.pack("I", queue), struct.pack("i", socket_fd)
    with Pinned(key) as key_address, Pinned(value) as value_address:
        bpf(_MAP_UPDATE, struct.pack("IxxxxQQQ", map_fd, key_address, value_address, 0))


def load_program(code: bytes, *, fragments: bool) -> int:
    """A program as a file descriptor. `fragments`: it may be given packets in several pieces.

    Raises OSError, with what Linux' verifier said.
    """
    return load(code, _PROG_TYPE_XDP, _ATTACH_TYPE_XDP, b"pyvpp_redirect", _PROG_HAS_FRAGS if fragments else 0)


def attach(program_fd: int, ifindex: int, flags: int) -> int:
    """The link that keeps a program on an interface of the caller's namespace, as a file descriptor.

    Raises OSError: ERANGE when the MTU is larger than the driver's XDP takes, EOPNOTSUPP when it has none, EBUSY and
    EEXIST when another program is there.
    """
    return create_link(program_fd, ifindex, _ATTACH_TYPE_XDP, flags)
