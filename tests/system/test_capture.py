# SPDX-License-Identifier: Apache-2.0
"""Random configurations of an uplink: the TAP has them while pyvpp runs, and the NIC has them again afterwards.

PYVPP_EXAMPLES=500 looks longer. What Linux refuses of a configuration is left out of it, as it would be by hand.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.journal import lock_runtime_dir
from pyvpp.linux.restore import restore
from pyvpp.linux.takeover import take_over
from tests.system.conftest import Namespace, Pair, differences, tap_view, wait_for_addresses

EXAMPLES = int(os.environ.get("PYVPP_EXAMPLES", "5"))
LIFETIMES = st.sampled_from(
    ["", "valid_lft 5000 preferred_lft 4000", "valid_lft 5000 preferred_lft 0", "preferred_lft 0"]
)
METRICS = st.sampled_from(["", "metric 7", "metric 4000"])
PROTOCOLS = st.sampled_from(["", "proto static", "proto 186"])
TABLES = st.sampled_from(["", "", "table 100", "table 70000"])
LINK = st.sampled_from(
    [
        "link set eth0 mtu 1400",
        "link set eth0 mtu 9000",
        "link set eth0 txqueuelen 123",
        "link set eth0 alias 'an alias with blanks'",
        "link set eth0 group 42",
        "link property add dev eth0 altname enp0s31f6",
        "link property add dev eth0 altname a altname b",
        "link set eth0 promisc on",
        "link set eth0 allmulticast on",
        "link set eth0 multicast off",
        "link set eth0 addrgenmode none",
        "link set eth0 addrgenmode random",
        "token set ::1234 dev eth0",
        "maddr add 33:33:00:00:00:77 dev eth0",
        "neigh add 10.77.0.50 lladdr 02:00:00:00:00:50 dev eth0 nud permanent",
        "neigh add 2001:db8:77::50 lladdr 02:00:00:00:00:51 dev eth0 nud permanent",
        "neigh add proxy 10.77.0.60 dev eth0",
        "neigh add proxy 2001:db8:77::60 dev eth0",
        "rule add iif eth0 lookup 100",
        "rule add oif eth0 from 10.77.0.0/24 lookup 70000",
        "-6 rule add iif eth0 lookup 100",
    ]
)
SYSCTLS = st.sampled_from(
    [
        "ipv4/conf/eth0/rp_filter=2",
        "ipv4/conf/eth0/proxy_arp=1",
        "ipv4/conf/eth0/arp_ignore=1",
        "ipv4/conf/eth0/forwarding=1",
        "ipv4/conf/eth0/accept_local=1",
        "ipv4/neigh/eth0/gc_stale_time=99",
        "ipv4/neigh/eth0/base_reachable_time_ms=12345",
        "ipv6/conf/eth0/accept_ra=0",
        "ipv6/conf/eth0/accept_ra=2",
        "ipv6/conf/eth0/forwarding=1",
        "ipv6/conf/eth0/use_tempaddr=2",
        "ipv6/conf/eth0/accept_dad=0",
        "ipv6/conf/eth0/dad_transmits=3",
        "ipv6/conf/eth0/hop_limit=17",
        "ipv6/conf/eth0/proxy_ndp=1",
        "ipv6/conf/eth0/stable_secret=2001:db8::cafe",
        "ipv6/conf/eth0/keep_addr_on_down=1",
        "ipv6/conf/all/forwarding=1",
        "ipv6/neigh/eth0/retrans_time_ms=500",
    ]
)  # fmt: skip
DISCIPLINES = st.sampled_from(
    [
        ["qdisc add dev eth0 root tbf rate 100mbit burst 32k latency 50ms"],
        ["qdisc add dev eth0 root handle 7: pfifo limit 33"],
        [
            "qdisc add dev eth0 root handle 1: htb default 20 r2q 5",
            "class add dev eth0 parent 1: classid 1:1 htb rate 100mbit burst 15k",
            "class add dev eth0 parent 1:1 classid 1:10 htb rate 60mbit ceil 100mbit prio 1",
            "class add dev eth0 parent 1:1 classid 1:20 htb rate 40mbit",
            "qdisc add dev eth0 parent 1:20 handle 20: pfifo limit 50",
            "filter add dev eth0 parent 1: protocol ip prio 5 u32 match ip dst 192.0.2.0/24 flowid 1:10",
            "filter add dev eth0 parent 1: protocol ip prio 5 u32 match ip dport 53 0xffff flowid 1:20",
        ],
        ["qdisc add dev eth0 ingress"],
        ["qdisc add dev eth0 clsact"],
    ]
)


@st.composite
def address4(draw: st.DrawFn) -> str:
    net, last = draw(st.integers(80, 83)), draw(st.integers(1, 4))
    form = draw(st.sampled_from(["{a}/24", "{a}/24 brd +", "{a}/32", "{a} peer 10.{net}.9.9/32"]))
    words = [
        form.format(a=f"10.{net}.0.{last}", net=net),
        draw(st.sampled_from(["", "label eth0:x", f"label eth0:{last}"])),
        draw(st.sampled_from(["", "scope link", "scope host"])),
        draw(METRICS),
        draw(LIFETIMES),
        draw(st.sampled_from(["", "noprefixroute"])),
    ]
    return "addr add dev eth0 " + " ".join(words)


@st.composite
def address6(draw: st.DrawFn) -> str:
    words = [
        f"2001:db8:{draw(st.integers(80, 82))}::{draw(st.integers(1, 4))}/{draw(st.sampled_from([64, 128]))}",
        draw(METRICS),
        draw(LIFETIMES),
        draw(st.sampled_from(["", "noprefixroute", "home", "mngtmpaddr", "mngtmpaddr noprefixroute"])),
        draw(st.sampled_from(["", "nodad"])),
    ]
    return "addr add dev eth0 " + " ".join(words)


@st.composite
def route4(draw: st.DrawFn) -> str:
    way = draw(
        st.sampled_from(
            [
                "via 10.77.0.2",
                "via 10.77.0.3 dev eth0",
                "dev eth0 scope link",
                "via 10.99.9.9 dev eth0 onlink",
                "nexthop via 10.77.0.2 weight 3 nexthop via 10.77.0.3",
                "nexthop via 10.77.0.2 nexthop via 10.70.0.7 dev other",
                "nexthop via 10.98.0.1 dev eth0 onlink nexthop dev eth0 weight 9",
                "via inet6 fe80::2 dev eth0",
                "dev other src 10.77.0.1",
                "nhid 10",
                "nhid 12",
                "nhid 14",
            ]
        )
    )
    words = [
        draw(st.sampled_from(["", "", "unicast", "local"])) if way == "dev eth0 scope link" else "",
        draw(st.sampled_from(["default", "192.0.2.0/24", "198.51.100.7", "203.0.113.0/25"])),
        draw(st.sampled_from(["", "", "tos 0x10"])) if "nhid" not in way else "",
        way,
        draw(TABLES),
        draw(METRICS),
        draw(PROTOCOLS),
        draw(st.sampled_from(["", "src 10.77.0.1"])) if "src" not in way else "",
        draw(st.sampled_from(["", "mtu 1300", "mtu lock 1300 advmss 1000", "initcwnd 20 rto_min 50ms"])),
    ]
    return "route add " + " ".join(words)


@st.composite
def route6(draw: st.DrawFn) -> str:
    way = draw(
        st.sampled_from(
            [
                "via 2001:db8:77::2",
                "via fe80::2 dev eth0",
                "dev eth0",
                "via 2001:db8:99::9 dev eth0 onlink",
                "nexthop via 2001:db8:77::2 weight 3 nexthop via fe80::9 dev eth0",
                "nexthop via 2001:db8:77::2 nexthop via fe80::7 dev other",
                "nhid 20",
                "nhid 21",
            ]
        )
    )
    words = [
        draw(st.sampled_from(["default", "2001:db8:100::/48", "2001:db8:101::1", "2001:db8:100::/56"])),
        draw(st.sampled_from(["", "", "from 2001:db8:77::/64"])) if "nhid" not in way else "",
        way,
        draw(TABLES),
        draw(METRICS),
        draw(PROTOCOLS),
        draw(st.sampled_from(["", "pref high", "expires 900"])),
        draw(st.sampled_from(["", "src 2001:db8:77::1", "mtu 1300"])),
    ]
    return "-6 route add " + " ".join(words)


NEXTHOPS = (
    "nexthop add id 10 via 10.77.0.2 dev eth0 proto static",
    "nexthop add id 11 via 10.97.0.1 dev eth0 onlink",
    "nexthop add id 12 group 10,3/11",
    "nexthop add id 13 via 10.70.0.7 dev other",
    "nexthop add id 14 group 10/13,7",
    "nexthop add id 15 group 10/11 type resilient buckets 32 idle_timer 60",
    "nexthop add id 20 via fe80::2 dev eth0",
    "nexthop add id 21 group 20",
)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    """Lines for `ip`, sysctls, lines for `tc`."""
    lines = draw(st.lists(LINK, max_size=5, unique=True))
    lines += draw(st.lists(address4(), max_size=4)) + draw(st.lists(address6(), max_size=4))
    lines += NEXTHOPS if draw(st.booleans()) else ()
    lines += draw(st.lists(route4(), max_size=6)) + draw(st.lists(route6(), max_size=6))
    return lines, draw(st.lists(SYSCTLS, max_size=6, unique=True)), draw(st.just([]) | DISCIPLINES)


def configure(host: Namespace, lines: list[str], sysctls: list[str], disciplines: list[str]) -> None:
    host.ip("link", "add", "other", "type", "veth", "peer", "name", "other-end")
    for line in ("link set other-end up", "link set other up", "addr add 10.70.0.1/24 dev other"):
        host.ip(*line.split())
    for setting in sysctls:
        name, _, value = setting.partition("=")
        host.inside(lambda name=name, value=value: Path("/proc/sys/net", name).write_text(value))  # type: ignore[misc]
    for program, script in (("ip", lines), ("tc", disciplines)):
        subprocess.run(
            [program, "-n", host.name, "-force", "-batch", "-"], input="\n".join(script), text=True, capture_output=True
        )


def as_ordinary(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Nobody but Linux makes an address temporary: they are ordinary ones afterwards, as a warning says."""
    for link in snapshot["addr"]:
        for address in link["addr_info"]:
            address.pop("temporary", None)
    return snapshot


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[type[Pair]]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield Pair


@given(configuration=configurations())
@example((["addr add dev eth0 2001:db8:80::1/64 mngtmpaddr"], ["ipv6/conf/eth0/use_tempaddr=2"], []))
@settings(
    max_examples=EXAMPLES,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a second an example: shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_configurations(pairs: type[Pair], configuration: tuple[list[str], list[str], list[str]]) -> None:
    with tempfile.TemporaryDirectory() as directory, pairs(Path(directory)).as_joined() as pair:
        configure(pair.host, *configuration)
        wait_for_addresses(pair.host)
        before = as_ordinary(pair.host.snapshot())
        with lock_runtime_dir(pair.runtime_dir):
            taken = pair.host.inside(lambda: take_over(inspect_uplink("eth0"), pair.runtime_dir))
            try:
                assert [each for each in taken.warnings if not each.startswith("temporary addresses stay")] == []
                found = differences(tap_view(before), tap_view(as_ordinary(pair.host.snapshot())))
                assert not found, "on the TAP:\n" + "\n".join(found)
            finally:
                problems = pair.host.inside(lambda: restore(pair.runtime_dir))
                taken.close()
        assert problems == []
        found = differences(before, as_ordinary(pair.host.snapshot()))
        assert not found, "restored:\n" + "\n".join(found)
