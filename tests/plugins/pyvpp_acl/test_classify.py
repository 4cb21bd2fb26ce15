# SPDX-License-Identifier: Apache-2.0
"""The classifier finds what a linear scan finds: on small lists that meet in every way, and on large ones as firewalls have."""

import random
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.jit import jit
from pyvpp_acl import bench
from pyvpp_acl.classify import row_number
from pyvpp_acl.compile import Boxes
from pyvpp_acl.rules import ALL_PORTS, Action, Row, Sets, for_later_fragments, rows_of
from tests.plugins.pyvpp_acl.model import Compiled, Seen, linear, packets, rows


@jit
def number_of(words):
    return row_number(words[len(words) - 1])


def agrees(compiled: Compiled, number: int, given_rows: list[Row], seen: Seen) -> None:
    expected = linear(given_rows, seen)
    assert compiled.find(number, seen) == (None if expected is None else (expected.number, expected.action))


@given(rows(4), rows(6), rows(4), st.lists(packets(4), max_size=20), st.lists(packets(6), max_size=20))
def test_every_packet_finds_the_first_row_that_matches(first, second, third, packets4, packets6):
    """Contexts of both versions lie behind each other."""
    compiled = Compiled((first, 4), (second, 6), (third, 4))
    numbers = compiled.numbers
    for seen in packets4:
        agrees(compiled, numbers[0], first, seen)
        agrees(compiled, numbers[2], third, seen)
    for seen in packets6:
        agrees(compiled, numbers[1], second, seen)


@given(rows(4), st.lists(packets(4), min_size=1, max_size=10))
def test_a_later_fragment_is_judged_by_addresses_and_protocol(given_rows, seen):
    compiled = Compiled((given_rows, 4))
    (number,) = compiled.numbers
    fragments = int(compiled.arrays["acl_contexts"][number]["fragments"])
    for each in seen:
        expected = next(
            (
                row for row in given_rows
                if each.source in row.source and each.destination in row.destination
                and row.protocol in (0, each.protocol)
            ),
            None,
        )  # fmt: skip
        bare = Seen(each.source, each.destination, each.protocol)
        assert compiled.find(fragments, bare) == (None if expected is None else (expected.number, expected.action))
        assert expected == (None if expected is None else expected)
        agrees(compiled, fragments, for_later_fragments(given_rows), bare)


def test_every_port_of_every_kind_of_range():
    """Sixteen bits are swept, not sampled: each port against ranges that begin and end at block borders and beside them."""
    edges = [0, 1, 255, 256, 257, 1023, 1024, 8191, 8192, 16383, 16384, 32768, 65535]
    everywhere = IPv4Network("0.0.0.0/0")
    ranges = [(low, high) for low in edges for high in edges if low <= high]
    given_rows = [
        Row(k, Action.PERMIT, IPv4Network((k << 8, 24)), everywhere, 17, ALL_PORTS, range_, 0, 0)
        for k, range_ in enumerate(ranges)
    ]
    compiled = Compiled((given_rows, 4))
    (number,) = compiled.numbers
    for k, (low, high) in enumerate(ranges):
        source = IPv4Network((k << 8, 24))[7]
        for port in {max(0, low - 1), low, (low + high) // 2, high, min(65535, high + 1), *range(k, 65536, 4099)}:
            agrees(compiled, number, given_rows, Seen(source, source, 17, 5, port))


def test_a_row_says_its_number():
    """In two pieces, between its ports."""
    row = Row(
        0, Action.PERMIT, IPv4Network("10.0.0.0/8"), IPv4Network("10.0.0.0/8"), 6, (1, 65535), (65535, 65535), 2, 3
    )
    numbers = [1, 255, 65535, 65536, 0x12345678, 0xFFFFFFFE]
    assert [int(number_of(Boxes([row], 4).words(number)[0])) for number in numbers] == numbers


@pytest.mark.parametrize(("kind", "bits"), [(IPv4Network, 32), (IPv6Network, 128)])
def test_every_bit_of_an_address_counts_up_to_the_prefix_length(kind, bits):
    """One row alone, which no node tells apart from others: what is compared is compared in full."""
    address = 0x5A3CF00F_5A3CF00F_A5C30FF0_A5C30FF0 >> 128 - bits
    for length in (1, 7, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128):
        if length > bits:
            continue
        network, host = kind((address, length), strict=False), kind((address, bits))[0]
        given_rows = [Row(0, Action.PERMIT, network, network, 6, ALL_PORTS, (80, 80), 0, 0)]
        compiled = Compiled((given_rows, network.version))
        for bit in range(bits):
            other = kind((address ^ 1 << bit, bits))[0]
            for ends in ((other, host), (host, other)):
                agrees(compiled, compiled.numbers[0], given_rows, Seen(*ends, 6, 9, 80))


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 1000, 10000])
def test_lists_as_firewalls_have_them(n):
    given_rows = rows_of(list(enumerate(bench.rules(n))), Sets(), 4)
    assert len(given_rows) == n
    compiled = Compiled((given_rows, 4))
    (number,) = compiled.numbers
    hits = 0
    for source, destination, source_port, destination_port in bench.flows(n, 400):
        seen = Seen(source, destination, 17, source_port, destination_port)
        agrees(compiled, number, given_rows, seen)
        hits += linear(given_rows, seen) is not given_rows[-1]
    assert n == 10 or hits > 80


@pytest.mark.slow
def test_many_different_masks():
    """Prefixes of all lengths that begin anywhere, with ranges of ports that begin anywhere."""
    random_ = random.Random(5)
    given_rows = []
    for number in range(1500):
        source = IPv6Network((random_.getrandbits(128), random_.randrange(129)), strict=False)
        destination = IPv6Network((random_.getrandbits(128), random_.randrange(20)), strict=False)
        low = random_.randrange(65536)
        ports = (low, min(65535, low + random_.randrange(1 << random_.randrange(1, 16))))
        given_rows.append(Row(number, Action.DENY, source, destination, random_.choice((0, 6)), ports, ALL_PORTS, 0, 0))
    compiled = Compiled((given_rows, 6))
    (number,) = compiled.numbers
    for row in random_.sample(given_rows, 200):
        source, destination = row.source[random_.randrange(2) - 1], row.destination[random_.randrange(2) - 1]
        agrees(compiled, number, given_rows, Seen(source, destination, 6, random_.randint(*row.source_ports), 9))
