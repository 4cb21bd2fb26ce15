# SPDX-License-Identifier: Apache-2.0
"""How kernels are compiled: the only place that names numba's flags.

`jit` is for kernels and for functions that control code calls; `inline` for small functions that kernels call. Neither
compiles at import. Under NUMBA_DISABLE_JIT=1 both leave the function as it is.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba import config

from pyvpp import cache

P = ParamSpec("P")
R = TypeVar("R")

# numba reads the variable once, when it is imported, and whoever imports a kernel may have imported numba before.
vars(config)["CACHE_DIR"] = str(cache.directory())

COMPILED = not getattr(config, "DISABLE_JIT", 0)
BOUNDSCHECK = bool(getattr(config, "BOUNDSCHECK", None))
# numpy's error model: a division by zero gives a value instead of an exception nobody could catch
FLAGS: Any = {"nogil": True, "error_model": "numpy"}


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles on first call, without the GIL, and keeps the code on disk (`pyvpp.compile` says where)."""
    return cast(Callable[P, R], numba.njit(cache=True, **FLAGS)(function))


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """For small functions called by kernels: LLVM inlines them into the kernel's own code.

    Not numba's inline="always", which types the body anew at every call and made compiling several times slower.
    """
    return cast(Callable[P, R], numba.njit(**FLAGS)(function))


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """The Python function behind a compiled one."""
    return cast(Callable[P, R], getattr(function, "py_func", function))
