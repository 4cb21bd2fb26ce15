# SPDX-License-Identifier: Apache-2.0
"""Devices that are built on an uplink move to the TAP with it, and back.

They are VLANs. Where this kernel has none, macvlans take their place: built on another link in the same way, described
in the same attributes, and removed and made by the same requests.
"""

from __future__ import annotations

import json
import sys

import pytest

from tests.system import process
from tests.system.conftest import Pair, differences, wait_for_link_local
from tests.system.process import eventually, ping
from tests.system.test_takeover import FORWARDER, assert_nothing_left, start, stop, wait_until_restored

OTHER_KIND = """
from pyvpp.linux import capture, rtnetlink, stacked
as_it_is = stacked.vlan_on
def only_its_mode(message, ifindex):  # of a macvlan Linux also tells what it does not take
    device = as_it_is(message, ifindex)
    kept = [(kind, value) for kind, value in rtnetlink.attributes(device.data) if kind == 1] if device else ()
    return device and device._replace(data=b"".join(rtnetlink.attribute(*each) for each in kept))
stacked.KIND, stacked.vlan_on = "macvlan", only_its_mode
capture.check_stacked = lambda ip, state: None  # a macvlan has a MAC address of its own
"""
NAME, ADDRESS, OF_PEER = "eth0.7", "10.99.7.1", "10.99.7.2"


def kind_here(sandbox: Pair) -> str:
    """Puts a VLAN on eth0, or what this kernel has instead."""
    add = ("link", "add", "link", "eth0", "name", NAME, "type")
    for words in (("vlan", "id", "7"), ("macvlan", "mode", "bridge")):
        sandbox.host.ip(*add, *words, check=False)
        if NAME in sandbox.host.ip("link"):
            return words[0]
    pytest.skip("this kernel has neither VLANs nor macvlans")


@pytest.fixture
def forwarder(sandbox: Pair) -> str:
    """The script that takes eth0 over; on it a device with an address, a route, a neighbor, sysctls and an alias."""
    kind = kind_here(sandbox)
    host, peer = sandbox.host, sandbox.peer
    if kind == "vlan":
        peer.ip("link", "add", "link", "eth0", "name", NAME, "type", "vlan", "id", "7")
        peer.ip("link", "set", NAME, "up")
    host.ip("link", "set", NAME, "alias", "of the host", "mtu", "1400")
    host.ip("link", "set", NAME, "up")
    host.ip("addr", "add", f"{ADDRESS}/24", "dev", NAME)
    host.ip("addr", "add", "2001:db8:7::1/64", "dev", NAME, "nodad")
    host.ip("route", "add", "10.98.0.0/16", "via", OF_PEER, "dev", NAME, "metric", "7")
    host.ip("neigh", "add", "10.99.7.50", "lladdr", "02:00:00:00:00:50", "dev", NAME, "nud", "permanent")
    host.run("sh", "-c", f"echo 2 > /proc/sys/net/ipv4/conf/{NAME}/rp_filter")
    peer.ip("addr", "add", f"{OF_PEER}/24", "dev", NAME if kind == "vlan" else "eth0")
    wait_for_link_local(host, NAME)
    assert ping(peer, ADDRESS) == 1
    return FORWARDER if kind == "vlan" else OTHER_KIND + FORWARDER


def view(sandbox: Pair) -> dict[str, object]:
    """What somebody who uses the device sees of it."""
    (link,) = json.loads(sandbox.host.ip("-j", "link", "show", NAME))
    (addresses,) = json.loads(sandbox.host.ip("-j", "addr", "show", NAME))
    return {
        "link": {key: link[key] for key in ("ifindex", "address", "mtu", "link", "ifalias")},
        "addresses": sorted(f"{each['local']}/{each['prefixlen']}" for each in addresses["addr_info"]),
        "routes": sandbox.host.ip("route", "show", "dev", NAME),
        "neighbors": sandbox.host.ip("neigh", "show", "nud", "permanent", "dev", NAME),
        "rp_filter": sandbox.host.run("cat", f"/proc/sys/net/ipv4/conf/{NAME}/rp_filter").stdout,
    }


def test_it_is_on_the_tap_and_back(sandbox: Pair, forwarder: str) -> None:
    before, seen = sandbox.host.snapshot(sysctls_of=NAME), view(sandbox)
    taker = start(sandbox, forwarder)
    assert "tun" in sandbox.host.ip("-d", "link", "show", "eth0")
    assert view(sandbox) == seen
    if forwarder != FORWARDER:  # whose packet socket gets frames without their tags
        assert ping(sandbox.peer, ADDRESS) == 1
        assert ping(sandbox.host, OF_PEER) == 1
    stop(taker)
    assert differences(before, sandbox.host.snapshot(sysctls_of=NAME)) == []
    assert view(sandbox) == seen
    assert ping(sandbox.peer, ADDRESS) == 1


def test_after_a_kill_the_guardian_puts_it_back(sandbox: Pair, forwarder: str) -> None:
    before, seen = sandbox.host.snapshot(sysctls_of=NAME), view(sandbox)
    taker = start(sandbox, forwarder)
    taker.kill()
    taker.wait()
    wait_until_restored(sandbox)
    assert differences(before, sandbox.host.snapshot(sysctls_of=NAME)) == []
    assert view(sandbox) == seen


