# SPDX-License-Identifier: Apache-2.0
"""Routes in bulk, of both families, against a dictionary of what sources say; and what they share."""

import random
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyvpp_nodes.fib.adjacency import ADMIN_UP, LINK_UP, Link
from pyvpp_nodes.fib.entry import DROP_PATH, Path, Paths, Source, Sources, attached_nexthop, recursive
from pyvpp_nodes.fib.fib import DEFAULTS, last_of_each
from pyvpp_nodes.fib.synthetic import routes4, routes6
from pyvpp_nodes.fib.trie.owner import Prefixes
from tests.graph_nodes.fib.trie.model import corners, keys, masked

UP = ADMIN_UP | LINK_UP
MAC = bytes.fromhex("0200000000aa")
SOURCES = st.sampled_from([Source.INTERFACE, Source.API, Source.CLI, Source.ADJ])
PATHS = st.lists(
    st.builds(attached_nexthop, st.integers(1, 3), st.sampled_from([1, 2])), min_size=1, max_size=2, unique=True
).map(tuple) | st.just((DROP_PATH,))


class Sayings(RuleBasedStateMachine):
    """Prefixes come and go one by one and in bulk; the dataplane follows what the best source says."""

    BITS = 32

    @initialize(bench=st.builds(lambda make: make(), st.deferred(lambda: BENCH)))
    def start(self, bench: Any) -> None:
        self.bench = bench
        self.fib = bench.fib if self.BITS == 32 else bench.fib6
        self.said: dict[tuple[int, int], Sources] = {}
        for prefix, length, source in DEFAULTS[self.fib.family]:
            self.say((prefix, length), source, (DROP_PATH,))
        self.used = bench.in_use()
        self.down: set[int] = set()
        self.asked: set[int] = {0}

    def say(self, key: tuple[int, int], source: Source, paths: Paths) -> None:
        self.said.setdefault(key, {})[source] = paths

    def unsay(self, key: tuple[int, int], source: Source) -> None:
        if self.said.get(key, {}).pop(source, None) and not self.said[key]:
            del self.said[key]

    @rule(data=st.data(), source=SOURCES, paths=PATHS)
    def one(self, data: st.DataObject, source: Source, paths: Paths) -> None:
        key = data.draw(self.known() | keys(self.BITS))
        entry = self.fib.update(key, paths, source)
        self.say(key, source, paths)
        assert entry.sources == self.said[key]
        self.asked.update(corners(key, self.BITS))

    @rule(data=st.data(), source=SOURCES)
    def one_less(self, data: st.DataObject, source: Source) -> None:
        key = data.draw(self.known() | keys(self.BITS))
        assert self.fib.remove(key, source) == (source in self.said.get(key, {}))
        self.unsay(key, source)

    @rule(data=st.data(), source=SOURCES, lists=st.lists(PATHS, min_size=1, max_size=3))
    def many(self, data: st.DataObject, source: Source, lists: list[Paths]) -> None:
        """In any order, some of them twice."""
        chosen = data.draw(st.lists(self.known() | keys(self.BITS), min_size=1, max_size=9))
        which = [data.draw(st.integers(0, len(lists) - 1)) for _ in chosen]
        self.fib.update_many(Prefixes.of(self.BITS, *chosen), lists, np.array(which, np.uint32), source)
        for key, k in zip(chosen, which, strict=True):
            self.say(key, source, lists[k])
            self.asked.update(corners(key, self.BITS))

    @rule(data=st.data(), source=SOURCES)
    def many_less(self, data: st.DataObject, source: Source) -> None:
        chosen = data.draw(st.lists(self.known() | keys(self.BITS), min_size=1, max_size=9))
        self.fib.remove_many(Prefixes.of(self.BITS, *chosen), source)
        for key in chosen:
            self.unsay(key, source)

    @rule(sw_if_index=st.sampled_from([1, 2]))
    def toggle(self, sw_if_index: int) -> None:
        self.down ^= {sw_if_index}
        self.bench.fib.link_state(sw_if_index, 0 if sw_if_index in self.down else UP)

    @rule(sw_if_index=st.sampled_from([1, 2]))
    def replace_interface(self, sw_if_index: int) -> None:
        link = self.bench.fib.links[sw_if_index]
        self.bench.fib.link_removed(sw_if_index)
        for key, sources in list(self.said.items()):
            for source, paths in list(sources.items()):
                kept = tuple(path for path in paths if path.sw_if_index != sw_if_index)
                if kept:
                    sources[source] = kept
                else:
                    self.unsay(key, source)
        self.bench.fib.link_added(Link(sw_if_index, link.name, link.mac, 9000, link.flags, link.output_next))

    def known(self) -> st.SearchStrategy[tuple[int, int]]:
        return st.sampled_from(sorted(self.said))

    def expected(self, address: int) -> list[tuple[str, str]]:
        best = max((n for prefix, n in self.said if masked(address, n, self.BITS) == prefix))
        sources = self.said[masked(address, best, self.BITS), best]
        paths = [path for path in sources[min(sources)] if path != DROP_PATH and path.sw_if_index not in self.down]
        if not paths:
            return [(f"ip{4 if self.BITS == 32 else 6}-drop", "")]
        node = "ip4-arp" if self.BITS == 32 else "ip6-discover-neighbor"
        show = IPv4Address if self.BITS == 32 else IPv6Address
        return sorted({(node, f"{show(path.address)} eth{path.sw_if_index - 1}") for path in paths})

    @invariant()
    def the_dataplane_follows(self) -> None:
        show: Any = IPv4Address if self.BITS == 32 else IPv6Address
        for address in sorted(self.asked) if hasattr(self, "asked") else ():
            assert sorted(self.bench.buckets(str(show(address)))) == self.expected(address)

    @invariant()
    def every_entry_is_there(self) -> None:
        if hasattr(self, "said"):
            found = {(entry.prefix, entry.length): dict(entry.sources) for entry in self.fib.vrf()}
            assert found == self.said
            assert self.fib.vrf().by_length() == {
                length: sum(n == length for _, n in self.said) for length in sorted({n for _, n in self.said})
            }

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            for sw_if_index in self.down:
                self.bench.fib.link_state(sw_if_index, UP)
            for source in (Source.INTERFACE, Source.API, Source.CLI, Source.ADJ):
                self.fib.remove_many(Prefixes.of(self.BITS, *self.said), source)
            assert self.bench.in_use() == self.used


