# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pyvpp_nodes.kit.token_bucket import MOST_BURST, TOKEN, filled, time_to_fill


@given(
    st.integers(0, 12_500_000_000),
    st.integers(0, MOST_BURST),
    st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**6)), max_size=20),
)
def test_a_bucket_is_exact_however_often_it_is_looked_at(rate, burst, steps):
    """Beside fractions of a byte: rate in bytes a second, nanoseconds between packets of so many bytes."""
    longest = time_to_fill(rate, burst)
    tokens, model = burst * TOKEN, Fraction(burst)
    for elapsed, size in steps:
        tokens = int(filled(tokens, elapsed, rate, burst, longest))
        model = min(model + Fraction(rate * elapsed, 10**9), Fraction(burst))
        assert Fraction(tokens, TOKEN) == model
        if model >= size:
            tokens, model = tokens - size * TOKEN, model - size


@given(st.integers(1, 12_500_000_000), st.integers(0, MOST_BURST))
def test_the_time_to_fill_is_the_least_that_fills(rate, burst):
    longest = time_to_fill(rate, burst)
    assert filled(0, longest, rate, burst, longest) == burst * TOKEN
    assert longest == 0 or (longest - 1) * rate < burst * TOKEN
    assert longest * rate < 1 << 63
