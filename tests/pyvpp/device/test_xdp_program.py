# SPDX-License-Identifier: Apache-2.0
"""The assembler: instructions encode as Linux' own headers say (struct bpf_insn, linux/bpf.h)."""

from __future__ import annotations

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from pyvpp.device import bpf, xdp_program
from pyvpp.device.bpf import Instruction, Register


class BpfInsn(ctypes.LittleEndianStructure):
    """struct bpf_insn."""

    _fields_ = (
        ("code", ctypes.c_uint8),
        ("dst_reg", ctypes.c_uint8, 4),
        ("src_reg", ctypes.c_uint8, 4),
        ("off", ctypes.c_int16),
        ("imm", ctypes.c_int32),
    )


@given(
    st.integers(0, 255), st.sampled_from(Register), st.integers(0, 10), st.integers(-(2**15), 2**15 - 1),
    st.integers(-(2**31), 2**31 - 1),
)  # fmt: skip
def test_an_instruction_is_struct_bpf_insn(code: int, dst: Register, src: int, off: int, imm: int) -> None:
    assert Instruction(code, dst, src, off, imm).encode() == bytes(BpfInsn(code, dst, src, off, imm))


LD, LDX, ALU64, JMP = 0x00, 0x01, 0x07, 0x05  # BPF_CLASS
STX = 0x03
W, B, DW, IMM, MEM, ADD, MOV, K, X, CALL, EXIT = 0x00, 0x10, 0x18, 0x00, 0x60, 0x00, 0xB0, 0x00, 0x08, 0x80, 0x90
JEQ, JNE = 0x10, 0x50


def test_opcodes_are_made_of_their_fields() -> None:
    assert bpf.load_word(Register.R2, Register.R1, 16) == [Instruction(LDX | W | MEM, Register.R2, Register.R1, 16)]
    assert bpf.set_to(Register.R3, 2) == [Instruction(ALU64 | MOV | K, Register.R3, immediate=2)]
    assert bpf.call(51) == [Instruction(JMP | CALL, immediate=51)]
    assert bpf.leave() == [Instruction(JMP | EXIT)]
    assert bpf.load_byte(Register.R2, Register.R10, -8) == [Instruction(LDX | B | MEM, Register.R2, Register.R10, -8)]
    assert bpf.store_word(Register.R1, 8, Register.R2) == [Instruction(STX | W | MEM, Register.R1, Register.R2, 8)]
    assert bpf.copy_register(Register.R6, Register.R1) == [Instruction(ALU64 | MOV | X, Register.R6, Register.R1)]
    assert bpf.add(Register.R3, -8) == [Instruction(ALU64 | ADD | K, Register.R3, immediate=-8)]
    first, second = bpf.load_map(Register.R1, 7)
    assert first == Instruction(LD | DW | IMM, Register.R1, 1, immediate=7)  # source 1: BPF_PSEUDO_MAP_FD
    assert second == Instruction(0)


def test_a_condition_jumps_past_its_body() -> None:
    body = [*bpf.set_to(Register.R0, 1), *bpf.load_map(Register.R1, 7)]
    for condition, opposite in ((bpf.when, JNE), (bpf.unless, JEQ)):
        assert condition(Register.R2, -5, body[:1], body[1:]) == [
            Instruction(JMP | opposite | K, Register.R2, 0, len(body), -5),
            *body,
        ]


def test_the_program() -> None:
    assert xdp_program.redirect_program(9).hex(" ", 8) == (
        "6112100000000000 1811000009000000 0000000000000000 b703000002000000 8500000033000000 9500000000000000"
    )
