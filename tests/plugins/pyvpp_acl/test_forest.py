# SPDX-License-Identifier: Apache-2.0
"""Trees of rows as they are found, and as nobody would write them: what is found is right, and sizes are bounded."""

import random
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

import pytest

from pyvpp.errors import OperatorError
from pyvpp_acl import forest, rules
from pyvpp_acl.rules import ALL_PORTS, TCP, UDP, Action, Row, Rule, Sets, rows_of
from pyvpp_acl.synthetic import FLAVOURS, IP4, IP6, address_in, flows_of, realistic
from tests.plugins.pyvpp_acl.model import Compiled, Seen, linear

EVERYWHERE = IPv4Network("0.0.0.0/0")


def check(given_rows: Sequence[Row], seen: Sequence[Seen], version: int = 4) -> Compiled:
    compiled = Compiled((given_rows, version))
    (number,) = compiled.numbers
    for each in seen:
        expected = linear(given_rows, each)
        assert compiled.find(number, each) == (None if expected is None else (expected.number, expected.action))
    bound = 2 * (forest.NODES_A_ROW * len(given_rows) + forest.ROOM) + 1  # rows, and those for later fragments
    assert len(compiled.arrays["acl_nodes"]) <= bound
    words = {4: 4, 6: 10}[version]
    most = 2 * ((forest.LEAVES_A_ROW + forest.TREES) * len(given_rows) + forest.ROOM) + 1
    assert len(compiled.arrays[f"acl_leaves{version}"]) <= most * words
    assert max(int(n) for n in compiled.arrays["acl_contexts"]["n_trees"]) <= forest.TREES
    return compiled


@pytest.mark.slow
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flavour", sorted(FLAVOURS))
def test_lists_as_they_are_found(flavour: str, version: int) -> None:
    given_rows = rows_of(list(enumerate(realistic(flavour, 1500, version))), Sets(), version)
    assert len(given_rows) > 1300
    random_ = random.Random(flavour)
    seen = [Seen(s, d, random_.choice((TCP, UDP)), sp, dp) for s, d, sp, dp in flows_of(flavour, 1500, 150, version)]
    for row in random_.sample(given_rows, 100):
        ends = (
            address_in(network, within, random_)
            for network, within in zip((row.source, row.destination), IP4 if version == 4 else IP6, strict=True)
        )
        ports = random_.randint(*row.source_ports), random_.choice(row.destination_ports)
        seen.append(Seen(*ends, row.protocol or 99, *ports, random_.choice((0, 2, 16))))
    check(given_rows, seen, version)


def rows_with(ports: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> list[Row]:
    return [
        Row(k, Action.PERMIT, EVERYWHERE, EVERYWHERE, UDP, sources, destinations, 0, 0)
        for k, (sources, destinations) in enumerate(ports)
    ]


def packets_at(ports: Sequence[tuple[int, int]]) -> list[Seen]:
    here = IP4[0][1]
    return [Seen(here, here, UDP, *each) for each in ports]


RANDOM = random.Random(11)
PLACES = [(RANDOM.randrange(65536), RANDOM.randrange(65536)) for _ in range(60)]


def around(middle: int, half: int) -> tuple[int, int]:
    return max(0, middle - half), min(65535, middle + half)


PATHOLOGICAL = {
    "ranges that grow": [(ALL_PORTS, around(32768, 30 * k)) for k in range(600)],
    "squares that grow": [(around(32768, 30 * k), around(32768, 30 * k)) for k in range(600)],
    "a grid of stripes": [
        each for k in range(250) for each in (((200 * k, 200 * k + 80), ALL_PORTS), (ALL_PORTS, (190 * k, 190 * k + 90)))
    ],
    "squares anywhere": [
        (around(RANDOM.randrange(65536), 9000), around(RANDOM.randrange(65536), 9000)) for _ in range(600)
    ],
    "one rule again and again": [((5, 9), (7, 7))] * 600,
    "a port each": [(ALL_PORTS, (97 * k, 97 * k)) for k in range(600)],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_lists_as_nobody_would_write_them(name: str) -> None:
    ports = PATHOLOGICAL[name]
    edges = [(low[0], high[1]) for low, high in random.Random(3).sample(ports, 60)]
    check(rows_with(ports), packets_at([*PLACES, *edges]))


@pytest.mark.slow
def test_prefixes_of_every_length_around_one_address() -> None:
    """Those of both sides cross: 33 times 33 boxes that all hold one point."""
    point = 0xC6120507
    sides = [IPv4Network((point, length), strict=False) for length in range(32, -1, -1)]
    pairs = [(s, d) for s in sides for d in sides]
    random.Random(4).shuffle(pairs)
    given_rows = [Row(k, Action.PERMIT, s, d, 0, ALL_PORTS, ALL_PORTS, 0, 0) for k, (s, d) in enumerate(pairs)]
    ends = [IPv4Network((point ^ 1 << bit, 32))[0] for bit in range(32)]
    check(given_rows, [Seen(s, d, 6, 1, 1) for s in ends[::5] for d in ends[::3]])


@pytest.mark.slow
def test_flags_hide_no_row() -> None:
    """A rule for SYN in front of one for every packet, many times over."""
    given_rows = [
        Row(k, Action.PERMIT, EVERYWHERE, EVERYWHERE, 0, ALL_PORTS, (k // 2, k // 2 + 40), *((2, 18), (0, 0))[k & 1])
        for k in range(400)
    ]
    here = IP4[0][1]
    check(given_rows, [Seen(here, here, TCP, 1, port, flags) for port in range(0, 250, 7) for flags in (0, 2, 16, 18)])


def test_a_leaf_stays_long_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NODES_A_ROW", 0), ("LEAVES_A_ROW", 1), ("ROOM", 40)):
        monkeypatch.setattr(forest, name, value)
    check(rows_with(PATHOLOGICAL["squares anywhere"][:60]), packets_at(PLACES))


def test_sets_that_multiply_are_refused_by_a_limit_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_ROWS", 99)
    networks = tuple(IPv4Network((k << 8, 24)) for k in range(10))
    sets = Sets({"a": networks, "b": networks, "c": (IPv6Network("::/0"),)})
    with pytest.raises(OperatorError, match="sets make more than 99 rows of the rules of an interface"):
        rows_of([(0, Rule(Action.DENY, "a", "b"))], sets, 4)
    assert rows_of([(0, Rule(Action.DENY, "a", "b"))], sets, 6) == []
