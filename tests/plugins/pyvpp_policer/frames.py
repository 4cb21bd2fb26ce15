# SPDX-License-Identifier: Apache-2.0
"""Frames for both nodes: IPv4 and IPv6 packets of mixed interfaces, at moments that hypothesis chooses."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from pyvpp.features import FEATURE_CHAINS
from pyvpp.node import TO_NODE, Node
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import ADJACENCY
from pyvpp_policer.meter import CLASSES, POLICER, POLICER_APPLIED, TOKENS, Action, Counter
from tests.graph_nodes.forwarding import ip4, ip6
from tests.plugins.pyvpp_policer.model import Meter, meters

INTERFACES = 3
REWRITES = (0, 14, 20)
ERROR_BASE = 9

POLICERS_OF_INTERFACES = st.lists(
    st.tuples(
        meters(),
        st.booleans(),
        st.lists(st.sampled_from(list(Action)), min_size=3, max_size=3),
        st.lists(st.integers(0, 63), min_size=3, max_size=3),
        st.sets(st.integers(0, 63), max_size=8),
    ),
    min_size=INTERFACES,
    max_size=INTERFACES,
)
TOS = st.one_of(st.integers(0, 255), st.sampled_from([40, 48, 57, 152, 248]))
PACKETS = st.one_of(
    st.builds(lambda n, tos: ip4(bytes(n), tos=tos), st.integers(8, 200), TOS),
    st.builds(lambda n, c: ip6(bytes(n), traffic_class=c, flow_label=0xABCDE), st.integers(8, 200), TOS),
)
FRAMES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10**6), st.integers(0, 10**10)),
        st.lists(st.tuples(PACKETS, st.integers(0, INTERFACES - 1), st.integers(0, 2)), min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def dscp_of(packet: bytes) -> int:
    """scapy's opinion."""
    return int(IPv6(packet).tc if packet[0] >> 4 == 6 else IP(packet).tos) >> 2


def marked(packet: bytes, dscp: int) -> bytes:
    """scapy's opinion of a new DSCP."""
    if packet[0] >> 4 == 6:
        header6 = IPv6(packet)
        header6.tc = header6.tc & 3 | dscp << 2
        return bytes(header6)
    header = IP(packet)
    header.tos = header.tos & 3 | dscp << 2
    del header.chksum
    return bytes(header)


def check(node: Node, policers: Any, frames: Any) -> None:
    """Interface k has policer k + 1, for all but packets of some DSCPs, which have none."""
    leaving, begun = node.name.endswith("output"), 5
    table, tokens = np.zeros(INTERFACES + 1, POLICER), np.zeros(INTERFACES + 1, TOKENS)
    models: list[Meter] = []
    classes = np.zeros((INTERFACES + 1, CLASSES), np.uint32)
    for k, (model, by_packets, actions, dscps, free) in enumerate(policers, 1):
        classes[k] = [0 if dscp in free else k for dscp in range(CLASSES)]
        row, full = model.rows(begun)
        row["by_packets"], row["action"], row["dscp"] = by_packets, actions, dscps
        table[k], tokens[k] = row[0], full[0]
        models.append(model)
    applied = np.zeros(INTERFACES, POLICER_APPLIED.dtype)
    applied["output" if leaving else "input"] = range(1, INTERFACES + 1)
    adjacencies = np.zeros(len(REWRITES), ADJACENCY)
    adjacencies["rewrite_bytes"] = REWRITES
    now = begun
    for passed, frame in frames:
        now += passed
        given, expected = [], []
        counted = dict.fromkeys(Counter, 0)
        for i, (packet, interface, adjacency) in enumerate(frame):
            front = b"\xee" * REWRITES[adjacency] if leaving else b""
            where = {"tx": interface, "rx": 9} if leaving else {"rx": interface, "tx": 9}
            given.append(Packet(front + packet, adj=adjacency, feature=i + 1, **where))
            _, by_packets, actions, dscps, free = policers[interface]
            if dscp_of(packet) in free:
                expected.append((TO_NODE | i + 1, front + packet))
                continue
            colour = models[interface].colour(now, 1 if by_packets else len(packet), dscp_of(packet))
            action = actions[colour]
            left = marked(packet, dscps[colour]) if action is Action.MARK else packet
            expected.append((0 if action is Action.DROP else TO_NODE | i + 1, front + left))
            counted[Counter.DROPPED] += action is Action.DROP
            counted[Counter.TRANSMITTED] += action is not Action.DROP
            counted[Counter.MARKED] += action is Action.MARK
        chains = np.zeros(FEATURE_CHAINS.capacity, np.uint16)
        chains[: len(frame) + 1] = TO_NODE | np.arange(len(frame) + 1)
        tables = {
            "policers": table, "policer_tokens": tokens, "policer_applied": applied, "feature_chains": chains,
            "policer_classes": classes.reshape(-1),
        } | ({"adjacencies": adjacencies} if leaving else {})  # fmt: skip
        result = run_kernel(node, given, tables, now=now, error_base=ERROR_BASE)
        assert list(zip(result.nexts, result.packets, strict=True)) == expected
        assert {counter: int(result.counters[counter]) for counter in Counter} == counted
        assert [int(m.error) for m in result.meta] == [0 if next_ else ERROR_BASE for next_, _ in expected]
        tokens = result.tables["policer_tokens"]
