# SPDX-License-Identifier: Apache-2.0
"""Types of kernel parameters: one-dimensional NumPy arrays, and records reached by attribute (`m = meta[b]; m.cur`)."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

U8: TypeAlias = NDArray[np.uint8]
U16: TypeAlias = NDArray[np.uint16]
U32: TypeAlias = NDArray[np.uint32]
U64: TypeAlias = NDArray[np.uint64]
I64: TypeAlias = NDArray[np.int64]
Records: TypeAlias = Any
"""Array of records of a structured dtype; the type checker cannot see their fields."""
Record: TypeAlias = Any
