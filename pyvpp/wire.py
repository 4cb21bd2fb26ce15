# SPDX-License-Identifier: Apache-2.0
"""Unaligned loads and stores on arrays of bytes, as they stand on the wire.

`be16(heap, at)` loads two bytes, most significant first, and gives a plain int; `put_be16(heap, at, value)` stores.
`be`/`le` and 16, 32, 64 for both, and `u8`. One machine instruction (and a swap): byte-wise loops cost two to four
times as much. Kernels write `u8(heap, at)` where Python would say heap[at]: numba looks whether a signed index counts
from the end, three instructions more for a case that no packet has.
Under NUMBA_DISABLE_JIT=1, or called from Python, the same functions work on the array's bytes.
With NUMBA_BOUNDSCHECK=1 an access outside the array raises IndexError.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic

from pyvpp.jit import BOUNDSCHECK, COMPILED, inline
from pyvpp.typing import U8

LINE = 64
"""Bytes of a cache line: what `copy_line(to, at, source, at)` copies between two arrays that do not overlap."""


def _python_load(size: int, order: Any) -> Any:
    def load(array: U8, at: int) -> int:
        if at < 0 or at + size > len(array):
            raise IndexError(f"{size} bytes at {at} of {len(array)}")
        return int.from_bytes(array[at : at + size].tobytes(), order)

    return load


def _python_store(size: int, order: Any) -> Any:
    def store(array: U8, at: int, value: int) -> None:
        if at < 0 or at + size > len(array):
            raise IndexError(f"{size} bytes at {at} of {len(array)}")
        mask = (1 << (8 * size)) - 1
        array[at : at + size] = list((int(value) & mask).to_bytes(size, order))

    return store


def _python_copy(array: U8, to: int, source: int, n: int) -> None:
    if n:
        if min(to, source) < 0 or max(to, source) + n > len(array):
            raise IndexError(f"copy of {n} bytes from {source} to {to} of {len(array)}")
        array[to : to + n] = array[source : source + n].copy()


def _python_copy_line(array: U8, to: int, origin: U8, source: int) -> None:
    if min(to, source) < 0 or to + LINE > len(array) or source + LINE > len(origin):
        raise IndexError(f"copy of {LINE} bytes from {source} of {len(origin)} to {to} of {len(array)}")
    array[to : to + LINE] = origin[source : source + LINE]


if COMPILED:
    from llvmlite import ir

    def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
        return builder.gep(context.make_array(array_type)(context, builder, array).data, [at])

    def _load(bits: int, big_endian: bool) -> Any:
        integer = ir.IntType(bits)
        # 64 bits stay unsigned; narrower loads fit an int64, and mixing that with uint64 gives float64 in numba
        result = types.uint64 if bits == 64 else types.int64

        @intrinsic
        def load(typing: Any, array: Any, at: Any) -> Any:
            def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                pointer = builder.bitcast(
                    _address(context, builder, signature.args[0], args[0], args[1]), integer.as_pointer()
                )
                value = builder.load(pointer, align=1)
                value = builder.bswap(value) if big_endian else value
                return value if bits == 64 else builder.zext(value, ir.IntType(64))

            return result(array, types.int64), emit

        return load

    def _store(bits: int, big_endian: bool) -> Any:
        integer = ir.IntType(bits)

        @intrinsic
        def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
            def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                pointer = builder.bitcast(
                    _address(context, builder, signature.args[0], args[0], args[1]), integer.as_pointer()
                )
                value = args[2] if bits == 64 else builder.trunc(args[2], integer)
                builder.store(builder.bswap(value) if big_endian else value, pointer, align=1)
                return context.get_dummy_value()

            return types.void(array, types.int64, types.uint64 if bits == 64 else types.int64), emit

        return store

    @intrinsic
    def _memmove(typing: Any, array: Any, to: Any, source: Any, n: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array_type = signature.args[0]
            bytes_at, i64 = ir.IntType(8).as_pointer(), ir.IntType(64)
            function = builder.module.declare_intrinsic("llvm.memmove", [bytes_at, bytes_at, i64])
            target = _address(context, builder, array_type, args[0], args[1])
            origin = _address(context, builder, array_type, args[0], args[2])
            builder.call(function, [target, origin, args[3], ir.Constant(ir.IntType(1), 0)])
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, types.int64), emit

    @intrinsic
    def _copy_line(typing: Any, array: Any, to: Any, origin: Any, source: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bytes_at, i64 = ir.IntType(8).as_pointer(), ir.IntType(64)
            function = builder.module.declare_intrinsic("llvm.memcpy", [bytes_at, bytes_at, i64])
            target = _address(context, builder, signature.args[0], args[0], args[1])
            start = _address(context, builder, signature.args[2], args[2], args[3])
            builder.call(function, [target, start, ir.Constant(i64, LINE), ir.Constant(ir.IntType(1), 0)])
            return context.get_dummy_value()

        return types.void(array, types.int64, origin, types.int64), emit

    def _checked_load(load: Any, size: int) -> Any:
        if not BOUNDSCHECK:
            return load

        @inline
        def checked(array: U8, at: int) -> Any:
            if at < 0 or at + size > len(array):
                raise IndexError("load outside the array")
            return load(array, at)

        return checked

    def _checked_store(store: Any, size: int) -> Any:
        if not BOUNDSCHECK:
            return store

        @inline
        def checked(array: U8, at: int, value: Any) -> None:
            if at < 0 or at + size > len(array):
                raise IndexError("store outside the array")
            store(array, at, value)

        return checked

    _copy: Any = _memmove
    if BOUNDSCHECK:

        @inline
        def _checked_copy(array: U8, to: int, source: int, n: int) -> None:
            if n < 0 or min(to, source) < 0 or max(to, source) + n > len(array):
                raise IndexError("copy outside the array")
            _memmove(array, to, source, n)

        _copy = _checked_copy

    @inline
    def copy_line(array: U8, to: int, origin: U8, source: int) -> None:
        """LINE bytes from one array to another that does not overlap it."""
        if BOUNDSCHECK and (min(to, source) < 0 or to + LINE > len(array) or source + LINE > len(origin)):
            raise IndexError("copy outside the array")
        _copy_line(array, to, origin, source)

    def _pair(bits: int, big_endian: bool) -> tuple[Any, Any]:
        size = bits // 8
        return _callable(_checked_load(_load(bits, big_endian), size), 2), _callable(
            _checked_store(_store(bits, big_endian), size), 3
        )

    def _callable(function: Any, arity: int) -> Any:
        """An intrinsic cannot be called from Python; a compiled function around it can, and costs a kernel nothing."""
        if arity == 2:

            @inline
            def load(array: U8, at: int) -> Any:
                return function(array, at)

            return load

        @inline
        def store(array: U8, at: int, value: Any) -> None:
            function(array, at, value)

        return store

    @inline
    def copy(array: U8, to: int, source: int, n: int) -> None:
        """n bytes from `source` to `to` of one array; the two may overlap."""
        _copy(array, to, source, n)
else:

    def _pair(bits: int, big_endian: bool) -> tuple[Any, Any]:
        order = "big" if big_endian else "little"
        return _python_load(bits // 8, order), _python_store(bits // 8, order)

    copy = _python_copy
    copy_line = _python_copy_line

u8, put_u8 = _pair(8, False)
"""`u8(array: U8, at: int) -> int` and `put_u8(array: U8, at: int, value: int)`: one byte; `at` counts bytes from 0."""
be16, put_be16 = _pair(16, True)
"""Two bytes, most significant first, as they stand on the wire. What does not fit is cut off, here and below."""
be32, put_be32 = _pair(32, True)
"""Four bytes, most significant first."""
be64, put_be64 = _pair(64, True)
"""Eight bytes, most significant first; in kernels an unsigned number of 64 bits, all others are int64."""
le16, put_le16 = _pair(16, False)
"""Two bytes in the machine's order, least significant first: what checksums are summed in (RFC 1071, 2 B)."""
le32, put_le32 = _pair(32, False)
"""Four bytes, least significant first."""
le64, put_le64 = _pair(64, False)
"""Eight bytes, least significant first; in kernels an unsigned number of 64 bits."""
