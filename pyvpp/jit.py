# SPDX-License-Identifier: Apache-2.0
"""How kernels are compiled: the only place that names numba's flags.

`jit` is for kernels and for functions that control code calls; `inline` for small functions that kernels call. Neither
compiles at import. Under NUMBA_DISABLE_JIT=1 both leave the function as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba import config, types
from numba.core.bytecode import FunctionIdentity
from numba.extending import intrinsic

from pyvpp import cache

P = ParamSpec("P")
R = TypeVar("R")

# numba reads the variable once, when it is imported, and whoever imports a kernel may have imported numba before.
vars(config)["CACHE_DIR"] = str(cache.directory())

COMPILED = not getattr(config, "DISABLE_JIT", 0)
BOUNDSCHECK = bool(getattr(config, "BOUNDSCHECK", None))
# numpy's error model: a division by zero gives a value instead of an exception nobody could catch. No reference counts:
# an atomic increment and decrement for every array of every call cost a node 30 clocks; nothing here owns memory.
FLAGS: Any = {"nogil": True, "error_model": "numpy", "_nrt": False}


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles on first call, without the GIL, and keeps the code on disk (`pyvpp.compile` says where)."""
    return cast(Callable[P, R], numba.njit(cache=True, forceinline=False, **FLAGS)(function))


def allocating_jit(function: Callable[P, R]) -> Callable[P, R]:
    """`jit` for compiled functions of control code that make arrays, which a kernel cannot."""
    return cast(Callable[P, R], numba.njit(cache=True, **{**FLAGS, "_nrt": True})(function))


@dataclass(frozen=True)
class Native:
    """Declares compiled functions of control code, at module level: `use` runs each of them once.

    So they are compiled together with the nodes, before anything is taken over.
    """

    name: str
    use: Callable[[], None]


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """For small functions called by kernels: LLVM inlines them into the kernel's own code, whatever their size.

    (A call it leaves costs some 8 clocks: an array is passed as seven words.) Not numba's inline="always", which types
    the body anew at every call and made compiling several times slower.
    """
    return cast(Callable[P, R], numba.njit(**FLAGS, forceinline=True)(function))


def outline(function: Callable[P, R]) -> Callable[P, R]:
    """For what few packets need: compiled outside the kernel's loop, if it begins with `rare_case()`.

    It becomes part of each kernel's code and is not cached by itself: its signature may name a plugin's enums, and a
    cache that cannot be read without that plugin would be no use to others.
    """
    return cast(Callable[P, R], numba.njit(forceinline=False, **FLAGS)(function))


if COMPILED:

    @intrinsic  # type: ignore[untyped-decorator]
    def _rare_case(typing: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.function.attributes.add("noinline")
            builder.function.attributes.add("cold")
            return context.get_dummy_value()

        return types.void(), emit

    rare_case: Any = _rare_case
    """The first statement of an `outline` function for what few packets need: it stays outside the kernel's loop.

    The loop has the registers for itself then: ip4-input takes 10.3 clocks a packet instead of 11.4.
    """
else:

    def rare_case() -> None:
        """Nothing, in plain Python."""


@contextmanager
def cached_in(directory: Path) -> Iterator[None]:
    """Functions declared in the block have their code there."""
    before = vars(config)["CACHE_DIR"]
    vars(config)["CACHE_DIR"] = str(directory)
    try:
        yield
    finally:
        vars(config)["CACHE_DIR"] = before


def number_functions_from(start: int) -> None:
    """numba tells functions of one name apart by a number that it counts from 1 in each process.

    Where code of several processes meets in one, a name stands for the code that was there first: a function that a
    kernel calls, in a second version of it, would be the first version's. So who compiles a version counts from a
    number of its own.
    """
    FunctionIdentity._unique_ids = count(start)


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """The Python function behind a compiled one."""
    return cast(Callable[P, R], getattr(function, "py_func", function))
