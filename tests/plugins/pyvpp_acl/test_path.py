# SPDX-License-Identifier: Apache-2.0
"""acl in the graph: its commands, lists and sets that change between packets, sessions from interface to interface."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

import pyvpp_acl
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.cli.registry import CommandError
from pyvpp.keepsakes import Keepsakes
from pyvpp_acl import cli
from pyvpp_acl.bench import SCENARIOS
from pyvpp_acl.owner import INPUT, OUTPUT

pytestmark = pytest.mark.slow

SCENARIO = next(each for each in SCENARIOS if each.name == "acl-sessions")
COUNT = 64


@pytest.fixture(scope="module")
def whole() -> Iterator[Stand]:
    with stand_for(SCENARIO, hugepages="off") as stand:
        stand.generate(SCENARIO.packets(stand.engine, count=COUNT), COUNT)
        yield stand


@pytest.fixture
def stand(whole: Stand) -> Stand:
    """Nothing applied, no lists, no sets, no sessions."""
    owner = whole.engine.stack.acl
    for sw_if_index, way in list(owner.state.applied):
        owner.set_applied(sw_if_index, way, ())
    for index in list(owner.state.acls):
        owner.delete_acl(index)
    for name in [*owner.state.sets.addresses, *owner.state.sets.ports]:
        if name != "any":
            owner.delete_set(name)
    owner.clear_sessions()
    return whole


def set_acl(stand: Stand, text: str) -> int:
    return int(cli.set_acl_plugin_acl(stand.engine, text).data["acl_index"])


def counts(stand: Stand, node: str = "acl-plugin-in-ip4-fa") -> list[int]:
    found = stand.engine.graph.find(node)
    assert found is not None
    return [int(n) for n in found.counts()]


def left(stand: Stand) -> int:
    return len(stand.catch(COUNT)[1])


def test_input_and_output(stand: Stand) -> None:
    deny, permit = set_acl(stand, "deny"), set_acl(stand, "permit proto udp tag services")
    for interface, way in (("pg0", INPUT), ("pg1", OUTPUT)):
        cli.set_acl_plugin_interface(stand.engine, f"{interface} {way} acl {deny}")
        assert left(stand) == 0
        cli.set_acl_plugin_interface(stand.engine, f"{interface} {way} acl {deny} del")
        assert left(stand) == COUNT
        cli.set_acl_plugin_interface(stand.engine, f"{interface} {way} acl {permit}")
        cli.set_acl_plugin_interface(stand.engine, f"{interface} {way} acl {deny}")
        assert left(stand) == COUNT  # the first one that matches
    for interface, way in (("pg1", INPUT), ("pg0", OUTPUT)):  # where these packets do not pass
        cli.set_acl_plugin_interface(stand.engine, f"{interface} {way} acl {deny}")
    assert left(stand) == COUNT


def test_hits_are_counted_by_rule(stand: Stand) -> None:
    index = set_acl(stand, "deny proto tcp, permit src 10.0.0.0/8 proto udp, permit")
    cli.set_acl_plugin_interface(stand.engine, f"pg0 input acl {index}")
    left(stand)
    (acl,) = cli.show_acl_plugin_acl(stand.engine).data
    assert [rule["packets"] for rule in acl["rules"]] == [0, COUNT, 0]
    assert [rule["bytes"] for rule in acl["rules"]] == [0, COUNT * 50, 0]
    other = set_acl(stand, "permit")
    left(stand)
    first, second = cli.show_acl_plugin_acl(stand.engine).data
    assert first["rules"][1]["packets"] == 2 * COUNT  # a list that stays keeps its hits
    assert second["acl_index"] == other and second["rules"][0]["packets"] == 0
    set_acl(stand, f"index {index} permit")
    assert cli.show_acl_plugin_acl(stand.engine, f"index {index}").data[0]["rules"][0]["packets"] == 0


def test_sets_change_in_place(stand: Stand) -> None:
    cli.set_acl_plugin_address_set(stand.engine, "friends 192.0.2.0/24 2001:db8::/32")
    cli.set_acl_plugin_port_set(stand.engine, "services 1")
    index = set_acl(stand, "permit src @friends proto udp dport @services")
    cli.set_acl_plugin_interface(stand.engine, f"pg0 input acl {index}")
    assert left(stand) == 0
    cli.set_acl_plugin_address_set(stand.engine, "friends 192.0.2.0/24 10.0.0.0/8")
    assert left(stand) == 0
    cli.set_acl_plugin_port_set(stand.engine, "services 0-1023 1024-65535")
    assert left(stand) == COUNT
    assert cli.show_acl_plugin_sets(stand.engine).text.splitlines() == [
        "@friends: 192.0.2.0/24 10.0.0.0/8",
        "@services: 0-1023 1024-65535",
    ]
    with pytest.raises(CommandError, match="set @friends is named by a rule of acl"):
        cli.set_acl_plugin_address_set(stand.engine, "friends del")


def test_sessions_outlive_the_rule_but_not_the_clearing(stand: Stand) -> None:
    index = set_acl(stand, "permit+reflect")
    cli.set_acl_plugin_interface(stand.engine, f"pg0 input acl {index}")
    before = counts(stand)
    assert left(stand) == left(stand) == COUNT
    flows = len({packet[26:38] for packet in stand.packets})
    after = counts(stand)
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 0, 0, flows, 2 * COUNT - flows]
    shown = cli.show_acl_plugin_sessions(stand.engine)
    assert shown.data["ip4"] == flows and shown.data["sessions"][0]["interface"] == "pg0"
    set_acl(stand, f"index {index} deny, permit+reflect src 192.0.2.1")
    assert left(stand) == COUNT
    assert cli.clear_acl_plugin_sessions(stand.engine).data == {"ended": flows}
    assert left(stand) == 0


def test_another_version_takes_over_lists_hits_and_sessions(stand: Stand) -> None:
    cli.set_acl_plugin_port_set(stand.engine, "services 0-65535")
    index = set_acl(stand, "deny proto tcp, permit+reflect proto udp dport @services")
    cli.set_acl_plugin_interface(stand.engine, f"pg0 input acl {index}")
    left(stand)
    shown = cli.show_acl_plugin_acl(stand.engine).text, cli.show_acl_plugin_interface(stand.engine).text
    sessions = cli.show_acl_plugin_sessions(stand.engine).data["ip4"]
    before = counts(stand)
    pyvpp_acl.resume(stand.engine, pyvpp_acl)
    assert (cli.show_acl_plugin_acl(stand.engine).text, cli.show_acl_plugin_interface(stand.engine).text) == shown
    assert left(stand) == COUNT
    assert [b - a for a, b in zip(before, counts(stand), strict=True)] == [0, 0, 0, 0, COUNT]
    assert cli.show_acl_plugin_sessions(stand.engine).data["ip4"] == sessions > 0
    cli.clear_acl_plugin_sessions(stand.engine)
    set_acl(stand, f"index {index} deny")
    assert left(stand) == 0


def test_sessions_go_on_in_another_process(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """Here it is this one: its sessions are ended in between, and its rules deny what has none."""
    index = set_acl(stand, "permit+reflect")
    cli.set_acl_plugin_interface(stand.engine, f"pg0 input acl {index}")
    assert left(stand) == COUNT
    before = cli.show_acl_plugin_sessions(stand.engine).text
    set_acl(stand, f"index {index} permit+reflect src 192.0.2.1")
    given = Keepsakes()
    stand.engine.events.fire("last-hand-over", given)
    kept, descriptor = given.write()
    assert os.fstat(descriptor).st_size < 1 << 20, "what there is room for goes along"
    found = Keepsakes.read(kept, descriptor)
    os.close(descriptor)
    cli.clear_acl_plugin_sessions(stand.engine)
    assert left(stand) == 0
    for table in ("acl_sessions", "acl_sessions_index"):
        stand.engine.tables[table].array[:] = np.zeros((), stand.engine.tables[table].dtype)
    stand.engine.events.fire("last-take-on", found)
    assert cli.show_acl_plugin_sessions(stand.engine).text == before
    assert left(stand) == COUNT
    assert not caplog.messages
    stand.engine.events.fire("last-take-on", Keepsakes())
    assert "sessions in acl_sessions6 are not those of this version; they begin anew" in caplog.text


def test_what_is_shown(stand: Stand) -> None:
    index = set_acl(stand, "permit+reflect dst 10.0.0.0/8 proto tcp dport 80-443 tcpflags 2 mask 18, deny tag web")
    assert cli.show_acl_plugin_acl(stand.engine).text.splitlines() == [
        f"acl-index {index} count 2 tag {{web}}",
        "          0: ipv4 permit+reflect src 0.0.0.0/0 dst 10.0.0.0/8 proto 6 sport 0-65535 dport 80-443 tcpflags 2 mask 18"
        " hits 0",
        "          1: ip deny src @any dst @any proto 0 sport 0-65535 dport 0-65535 hits 0",
    ]
    cli.set_acl_plugin_interface(stand.engine, f"pg1 output acl {index}")
    assert cli.show_acl_plugin_interface(stand.engine).data == [{"interface": "pg1", "input": [], "output": [index]}]
    with pytest.raises(CommandError, match=f"acl {index} is applied to pg1"):
        cli.delete_acl_plugin_acl(stand.engine, f"index {index}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("allow", "unknown action `allow' (expected deny, permit or permit+reflect)"),
        ("permit src 10.0.0.0/8 dst 2001:db8::/32", "source and destination are of two IP versions"),
        ("permit dport 80", "dport without a protocol that has ports (expected proto tcp, udp, icmp or icmp6)"),
        ("permit proto tcp dport 443-80", "invalid ports `443-80' (expected 0 to 65535, the lower first)"),
        ("permit proto icmp sport 256", "sport 256 out of range (expected an ICMP type or code up to 255)"),
        ("permit proto udp tcpflags 2 mask 2", "tcpflags without proto tcp"),
        ("permit proto tcp tcpflags 3 mask 2", "tcpflags 3 are not within mask 2"),
        ("permit src @nobody", "no set @nobody of addresses"),
        ("permit proto udp dport @any", "no set @any of ports"),
        ("index 7 permit", "no acl 7 to be replaced"),
        ("permit src 10.0.0.0/33", "invalid prefix length `33'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_changes_nothing(stand: Stand, words: str, said: str) -> None:
    with pytest.raises(CommandError) as refused:
        set_acl(stand, words)
    assert said in str(refused.value)
    assert cli.show_acl_plugin_acl(stand.engine).data == []


def test_an_interface_that_goes_takes_its_lists_and_sessions_along(stand: Stand) -> None:
    owner, engine = stand.engine.stack.acl, stand.engine
    interface = stand.generator.create_interface("pg7")
    index = set_acl(stand, "permit+reflect")
    cli.set_acl_plugin_interface(engine, f"pg7 input acl {index}")
    assert engine.features.enabled("ip4-unicast", interface.sw_if_index) == ["acl-plugin-in-ip4-fa"]
    engine.interfaces.delete(interface)
    assert owner.state.applied == {}
    assert engine.tables["acl_applied"].array[interface.sw_if_index].tobytes() == bytes(20)
    cli.delete_acl_plugin_acl(engine, f"index {index}")
