# SPDX-License-Identifier: Apache-2.0
"""Longest prefix match against a dict of prefixes that is looked through, both families."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyvpp.jit import jit
from pyvpp.tables import TableInstance
from pyvpp.typing import U32, U64
from pyvpp_nodes.integers import int64
from pyvpp_nodes.kit.prefixes import UNMATCHED, Prefixes, match4, match6, prefix_table


@jit
def match4_many(roots: U32, nodes: U32, addresses: U64, out: U32) -> None:
    for i in range(len(out)):
        out[i] = match4(roots, nodes, int64(addresses[i]))


@jit
def match6_many(roots: U32, nodes: U32, high: U64, low: U64, out: U32) -> None:
    for i in range(len(out)):
        out[i] = match6(roots, nodes, high[i], low[i])


class Fixed(SimpleNamespace):
    """As much of an engine as control code asks for."""

    @staticmethod
    def synchronize() -> None: ...

    @staticmethod
    def barrier() -> Any:
        from contextlib import nullcontext

        return nullcontext()


def made(version: int) -> tuple[Prefixes, Any]:
    engine = Fixed(tables={table.name: TableInstance(table, 1) for table in prefix_table("test")})
    return Prefixes(engine, "test", version), engine.tables


class Machine(RuleBasedStateMachine):
    """Prefixes in a small part of the address space, so that they nest; `model` is what there should be."""

    @initialize(version=st.sampled_from((4, 6)))
    def begin(self, version: int) -> None:
        self.version, self.bits = version, 32 if version == 4 else 128
        self.prefixes, self.tables = made(version)
        self.model: dict[Any, int] = {}

    def network(self, tail: int, length: int) -> IPv4Network | IPv6Network:
        """Of the last bits of an address and a length, counted from the longest."""
        length = self.bits - length
        address = (0x0A00 << self.bits - 16) | tail
        return ip_network((address >> (self.bits - length) << (self.bits - length), length))

    @rule(tail=st.integers(0, 255), length=st.integers(0, 12), value=st.integers(1, 1000))
    def set(self, tail: int, length: int, value: int) -> None:
        network = self.network(tail, length)
        self.prefixes.set(network, value)
        self.model[network] = value

    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        if self.model:
            gone = data.draw(st.sampled_from(sorted(self.model)))
            self.prefixes.remove(gone)
            del self.model[gone]
            assert self.prefixes.get(gone) is None

    @invariant()
    def finds_what_the_model_finds(self) -> None:
        if not hasattr(self, "prefixes"):
            return
        assert len(self.prefixes) == len(self.model)
        expected = [(int(n.network_address), n.prefixlen, v) for n, v in self.model.items()]
        assert self.prefixes.items() == sorted(expected)
        first = 0x0A00 << self.bits - 16
        addresses = [first | tail for tail in range(0, 256, 7)] + [0]
        roots, nodes = self.tables["test_roots"].array, self.tables["test_nodes"].array
        out = np.zeros(len(addresses), np.uint32)
        if self.bits == 32:
            match4_many(roots, nodes, np.array(addresses, np.uint64), out)
        else:
            high = np.array([address >> 64 for address in addresses], np.uint64)
            low = np.array([address & (1 << 64) - 1 for address in addresses], np.uint64)
            match6_many(roots, nodes, high, low, out)
        assert out.tolist() == [self.reference(address) for address in addresses]

    def reference(self, address: int) -> int:
        holding = [
            n
            for n in self.model
            if int(n.network_address) == address >> n.max_prefixlen - n.prefixlen << n.max_prefixlen - n.prefixlen
        ]
        return self.model[max(holding, key=lambda network: network.prefixlen)] if holding else UNMATCHED


TestPrefixes = Machine.TestCase
TestPrefixes.settings = settings(deadline=None, max_examples=40, stateful_step_count=20)


def test_mistakes() -> None:
    prefixes, _ = made(4)
    for value in (0, -1, 1 << 30):
        with pytest.raises(ValueError, match="its value is"):
            prefixes.set(IPv4Network("10.0.0.0/8"), value)
    with pytest.raises(ValueError, match="2001:db8::/32 is no IPv4 prefix"):
        prefixes.set(IPv6Network("2001:db8::/32"), 1)
    with pytest.raises(KeyError, match=r"10.0.0.0/8"):
        prefixes.remove(IPv4Network("10.0.0.0/8"))
