# SPDX-License-Identifier: Apache-2.0
"""The XDP program that hands an interface's packets to AF_XDP sockets, and the bpf(2) calls that load and attach it.

Six instructions: look up the socket of the queue a packet came by and redirect it there; a queue without one keeps
its packets for Linux. They are assembled here from named instructions, so that neither libbpf nor a compiler is
needed; `Documentation/bpf/standardization/instruction-set.rst` of Linux has the encoding.

The program is attached by a BPF link: it is on the interface as long as its file descriptor is open, so a process
that dies in whatever way leaves no program behind.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

_SYSCALL_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _LINK_CREATE = 0, 2, 5, 28
_MAP_TYPE_XSKMAP = 17
_PROG_TYPE_XDP = 6
_ATTACH_TYPE_XDP = 37
_PROG_HAS_FRAGS = 1 << 5
_ATTRIBUTE_BYTES = 128
_LOG_BYTES = 1 << 16

GENERIC = 2
"""Attach flag: the program runs on Linux' own packets (sk_buff), with every driver."""
NATIVE = 4
"""Attach flag: the program runs in the driver, before Linux makes a packet of its own."""

XDP_PASS = 2
REDIRECT_MAP = 51  # bpf_redirect_map(map, key, action if there is no such key)
RX_QUEUE_INDEX = 16  # offset in struct xdp_md


class Register(IntEnum):
    """r0: result; r1 to r5: arguments, r1 the packet's context at first; r10: frame pointer."""

    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)


@dataclass(frozen=True)
class Instruction:
    """Eight bytes: opcode, registers, offset, immediate. One that loads 64 bits is followed by its upper half."""

    opcode: int
    destination: Register = Register.R0
    source: int = 0
    offset: int = 0
    immediate: int = 0

    def encode(self) -> bytes:
        return struct.pack("<BBhi", self.opcode, self.source << 4 | self.destination, self.offset, self.immediate)


def load_word(destination: Register, base: Register, offset: int) -> list[Instruction]:
    """destination = *(u32 *)(base + offset)"""
    return [Instruction(0x61, destination, base, offset)]


def load_map(destination: Register, map_fd: int) -> list[Instruction]:
    """destination = the map of a file descriptor; the loader puts its address there (BPF_PSEUDO_MAP_FD)."""
    return [Instruction(0x18, destination, 1, immediate=map_fd), Instruction(0)]


def set_to(destination: Register, value: int) -> list[Instruction]:
    """destination = value"""
    return [Instruction(0xB7, destination, immediate=value)]


def call(helper: int) -> list[Instruction]:
    """r0 = helper(r1, r2, r3, r4, r5)"""
    return [Instruction(0x85, immediate=helper)]


def leave() -> list[Instruction]:
    """return r0"""
    return [Instruction(0x95)]


def assemble(*instructions: list[Instruction]) -> bytes:
    """Machine code in the byte order of the wire format, little-endian, which all machines we run on have."""
    return b"".join(each.encode() for group in instructions for each in group)


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
    return _bpf(_MAP_CREATE, struct.pack("IIII", _MAP_TYPE_XSKMAP, 4, 4, entries))


def put_socket(map_fd: int, queue: int, socket_fd: int) -> None:
    """Raises OSError; a socket must be bound to be taken."""
    key, value = struct.pack("I", queue), struct.pack("i", socket_fd)
    with _Pinned(key) as key_address, _Pinned(value) as value_address:
        _bpf(_MAP_UPDATE, struct.pack("IxxxxQQQ", map_fd, key_address, value_address, 0))


def load_program(code: bytes, *, fragments: bool) -> int:
    """A program as a file descriptor. `fragments`: it may be given packets in several pieces.

    Raises OSError, with what Linux' verifier said.
    """
    log = ctypes.create_string_buffer(_LOG_BYTES)
    with _Pinned(code) as instructions, _Pinned(b"Apache-2.0\0") as licence:
        attributes = struct.pack(
            "IIQQIIQII16sII", _PROG_TYPE_XDP, len(code) // 8, instructions, licence, 1, _LOG_BYTES,
            ctypes.addressof(log), 0, _PROG_HAS_FRAGS if fragments else 0, b"pyvpp_redirect", 0, _ATTACH_TYPE_XDP,
        )  # fmt: skip
        try:
            return _bpf(_PROG_LOAD, attributes)
        except OSError as error:
            said = log.value.decode(errors="replace").strip()
            raise OSError(error.errno, f"{error.strerror}{': ' if said else ''}{said}") from None


def attach(program_fd: int, ifindex: int, flags: int) -> int:
    """The link that keeps a program on an interface of the caller's namespace, as a file descriptor.

    Raises OSError: ERANGE when the MTU is larger than the driver's XDP takes, EOPNOTSUPP when it has none, EBUSY and
    EEXIST when another program is there.
    """
    return _bpf(_LINK_CREATE, struct.pack("IIII", program_fd, ifindex, _ATTACH_TYPE_XDP, flags))


class _Pinned:
    """Bytes at an address that stays while the block runs."""

    def __init__(self, data: bytes) -> None:
        self._room = ctypes.create_string_buffer(data, len(data))

    def __enter__(self) -> int:
        return ctypes.addressof(self._room)

    def __exit__(self, *failure: object) -> None:
        del self._room


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALL_BPF.get(platform.machine())
    if number is None:
        raise OSError(38, f"bpf(2) has no number for {platform.machine()} here")
    syscall: Any = ctypes.CDLL(None, use_errno=True).syscall
    room = ctypes.create_string_buffer(attributes, _ATTRIBUTE_BYTES)
    result = int(syscall(ctypes.c_long(number), command, room, _ATTRIBUTE_BYTES))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
