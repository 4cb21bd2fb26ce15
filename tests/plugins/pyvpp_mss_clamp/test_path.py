# SPDX-License-Identifier: Apache-2.0
"""mss-clamp in the graph: its commands, and SYNs from one interface to another, each way of clamping them."""

from collections.abc import Iterator

import pytest

from pyvpp.bench.stand import Stand, stand_for
from pyvpp.cli.registry import CommandError
from pyvpp.node import FRAME_SIZE
from pyvpp_mss_clamp.bench import ASKED, MOST, SCENARIO
from pyvpp_mss_clamp.cli import set_interface_tcp_mss_clamp, show_interface_tcp_mss_clamp
from pyvpp_nodes.bench.ground import rewritten

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with stand_for(SCENARIO, hugepages="off") as stand:
        stand.generate(SCENARIO.packets(stand.engine, count=FRAME_SIZE))
        yield stand


@pytest.fixture(autouse=True)
def off_at_first(stand: Stand) -> None:
    for interface in ("pg0", "pg1"):
        set_interface_tcp_mss_clamp(stand.engine, f"{interface} ip4 disable ip6 disable")


@pytest.mark.parametrize(
    ("words", "clamps"),
    [
        ("pg0 ip4 rx", True), ("pg0 ip4 enable", True), ("pg0 ip4 tx", False), ("pg0 ip6 enable", False),
        ("pg1 ip4 tx", True), ("pg1 ip4 enable", True), ("pg1 ip4 rx", False),
    ],
)  # fmt: skip
def test_by_interface_and_direction(stand: Stand, words: str, clamps: bool) -> None:
    set_interface_tcp_mss_clamp(stand.engine, f"{words} ip4-mss {MOST} ip6-mss {MOST}")
    arrived, left = stand.catch(FRAME_SIZE)
    assert len(left) == FRAME_SIZE
    assert left == [(SCENARIO.expect if clamps else rewritten)(stand.engine, packet) for packet in arrived]


def test_the_smaller_of_two_limits(stand: Stand) -> None:
    set_interface_tcp_mss_clamp(stand.engine, f"pg0 ip4 enable ip4-mss {ASKED}")
    set_interface_tcp_mss_clamp(stand.engine, f"pg1 ip4 enable ip4-mss {MOST}")
    arrived, left = stand.catch(FRAME_SIZE)
    assert left == [SCENARIO.expect(stand.engine, packet) for packet in arrived]


def test_what_is_shown(stand: Stand) -> None:
    assert show_interface_tcp_mss_clamp(stand.engine).data == []
    set_interface_tcp_mss_clamp(stand.engine, "pg1 ip4 rx ip4-mss 1300 ip6 enable ip6-mss 1280")
    assert show_interface_tcp_mss_clamp(stand.engine).text == "pg1: ip4: rx mss 1300 ip6: enable mss 1280"
    set_interface_tcp_mss_clamp(stand.engine, "pg1 ip4 disable")
    assert show_interface_tcp_mss_clamp(stand.engine, "pg1").data == [
        {"interface": "pg1", "ip4": "disable", "ip4_mss": 0, "ip6": "enable", "ip6_mss": 1280}
    ]
    assert show_interface_tcp_mss_clamp(stand.engine, "pg0").data == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pg9 ip4 enable", "unknown interface `pg9'"),
        ("pg0", "expected ip4, ip4-mss, ip6 or ip6-mss"),
        ("pg0 ip4 sideways", "unknown direction `sideways' (expected disable, enable, rx or tx)"),
        ("pg0 ip4 enable ip4-mss 63", "63 out of range (expected a segment size from 64 to 65535)"),
        ("local0 ip6 enable", "ip6 enable without a segment size (expected ip6-mss SIZE)"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(stand: Stand, words: str, said: str) -> None:
    with pytest.raises(CommandError) as refused:
        set_interface_tcp_mss_clamp(stand.engine, words)
    assert said in str(refused.value)
    assert show_interface_tcp_mss_clamp(stand.engine).data == []
