# SPDX-License-Identifier: Apache-2.0
"""The meters as the RFCs put them, with fractions of a byte and a clock that tests move; policers to try them with."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyvpp_nodes.kit.token_bucket import TOKEN, time_to_fill
from pyvpp_policer.meter import GREEN, POLICER, RED, TOKENS, YELLOW, Kind

SECOND = 10**9
PRECEDENCES = {
    10: GREEN, 12: YELLOW, 14: RED, 18: GREEN, 20: YELLOW, 22: RED, 26: GREEN, 28: YELLOW, 30: RED, 34: GREEN,
    36: YELLOW, 38: RED,
}  # fmt: skip
"""AF11 to AF43 (RFC 2597, 6)."""


@dataclass
class Meter:
    """Both buckets are full at first. An aware one begins with the colour that a packet had before."""

    kind: Kind
    rate: int
    burst: int
    rate2: int
    burst2: int
    at: int = 0
    aware: bool = False

    def __post_init__(self) -> None:
        self.first, self.second = Fraction(self.burst), Fraction(self.burst2)

    def colour(self, now: int, n: int, dscp: int = 0) -> int:
        before = PRECEDENCES.get(dscp, GREEN) if self.aware else GREEN
        passed, self.at = Fraction(now - self.at, SECOND), now
        if self.kind in (Kind.ONE_RATE, Kind.ONE_RATE_TWO_COLOURS):
            return self._one_rate(passed, n, before)
        self.first = min(Fraction(self.burst), self.first + passed * self.rate)
        self.second = min(Fraction(self.burst2), self.second + passed * self.rate2)
        return self._rfc2698(n, before) if self.kind is Kind.TWO_RATES_2698 else self._first_then_second(n, before)

    def _one_rate(self, passed: Fraction, n: int, before: int) -> int:
        """RFC 2697, 3: "If Tc is less than CBS, Tc is incremented by one, else if Te is less than EBS, Te is"."""
        new = passed * self.rate
        to_first = min(new, self.burst - self.first)
        self.first += to_first
        self.second = min(Fraction(self.burst2), self.second + new - to_first)
        return self._first_then_second(n, before)

    def _first_then_second(self, n: int, before: int) -> int:
        """RFC 2697, 3, and RFC 4115, 2: green only what was, yellow what was not red."""
        if before == GREEN and self.first >= n:
            self.first -= n
            return GREEN
        if before in (GREEN, YELLOW) and self.second >= n:
            self.second -= n
            return YELLOW
        return RED

    def _rfc2698(self, n: int, before: int) -> int:
        """RFC 2698, 3: red beyond the peak rate, else yellow beyond the committed one; or what it was."""
        if before == RED or self.second < n:
            return RED
        self.second -= n
        if before == YELLOW or self.first < n:
            return YELLOW
        self.first -= n
        return GREEN

    def rows(self, at: int) -> tuple[Any, Any]:
        """The same as the dataplane has it, full at a moment."""
        self.at = at
        policer, tokens = np.zeros(1, POLICER), np.zeros(1, TOKENS)
        one_rate = self.kind <= Kind.ONE_RATE
        policer["kind"], policer["rate"], policer["burst"] = self.kind, self.rate, self.burst
        policer["rate2"], policer["burst2"] = self.rate2, self.burst2
        policer["aware"] = self.aware
        policer["longest"] = time_to_fill(self.rate, self.burst + (self.burst2 if one_rate else 0))
        policer["longest2"] = time_to_fill(self.rate2, self.burst2)
        tokens["committed"], tokens["excess"], tokens["at"] = self.burst * TOKEN, self.burst2 * TOKEN, at
        return policer, tokens


RATES = st.one_of(st.integers(1, 10_000), st.integers(1, 12_500_000_000))
BURSTS = st.one_of(st.integers(0, 200), st.integers(0, 2_000_000_000))


@st.composite
def meters(draw: st.DrawFn) -> Meter:
    kind = draw(st.sampled_from(list(Kind)))
    burst2 = 0 if kind is Kind.ONE_RATE_TWO_COLOURS else draw(BURSTS)
    rate2 = 0 if kind <= Kind.ONE_RATE else draw(RATES)
    return Meter(kind, draw(RATES), draw(BURSTS), rate2, burst2, aware=draw(st.booleans()))