class Sayings6(Sayings):
    BITS = 128


BENCH: Any = None


@pytest.fixture(autouse=True, scope="module")
def bench_for_machines(make_bench: Any) -> None:
    global BENCH
    BENCH = st.just(make_bench)


TestSayings4 = Sayings.TestCase
TestSayings6 = Sayings6.TestCase
TestSayings4.settings = TestSayings6.settings = settings(max_examples=15, stateful_step_count=15)


def bulk(bench: Any, table: Any, paths: list[Path]) -> Any:
    """The table's routes through these paths, one each; the family's FIB."""
    fib = bench.fib if table.bits == 32 else bench.fib6
    prefixes = table.prefixes
    fib.update_many(prefixes, [[path] for path in paths], table.next_hop)
    return fib


@pytest.mark.parametrize("table", [routes4(300, next_hops=5), routes6(300, next_hops=5)])
def test_routes_in_bulk_share_what_they_have_in_common(bench: Any, table: Any) -> None:
    used = bench.in_use()
    fib = bulk(bench, table, [attached_nexthop(10 + hop, bench.ETH0) for hop in range(5)])
    assert (len(fib._shared), fib._own) == (5, len(DEFAULTS[fib.family]))
    balances = {entry.lb for entry in fib.vrf() if Source.API in entry.sources}
    assert len(balances) == 5 == len(bench.fib.adjacencies) - 4
    address = int(table.high[7]) << 64 | int(table.low[7])
    text = str(IPv4Address(address >> 96) if table.bits == 32 else IPv6Address(address))
    entry = fib.lookup(text)
    hop = entry.paths[0].address
    assert bench.buckets(text)[0][0] in ("ip4-arp", "ip6-discover-neighbor")
    fib.adjacencies.set_neighbor(bench.ETH0, hop, MAC, fib.family)
    assert bench.buckets(text)[0][0] == f"{fib.family.name}-rewrite"  # for all of them, by one store
    adjacency = bench.tables["adjacencies"].array[entry.shares[0][1]]
    assert bytes(adjacency.rewrite[:14]) == MAC + bytes([2, 0, 0, 0, 0, 1]) + fib.family.ethertype
    assert bench.fib.load_balances.family(entry.lb) is fib.family
    fib.adjacencies.set_neighbor(bench.ETH0, hop, None, fib.family)
    fib.remove_many(table.prefixes)
    assert bench.in_use() == used


def test_a_prefix_set_by_itself_has_its_own_load_balance(bench: Any) -> None:
    one, other = (attached_nexthop(hop, bench.ETH0) for hop in (1, 2))
    first = bench.fib.update("10.1.0.0/16", [one])
    second = bench.fib.update("10.2.0.0/16", [one])
    assert first.lb != second.lb
    assert bench.fib.update("10.1.0.0/16", [other]).lb == first.lb  # and its counter goes on
    bench.fib.update_many(Prefixes.of(32, (0x0A010000, 16)), [[one]], np.zeros(1, np.uint32))
    assert bench.fib.find("10.1.0.0/16").lb == first.lb
    assert bench.buckets("10.1.0.1") == [("ip4-arp", "0.0.0.1 eth0")]


