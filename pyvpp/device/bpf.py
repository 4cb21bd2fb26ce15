# SPDX-License-Identifier: Apache-2.0
"""BPF programs without libbpf and without a compiler: assembled here from named instructions, loaded and attached by
bpf(2). `Documentation/bpf/standardization/instruction-set.rst` of Linux has the encoding.

A program is attached by a link: it stays where it is as long as the link's file descriptor is open, so a process that
dies in whatever way leaves none behind.
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
_PROG_LOAD, _LINK_CREATE = 5, 28
_ATTRIBUTE_BYTES = 128
_LOG_BYTES = 1 << 16


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


def load_byte(destination: Register, base: Register, offset: int) -> list[Instruction]:
    """destination = *(u8 *)(base + offset)"""
    return [Instruction(0x71, destination, base, offset)]


def store_word(base: Register, offset: int, source: Register) -> list[Instruction]:
    """*(u32 *)(base + offset) = source"""
    return [Instruction(0x63, base, source, offset)]


def load_map(destination: Register, map_fd: int) -> list[Instruction]:
    """destination = the map of a file descriptor; the loader puts its address there (BPF_PSEUDO_MAP_FD)."""
    return [Instruction(0x18, destination, 1, immediate=map_fd), Instruction(0)]


def set_to(destination: Register, value: int) -> list[Instruction]:
    """destination = value"""
    return [Instruction(0xB7, destination, immediate=value)]


def copy_register(destination: Register, source: Register) -> list[Instruction]:
    """destination = source"""
    return [Instruction(0xBF, destination, source)]


def add(destination: Register, value: int) -> list[Instruction]:
    """destination += value"""
    return [Instruction(0x07, destination, immediate=value)]


def when(register: Register, value: int, *body: list[Instruction]) -> list[Instruction]:
    """if register == value: body"""
    return _past(0x55, register, value, body)


def unless(register: Register, value: int, *body: list[Instruction]) -> list[Instruction]:
    """if register != value: body"""
    return _past(0x15, register, value, body)


def _past(opcode: int, register: Register, value: int, body: tuple[list[Instruction], ...]) -> list[Instruction]:
    """The body behind a jump past it."""
    inside = [each for group in body for each in group]
    return [Instruction(opcode, register, 0, len(inside), value), *inside]


def call(helper: int) -> list[Instruction]:
    """r0 = helper(r1, r2, r3, r4, r5)"""
    return [Instruction(0x85, immediate=helper)]


def leave() -> list[Instruction]:
    """return r0"""
    return [Instruction(0x95)]


def assemble(*instructions: list[Instruction]) -> bytes:
    """Machine code in the byte order of the wire format, little-endian, which all machines we run on have."""
    return b"".join(each.encode() for group in instructions for each in group)


def load_program(code: bytes, kind: int, attach_type: int, name: bytes, flags: int = 0) -> int:
    """A program of a kind (BPF_PROG_TYPE_*) as a file descriptor. Raises OSError, with what Linux' verifier said."""
    log = ctypes.create_string_buffer(_LOG_BYTES)
    with Pinned(code) as instructions, Pinned(b"Apache-2.0\0") as licence:
        attributes = struct.pack(
            "IIQQIIQII16sII", kind, len(code) // 8, instructions, licence, 1, _LOG_BYTES, ctypes.addressof(log), 0,
            flags, name, 0, attach_type,
        )  # fmt: skip
        try:
            return bpf(_PROG_LOAD, attributes)
        except OSError as error:
            said = log.value.decode(errors="replace").strip()
            raise OSError(error.errno, f"{error.strerror}{': ' if said else ''}{said}") from None


def create_link(program_fd: int, ifindex: int, attach_type: int, flags: int = 0) -> int:
    """The link that keeps a program on an interface of the caller's namespace, as a file descriptor. Raises OSError."""
    return bpf(_LINK_CREATE, struct.pack("IIII", program_fd, ifindex, attach_type, flags))


class Pinned:
    """Bytes at an address that stays while the block runs."""

    def __init__(self, data: bytes) -> None:
        self._room = ctypes.create_string_buffer(data, len(data))

    def __enter__(self) -> int:
        return ctypes.addressof(self._room)

    def __exit__(self, *failure: object) -> None:
        del self._room


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2). Raises OSError."""
    number = _SYSCALL_BPF.get(platform.machine())
    if number is None:
        raise OSError(38, f"bpf(2) has no number for {platform.machine()} here")
    syscall: Any = ctypes.CDLL(None, use_errno=True).syscall
    room = ctypes.create_string_buffer(attributes, _ATTRIBUTE_BYTES)
    result = int(syscall(ctypes.c_long(number), command, room, _ATTRIBUTE_BYTES))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
