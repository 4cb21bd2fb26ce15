# SPDX-License-Identifier: Apache-2.0
"""`int64(x)`: how kernels widen what they load; the type checker sees an int.

In numba int(x) stays as unsigned as x was, and uint64 with int64 gives float64: what is calculated with becomes int64.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    int64 = int
else:
    from numba import int64

__all__ = ["int64"]