def test_only_so_many_have_their_own(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvpp_nodes.fib.fib.OWN_ROUTES", 20)
    one = attached_nexthop(1, bench.ETH0)
    have = bench.fib._own
    for k in range(20 - have + 5):
        bench.fib.update((0x0A000000 + (k << 8), 24), [one])
    assert bench.fib._own == 20 and len(bench.fib._shared) == 1
    bench.fib.remove((0x0A000000, 24))
    assert bench.fib.update("11.0.0.0/24", [one]).route.own
    assert not bench.fib.update("11.0.1.0/24", [one]).route.own


@pytest.mark.parametrize("bits", [32, 128])
def test_recursive_routes_in_bulk_follow_what_they_go_through(bench: Any, bits: int) -> None:
    fib, used = (bench.fib if bits == 32 else bench.fib6), bench.in_use()
    hop = 0x14 << (bits - 8) | 1
    prefixes = Prefixes.row(bits, 0x0A << (bits - 8), 24, 500)
    fib.update_many(prefixes, [[recursive(hop)]], np.zeros(500, np.uint32))
    address = str(fib.family.parse_address((0x0A << (bits - 8)) + (499 << (bits - 24)) + 1))
    assert bench.buckets(address)[0][0] == f"{fib.family.name}-drop"
    fib.update_many(
        Prefixes.of(bits, (0x14 << (bits - 8), 8)), [[attached_nexthop(7, bench.ETH1)]], np.zeros(1, np.uint32)
    )
    assert bench.buckets(address)[0][1].endswith("eth1")
    fib.update((hop, bits), [attached_nexthop(8, bench.ETH0)])
    assert bench.buckets(address)[0][1].endswith("eth0")
    fib.remove((hop, bits))
    assert bench.buckets(address)[0][1].endswith("eth1")
    fib.update_many(Prefixes.of(bits, (hop, bits)), [[recursive(hop)]], np.zeros(1, np.uint32))  # into itself
    assert bench.buckets(address)[0][0] == f"{fib.family.name}-drop"
    for length in (8, bits):
        fib.remove_many(Prefixes.of(bits, (masked(hop, length, bits), length)))
    fib.remove_many(prefixes)
    assert bench.in_use() == used


def test_an_interface_that_goes_takes_shared_routes_along(bench: Any) -> None:
    one, two = attached_nexthop(1, bench.ETH0), attached_nexthop(2, bench.ETH1)
    for fib in (bench.fib, bench.fib6):
        row = Prefixes.row(fib.family.bits, 0x0A << (fib.family.bits - 8), 24, 300)
        fib.update_many(row, [[one], [one, two], [two]], np.arange(300, dtype=np.uint32) % 3)
    bench.fib.link_removed(bench.ETH0)
    for fib in (bench.fib, bench.fib6):
        left = [entry for entry in fib.vrf() if entry.length == 24]
        assert len(left) == 200
        assert {entry.paths for entry in left} == {(two,)}
        fib.remove_many(Prefixes.row(fib.family.bits, 0x0A << (fib.family.bits - 8), 24, 300))
        assert not [entry for entry in fib.vrf() if entry.length == 24]
        assert len(fib._shared) == 0


def test_a_table_of_bulk_routes_is_deleted(bench: Any) -> None:
    used = bench.in_use()
    for fib in (bench.fib, bench.fib6):
        index = fib.add_table(7)
        row = Prefixes.row(fib.family.bits, 0, 20, 100)
        fib.update_many(row, [[attached_nexthop(1, bench.ETH0)]], np.zeros(100, np.uint32), Source.API, index)
        assert len(fib.vrf(index)) == 100 + len(DEFAULTS[fib.family])
        fib.delete_table(7)
    assert bench.in_use() == used


def test_prefixes_in_a_row() -> None:
    for bits, first, length, count in (
        (32, 0x0A000000, 24, 300), (32, 0xFFFFFF00, 32, 256), (128, 0x20010DB8 << 96, 48, 5), (128, 0xFFFF << 48, 80, 70_000),
        (128, (1 << 64) - 2, 128, 4), (128, (1 << 80) - (1 << 60), 68, 9), (128, 0, 64, 3),
    ):  # fmt: skip
        row = Prefixes.row(bits, first, length, count)
        assert row.addresses(bits) == [first + (k << (bits - length)) for k in range(count)]
        assert row.length.tolist() == [length] * count


def test_last_of_each() -> None:
    rng = random.Random(1)
    given = [(rng.choice([0, 1 << 127, 5 << 60, 5 << 61]), rng.choice([3, 64, 128])) for _ in range(40)]
    order = last_of_each(Prefixes.of(128, *given))
    assert [given[k] for k in order] == sorted(set(given))
    assert list(order) == [max(i for i, each in enumerate(given) if each == key) for key in sorted(set(given))]
    assert last_of_each(Prefixes.of(128, *sorted(set(given)))) is None
