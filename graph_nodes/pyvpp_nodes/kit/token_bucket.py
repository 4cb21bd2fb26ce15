# SPDX-License-Identifier: Apache-2.0
"""Token buckets: how many bytes may have passed by now, at a rate and with bursts (RFC 2697, 1; RFC 2698, 1).

Tokens are kept in billionths of a byte, so that a rate in bytes a second times nanoseconds is exact: nothing is rounded
away however often a bucket is looked at.
"""

from pyvpp.jit import inline

TOKEN = 1_000_000_000
"""What a byte costs."""

MOST_BURST = (1 << 62) // TOKEN
"""Bytes, 4.6 GB: what a bucket holds, and what is added to it at once, fit a signed word together."""


def time_to_fill(rate: int, burst: int) -> int:
    """Nanoseconds in which an empty bucket of so many bytes is full: what `filled` need not look beyond."""
    return -(-burst * TOKEN // rate) if rate else 0


@inline
def filled(tokens: int, elapsed: int, rate: int, burst: int, longest: int) -> int:
    """The tokens of a bucket of `burst` bytes, so many nanoseconds after it had `tokens`.

    `longest` is its `time_to_fill`.
    """
    return min(tokens + min(elapsed, longest) * rate, burst * TOKEN)
