# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.jit import jit
from pyvpp_nodes.kit.token_bucket import TOKEN
from pyvpp_policer import meter
from pyvpp_policer.meter import GREEN, RED, YELLOW, Kind
from tests.plugins.pyvpp_policer.model import PRECEDENCES, SECOND, Meter, meters


@jit
def police(policers, tokens, n, dscp, now):
    return meter.police(policers[0], tokens[0], n, dscp, now)


@jit
def precedence(dscp):
    return meter.precedence(dscp)


STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10**6), st.integers(0, 10**10)),
        st.one_of(st.integers(0, 300), st.integers(0, 65535)),
        st.one_of(st.sampled_from(sorted(PRECEDENCES)), st.integers(0, 63)),
    ),
    max_size=40,
)


@given(meters(), st.integers(0, 10**15), STEPS)
def test_every_packet_has_the_colour_of_the_rfc(model, begun, steps):
    """Nanoseconds between packets of so many bytes; the colours also after an hour of silence."""
    policer, tokens = model.rows(begun)
    now, seen, sizes = begun, [0, 0, 0], [0, 0, 0]
    for passed, n, dscp in [*steps, (3600 * SECOND, 100, 12), (1, 100, 0)]:
        now += passed
        colour = int(police(policer, tokens, n, dscp, now))
        assert colour == model.colour(now, n, dscp)
        seen[colour] += 1
        sizes[colour] += n
    assert tokens["packets"][0].tolist() == seen
    assert tokens["bytes"][0].tolist() == sizes


def test_one_rate_lets_its_burst_pass_and_then_its_rate():
    """1,000 bytes a second, bursts of 500 and 300: a packet of 100 bytes each 50 ms is twice what is allowed."""
    model = Meter(Kind.ONE_RATE, 1000, 500, 0, 300)
    policer, tokens = model.rows(0)
    colours = [int(police(policer, tokens, 100, 0, k * SECOND // 20)) for k in range(40)]
    assert colours[:9] == [GREEN] * 9  # 500 bytes and 50 more each time
    assert colours.count(GREEN) * 100 <= 500 + 1000 * 2
    assert colours[9:].count(YELLOW) == 3  # nothing falls into the second bucket while the first is not full
    assert colours[-2:] in ([RED, GREEN], [GREEN, RED])


def test_every_dscp_has_the_drop_precedence_of_rfc_2597():
    assert [int(precedence(dscp)) for dscp in range(64)] == [PRECEDENCES.get(dscp, GREEN) for dscp in range(64)]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.ONE_RATE_TWO_COLOURS])
def test_an_aware_one_leaves_no_packet_better_than_it_was(kind):
    """With tokens for all: yellow takes none that green packets would need, red takes none at all."""
    model = Meter(kind, 1000, 500, 1000, 500, aware=True)
    policer, tokens = model.rows(0)
    seen = [int(police(policer, tokens, 100, dscp, 0)) for dscp in (14, 30, 12, 46, 10)]
    assert seen == [RED, RED, YELLOW, GREEN, GREEN]
    assert int(tokens["committed"][0]) == 300 * TOKEN
    assert int(tokens["excess"][0]) == (200 if kind is Kind.TWO_RATES_2698 else 400) * TOKEN
