# SPDX-License-Identifier: Apache-2.0
"""The cycle counter, readable from Python."""

from pyvpp.dispatch import cycles
from pyvpp.jit import jit


@jit
def read_cycles() -> int:
    """The processor's cycle counter now."""
    return int(cycles())
