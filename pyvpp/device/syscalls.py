# SPDX-License-Identifier: Apache-2.0
"""System calls and ordered memory accesses for kernels of device drivers.

A call answers as the kernel does: what it returned, or minus errno. Compiled, it is a direct call of libc through
`numba.types.ExternalFunction`, which caches; as plain Python it goes through ctypes. Memory is named by heap offset
and turned into an address by `address_of` at the last moment.

A ring's status word is shared with the operating system: it is read with acquire and written with release order, so
that nothing of a frame is read before the frame is ours, nor written after it is not.
"""

from __future__ import annotations

import ctypes
from typing import Any

from llvmlite import ir
from numba import int32, int64, types, uint32, uint64
from numba.extending import intrinsic

from pyvpp.jit import COMPILED, inline
from pyvpp.typing import U8, Records

EAGAIN = 11
EIO = 5
EINVAL = 22
EBADFD = 77
ENETDOWN = 100
ENOBUFS = 105
MSG_PEEK = 0x2
MSG_DONTWAIT = 0x40
EPOLL_CTL_DEL = 2

_WORD = ir.IntType(32)
_LONG = ir.IntType(64)

if not COMPILED:
    _libc = ctypes.CDLL(None, use_errno=True)

    def _function(name: str, *arguments: Any) -> Any:
        function = _libc[name]
        function.restype = ctypes.c_ssize_t
        function.argtypes = arguments
        return function

    _read = _function("read", ctypes.c_int, ctypes.c_int64, ctypes.c_size_t)
    _write = _function("write", ctypes.c_int, ctypes.c_int64, ctypes.c_size_t)
    _sendto = _function(
        "sendto", ctypes.c_int, ctypes.c_int64, ctypes.c_size_t, ctypes.c_int, ctypes.c_int64, ctypes.c_uint32
    )

    _epoll_wait = _function("epoll_wait", ctypes.c_int, ctypes.c_int64, ctypes.c_int, ctypes.c_int)
    _epoll_ctl = _function("epoll_ctl", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
    _usleep = _function("usleep", ctypes.c_uint32)
    _recv = _function("recv", ctypes.c_int, ctypes.c_int64, ctypes.c_size_t, ctypes.c_int)

    def _errno() -> int:
        return ctypes.get_errno()

    def address_of(heap: U8, offset: int) -> int:
        """The address of a byte of the heap, for a system call."""
        return int(heap.ctypes.data) + offset

    def acquire32(heap: U8, offset: int) -> int:
        """Reads a word before everything that follows in program order."""
        return int.from_bytes(heap[offset : offset + 4].tobytes(), "little")

    def release32(heap: U8, offset: int, value: int) -> None:
        """Writes a word after everything that precedes in program order."""
        heap[offset : offset + 4].view("<u4")[0] = value

    def lock(rows: Records, offset: int) -> None:
        """Waits until this worker alone has what the word guards, at a byte offset of a table."""

    def unlock(rows: Records, offset: int) -> None:
        """Lets the next one."""

else:
    _external: Any = types.ExternalFunction
    _read = _external("read", types.int64(types.int32, types.int64, types.uint64))
    _write = _external("write", types.int64(types.int32, types.int64, types.uint64))
    _sendto = _external(
        "sendto",
        types.int64(types.int32, types.int64, types.uint64, types.int32, types.int64, types.uint32),
    )
    _recv = _external("recv", types.int64(types.int32, types.int64, types.uint64, types.int32))
    _epoll_wait = _external("epoll_wait", types.int32(types.int32, types.int64, types.int32, types.int32))
    _epoll_ctl = _external("epoll_ctl", types.int32(types.int32, types.int32, types.int32, types.int64))
    _usleep = _external("usleep", types.int32(types.uint32))
    _errno_location = _external("__errno_location", types.int64())

    def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, kind: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        data = builder.bitcast(data, ir.IntType(8).as_pointer())
        return builder.bitcast(builder.gep(data, [arguments[1]]), kind.as_pointer())

    @intrinsic
    def address_of(typing_context: Any, heap: Any, offset: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.ptrtoint(_pointer(context, builder, signature, arguments, ir.IntType(8)), _LONG)

        return types.int64(heap, types.int64), emit

    @intrinsic
    def acquire32(typing_context: Any, heap: Any, offset: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            at = _pointer(context, builder, signature, arguments, _WORD)
            return builder.zext(builder.load_atomic(at, "acquire", 4), _LONG)

        return types.int64(heap, types.int64), emit

    @intrinsic
    def release32(typing_context: Any, heap: Any, offset: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            at = _pointer(context, builder, signature, arguments, _WORD)
            builder.store_atomic(builder.trunc(arguments[2], _WORD), at, "release", 4)
            return context.get_dummy_value()

        return types.void(heap, types.int64, types.int64), emit

    @intrinsic
    def _exchange(typing_context: Any, rows: Any, offset: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            at = _pointer(context, builder, signature, arguments, _WORD)
            return builder.zext(builder.atomic_rmw("xchg", at, builder.trunc(arguments[2], _WORD), "acq_rel"), _LONG)

        return types.int64(rows, types.int64, types.int64), emit

    @inline
    def lock(rows: Records, offset: int) -> None:
        exchange: Any = _exchange
        while exchange(rows, offset, 1):
            pass

    @inline
    def unlock(rows: Records, offset: int) -> None:
        exchange: Any = _exchange
        exchange(rows, offset, 0)

    @intrinsic
    def _load_int(typing_context: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            at = builder.inttoptr(arguments[0], _WORD.as_pointer())
            return builder.sext(builder.load(at), _LONG)

        return types.int64(types.int64), emit

    @inline
    def _errno() -> int:
        load: Any = _load_int
        return int(load(_errno_location()))


@inline
def read(fd: int, address: int, n: int) -> int:
    """read(2)."""
    result = _read(int32(fd), int64(address), uint64(n))
    return result if result >= 0 else -_errno()


@inline
def write(fd: int, address: int, n: int) -> int:
    """write(2)."""
    result = _write(int32(fd), int64(address), uint64(n))
    return result if result >= 0 else -_errno()


@inline
def send(fd: int, address: int, n: int, flags: int) -> int:
    """sendto(2) without an address; without bytes it makes the operating system look at a transmit ring."""
    result = _sendto(int32(fd), int64(address), uint64(n), int32(flags), int64(0), uint32(0))
    return result if result >= 0 else -_errno()


@inline
def receive(fd: int, address: int, n: int) -> int:
    """recv(2) of what is there. No room for a packet socket's virtio_net_hdr is EINVAL, but the packet is gone."""
    result = _recv(int32(fd), int64(address), uint64(n), int32(MSG_DONTWAIT))
    if result < 0 and _errno() == ENETDOWN:  # an old error of the socket, told once, before any packet
        result = _recv(int32(fd), int64(address), uint64(n), int32(MSG_DONTWAIT))
    return result if result >= 0 else -_errno()


@inline
def take_socket_error(fd: int) -> int:
    """Zero, or minus the error that waits on a socket. It is forgotten by this; until then every poll returns.

    A packet that waits stays where it is (and has no room in no bytes: EINVAL).
    """
    if _recv(int32(fd), int64(0), uint64(0), int32(MSG_DONTWAIT | MSG_PEEK)) >= 0:
        return 0
    error = _errno()
    return 0 if error in (EAGAIN, EINVAL) else -error


@inline
def epoll_wait(epoll_fd: int, events: int, capacity: int, timeout_ms: int) -> int:
    """How many events were written at address `events`; negative on error."""
    return int(_epoll_wait(int32(epoll_fd), int64(events), int32(capacity), int32(timeout_ms)))


@inline
def epoll_forget(epoll_fd: int, fd: int) -> None:
    """Takes a descriptor out of an epoll."""
    _epoll_ctl(int32(epoll_fd), int32(EPOLL_CTL_DEL), int32(fd), int64(0))


@inline
def nanosleep(ns: int) -> None:
    """Sleeps for about so long, a microsecond at least."""
    _usleep(uint32(max(1, ns // 1000)))
