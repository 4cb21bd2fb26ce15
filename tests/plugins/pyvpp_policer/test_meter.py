# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.jit import jit
from pyvpp_policer import meter
from pyvpp_policer.meter import GREEN, RED, YELLOW, Kind
from tests.plugins.pyvpp_policer.model import SECOND, Meter, meters


@jit
def police(policers, tokens, n, now):
    return meter.police(policers[0], tokens[0], n, now)


STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10**6), st.integers(0, 10**10)), st.one_of(st.integers(0, 300), st.integers(0, 65535))
    ),
    max_size=40,
)


@given(meters(), st.integers(0, 10**15), STEPS)
def test_every_packet_has_the_colour_of_the_rfc(model, begun, steps):
    """Nanoseconds between packets of so many bytes; the colours also after an hour of silence."""
    policer, tokens = model.rows(begun)
    now, seen = begun, [0, 0, 0]
    for passed, n in [*steps, (3600 * SECOND, 100), (1, 100)]:
        now += passed
        colour = int(police(policer, tokens, n, now))
        assert colour == model.colour(now, n)
        seen[colour] += 1
    assert tokens["packets"][0].tolist() == seen


def test_one_rate_lets_its_burst_pass_and_then_its_rate():
    """1,000 bytes a second, bursts of 500 and 300: a packet of 100 bytes each 50 ms is twice what is allowed."""
    model = Meter(Kind.ONE_RATE, 1000, 500, 0, 300)
    policer, tokens = model.rows(0)
    colours = [int(police(policer, tokens, 100, k * SECOND // 20)) for k in range(40)]
    assert colours[:9] == [GREEN] * 9  # 500 bytes and 50 more each time
    assert colours.count(GREEN) * 100 <= 500 + 1000 * 2
    assert colours[9:].count(YELLOW) == 3  # nothing falls into the second bucket while the first is not full
    assert colours[-2:] in ([RED, GREEN], [GREEN, RED])