def test_what_the_host_changes_meanwhile_is_kept(sandbox: Pair, forwarder: str) -> None:
    taker = start(sandbox, forwarder)
    sandbox.host.ip("addr", "add", "10.99.8.1/24", "dev", NAME)
    sandbox.host.ip("route", "del", "10.98.0.0/16")
    sandbox.host.ip("route", "add", "10.97.0.0/16", "via", OF_PEER, "dev", NAME)
    seen = view(sandbox)
    stop(taker)
    assert view(sandbox) == seen
    assert "10.99.8.1/24" in seen["addresses"] and "10.97.0.0/16" in str(seen["routes"])


def test_what_the_host_removes_meanwhile_stays_away(sandbox: Pair, forwarder: str) -> None:
    taker = start(sandbox, forwarder)
    sandbox.host.ip("link", "del", NAME)
    stop(taker)
    assert NAME not in sandbox.host.ip("link")


def test_a_take_over_that_fails_puts_it_back(sandbox: Pair, forwarder: str) -> None:
    """The TAP does not take what was on the NIC."""
    seen = view(sandbox)
    refusing = """
from pyvpp.linux import stacked
make, refused = stacked.make, []
def refuse_once(vlan, below):
    if refused:
        return make(vlan, below)
    refused.append(vlan)
    raise OSError(95, "not on a TAP")
stacked.make = refuse_once
"""
    script = forwarder.replace("VNET = 15", refusing + "VNET = 15")
    done = sandbox.host.run(sys.executable, "-c", script, sandbox.runtime_dir, check=False)
    assert done.stdout.startswith("uplink eth0: cannot be taken over: ") and "not on a TAP" in done.stdout, done.stderr
    assert view(sandbox) == seen
    assert_nothing_left(sandbox)


def test_the_doctor_and_the_plan_tell_of_it(sandbox: Pair, forwarder: str) -> None:
    before = view(sandbox)
    ask = """
import sys
from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.diagnosis import of_the_uplink
from pyvpp.linux.plan import lines
from pyvpp.linux.takeover import TakeOver
print(*(f"{each.verdict} {each.found}" for each in of_the_uplink("eth0")), sep="\\n")
taking = TakeOver(inspect_uplink("eth0"), sys.argv[1])
print(*lines(taking.steps()), *lines(taking.late_steps()), sep="\\n")
"""
    script = forwarder.removesuffix(FORWARDER) + ask
    said = sandbox.host.run(sys.executable, "-c", script, sandbox.runtime_dir).stdout
    assert f"its VLAN {NAME} moves to the TAP with it: 3 addresses, " in said
    told = [" ".join(line.split()) for line in said.splitlines()]
    assert told.index("remove VLANs on eth0, to be made on the TAP") < told.index("create VLANs on the TAP eth0")
    assert any(line.startswith(f"{NAME}: {ADDRESS}/24, ") and "2001:db8:7::1/64" in line for line in told)
    assert view(sandbox) == before


def test_it_alone_can_be_an_uplink(sandbox: Pair, forwarder: str) -> None:
    """What it is built on stays with Linux, and with it all other traffic."""
    before, seen = sandbox.host.snapshot(sysctls_of=NAME), view(sandbox)
    taker = start(sandbox, FORWARDER.replace('inspect_uplink("eth0")', f'inspect_uplink("{NAME}")'))
    assert "tun" in sandbox.host.ip("-d", "link", "show", NAME)
    assert "veth" in sandbox.host.ip("-d", "link", "show", "eth0")
    assert ping(sandbox.peer, ADDRESS) == 1
    assert ping(sandbox.host, OF_PEER) == 1
    assert ping(sandbox.peer, "10.77.0.1") == 1
    stop(taker)
    assert differences(before, sandbox.host.snapshot(sysctls_of=NAME)) == []
    assert view(sandbox) == seen


def test_pyvpp_and_the_host_share_it(sandbox: Pair, forwarder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host speaks to its neighbor in there as before; a pod's packets find their way in and out, tagged."""
    seen, prelude = view(sandbox), forwarder.removesuffix(FORWARDER)
    if prelude:
        script = prelude + "import sys; from pyvpp.main import main; sys.exit(main(sys.argv[1:]))"
        monkeypatch.setattr(process, "pyvpp_command", lambda *options: (sys.executable, "-c", script, *options))
    with process.running(sandbox, sandbox.host, "--uplink", "eth0") as pyvpp:
        assert view(sandbox) == seen
        eventually(lambda: ping(sandbox.peer, ADDRESS), "the host answers")
        assert ping(sandbox.host, OF_PEER) == 1
        (shared,) = pyvpp.data("show vlan")
        assert shared["parent"] == "host-eth0" and shared["admin_up"]
        assert f"L3 {ADDRESS}/24" in pyvpp.ctl(f"show interface address {shared['name']}")
        if not prelude:
            to_and_from_a_pod(sandbox, pyvpp)
    assert view(sandbox) == seen


def to_and_from_a_pod(sandbox: Pair, pyvpp: process.Pyvpp) -> None:
    pod = sandbox.namespace("pod")
    pyvpp.ctl(f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr 10.80.1.2/32")
    sandbox.peer.ip("route", "add", "10.80.0.0/16", "via", ADDRESS)
    eventually(lambda: ping(sandbox.peer, "10.80.1.2"), "the pod answers")
    assert ping(pod, OF_PEER) == 1
    assert pyvpp.interface("host-eth0.7")["counters"]["tx packets"]
