# SPDX-License-Identifier: Apache-2.0
"""Why there is no figure."""


class BenchError(Exception):
    """Packets are lost, or are not what they must be."""


class AbsentError(BenchError):
    """A scenario needs nodes or commands that nobody has."""
