# SPDX-License-Identifier: Apache-2.0
"""Machine words in kernels: count their bits, load two table words as one, exchange them with other threads, prefetch.

Each is one machine instruction in compiled code and the same thing in Python otherwise.
"""

from typing import Any

from numba import types, uint64
from numba.extending import intrinsic

from pyvpp.jit import BOUNDSCHECK, COMPILED, inline
from pyvpp.typing import I64, U32


def _python_popcount(word: Any) -> int:
    return int(word).bit_count()


def _python_load64(array: U32, at: int) -> Any:
    if at < 0 or at + 2 > len(array):
        raise IndexError(f"two words at {at} of {len(array)}")
    return uint64(int(array[at]) | int(array[at + 1]) << 32)


def _python_prefetch(array: Any, at: int) -> None:
    pass


def _python_publish(array: Any, at: int, value: int) -> None:
    array[at] = value


def _python_publish_range32(array: U32, first: int, end: int, value: int) -> None:
    if first < 0 or end > len(array):
        raise IndexError(f"elements {first} to {end} of {len(array)}")
    array[first:end] = value


def _python_fetch64(array: I64, at: int) -> int:
    return int(array[at])


def _python_fence() -> None:
    pass


if COMPILED:
    from llvmlite import ir

    def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
        return builder.gep(context.make_array(array_type)(context, builder, array).data, [at])

    @intrinsic
    def _ctpop(typing: Any, word: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.ctpop(args[0])

        return types.int64(types.uint64), emit

    @intrinsic
    def _load64(typing: Any, array: Any, at: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _address(context, builder, signature.args[0], args[0], args[1])
            return builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()), align=4)

        return types.uint64(array, types.int64), emit

    @intrinsic
    def _publish32(typing: Any, array: Any, at: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _address(context, builder, signature.args[0], args[0], args[1])
            builder.store_atomic(builder.trunc(args[2], ir.IntType(32)), pointer, "release", 4)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), emit

    @intrinsic
    def _fetch64(typing: Any, array: Any, at: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _address(context, builder, signature.args[0], args[0], args[1])
            return builder.load_atomic(pointer, "acquire", 8)

        return types.int64(array, types.int64), emit

    @intrinsic
    def _publish64(typing: Any, array: Any, at: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _address(context, builder, signature.args[0], args[0], args[1])
            builder.store_atomic(args[2], pointer, "release", 8)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), emit

    @intrinsic
    def _fence(typing: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.fence("seq_cst")
            return context.get_dummy_value()

        return types.void(), emit

    def _prefetch_of(locality: int) -> Any:
        @intrinsic
        def prefetch(typing: Any, array: Any, at: Any) -> Any:
            def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                bytes_at, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
                kind = ir.FunctionType(ir.VoidType(), [bytes_at, i32, i32, i32])
                function = builder.module.declare_intrinsic("llvm.prefetch", [bytes_at], kind)
                address = builder.bitcast(_address(context, builder, signature.args[0], args[0], args[1]), bytes_at)
                builder.call(function, [address, i32(0), i32(locality), i32(1)])
                return context.get_dummy_value()

            return types.void(array, types.int64), emit

        return prefetch

    _prefetch, _prefetch_once = _prefetch_of(3), _prefetch_of(0)

    @inline
    def prefetch(array: Any, at: int) -> None:
        """Asks for the cache line of an element that will be read soon; never faults."""
        _prefetch(array, at)

    @inline
    def prefetch_once(array: Any, at: int) -> None:
        """`prefetch` of what is read only once and should push nothing else out of the caches."""
        _prefetch_once(array, at)

    @inline
    def popcount(word: Any) -> int:
        """How many bits of an unsigned 64-bit word are set."""
        return _ctpop(word)

    @inline
    def load64(array: U32, at: int) -> Any:
        """Elements `at` and `at + 1` as one unsigned word, the first in its low half."""
        if BOUNDSCHECK and (at < 0 or at + 2 > len(array)):
            raise IndexError("two words outside the array")
        return _load64(array, at)

    @inline
    def publish32(array: U32, at: int, value: int) -> None:
        """One atomic store with release order: whoever sees it sees all that was stored before it."""
        if BOUNDSCHECK and (at < 0 or at >= len(array)):
            raise IndexError("store outside the array")
        _publish32(array, at, value)

    @inline
    def fetch64(array: I64, at: int) -> int:
        """An atomic load with acquire order: all that was stored before what it sees is seen after it."""
        if BOUNDSCHECK and (at < 0 or at >= len(array)):
            raise IndexError("load outside the array")
        return _fetch64(array, at)

    @inline
    def publish64(array: I64, at: int, value: int) -> None:
        """`publish32` of an int64."""
        if BOUNDSCHECK and (at < 0 or at >= len(array)):
            raise IndexError("store outside the array")
        _publish64(array, at, value)

    @inline
    def fence() -> None:
        """No load below happens before a store above is seen by others, which acquire and release do not promise."""
        _fence()

    @inline
    def publish_range32(array: U32, first: int, end: int, value: int) -> None:
        """`publish32` for each element from `first` to before `end` that has another value."""
        for at in range(first, end):
            if array[at] != value:
                publish32(array, at, value)
else:
    popcount, load64, publish32, publish_range32, prefetch, prefetch_once = (
        _python_popcount,
        _python_load64,
        _python_publish,
        _python_publish_range32,
        _python_prefetch,
        _python_prefetch,
    )
    fetch64, publish64, fence = _python_fetch64, _python_publish, _python_fence
