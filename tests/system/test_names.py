# SPDX-License-Identifier: Apache-2.0
"""`--uplink` as MAC and as PCI address."""

from __future__ import annotations

import pytest

from pyvpp.errors import OperatorError
from pyvpp.linux import ethtool
from pyvpp.linux.names import interface_name, interface_names_of
from tests.system.conftest import Pair
from tests.system.process import ping, running


def mac_of(pair: Pair, name: str = "eth0") -> str:
    return pair.host.ip("-br", "link", "show", name).split()[2]


def test_an_uplink_by_its_mac_address(sandbox: Pair) -> None:
    mac = mac_of(sandbox)
    with running(sandbox, sandbox.host, "--uplink", mac.upper().replace(":", "-")) as pyvpp:
        assert [row["name"] for row in pyvpp.data("show uplink")] == ["eth0"]
        assert ping(sandbox.peer, "10.77.0.1") == 1


def test_a_mac_address_of_several_means_the_one_below(sandbox: Pair) -> None:
    """What is built on it has the same address, and so have the members of a bond."""
    host, mac = sandbox.host, mac_of(sandbox)
    host.ip("link", "add", "mv0", "link", "eth0", "address", mac, "type", "macvlan", check=False)
    host.ip("link", "add", "br0", "address", mac, "type", "bridge")
    host.ip("link", "add", "port0", "address", mac, "type", "veth", "peer", "name", "port1")
    host.ip("link", "set", "port0", "master", "br0")
    with pytest.raises(OperatorError, match=f"^uplink {mac}: MAC address of (eth0, br0|br0, eth0); name one of them$"):
        host.inside(lambda: interface_name(mac))
    host.ip("link", "del", "br0")
    host.ip("link", "del", "port0")
    assert host.inside(lambda: interface_name(mac)) == "eth0"
    with pytest.raises(OperatorError, match="the same interface is named twice"):
        host.inside(lambda: interface_names_of(["eth0", mac]))


def test_an_uplink_by_its_pci_address(sandbox: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is what the driver tells ethtool; no device here has one."""
    addresses = {"eth0": "0000:3b:00.1", "other": "0001:3b:00.1"}
    sandbox.host.ip("link", "add", "other", "type", "veth", "peer", "name", "other-end")
    assert sandbox.host.inside(lambda: ethtool.bus_address("eth0")) == ""
    monkeypatch.setattr(ethtool, "bus_address", lambda name: addresses.get(name, ""))
    for meant, name in (("0000:3b:00.1", "eth0"), ("3B:00.1", "eth0"), ("0001:3b:00.1", "other"), ("eth0", "eth0")):
        assert sandbox.host.inside(lambda meant=meant: interface_name(meant)) == name  # type: ignore[misc]
    with pytest.raises(OperatorError, match=r"^uplink 3b:00\.0: no interface has this PCI address; there are: .*eth0"):
        sandbox.host.inside(lambda: interface_name("3b:00.0"))


def test_an_interface_and_what_is_built_on_it_are_not_both_uplinks(sandbox: Pair) -> None:
    host = sandbox.host
    host.ip("link", "add", "link", "eth0", "name", "mv0", "type", "macvlan", check=False)
    if "mv0" not in host.ip("link"):
        pytest.skip("this kernel has no macvlans")
    with pytest.raises(OperatorError, match=r"^--uplink: mv0 is built on eth0; name eth0, whose VLANs go with it"):
        host.inside(lambda: interface_names_of(["mv0", "eth0"]))
    assert host.inside(lambda: interface_names_of(["mv0"])) == ["mv0"]
