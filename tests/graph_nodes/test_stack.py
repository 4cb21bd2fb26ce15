# SPDX-License-Identifier: Apache-2.0
"""The stack on an engine: what becomes of pods that come and go."""

import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface
from types import SimpleNamespace
from typing import Any

import pytest

from pyvpp.engine import Engine
from pyvpp.interface import P2P, UPLINK, Interface

pytestmark = pytest.mark.slow

POD = IPv4Address("10.80.1.2")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(buffers=512, hugepages="off")
    yield engine
    engine.close()


def add_pod(engine: Engine, name: str) -> Interface:
    made = engine.interfaces.create(name, "tun", flags=P2P, output="interface-output", tx="loopback-tx")
    engine.events.fire("pod-added", made, POD)
    return made


def way_to_pod(engine: Engine) -> list[int]:
    entry = engine.stack.fib4.find(f"{POD}/32")
    return [path.sw_if_index for path in entry.paths] if entry else []


def test_a_pod_s_route_goes_with_its_interface(engine: Engine) -> None:
    pod = add_pod(engine, "tun0")
    assert way_to_pod(engine) == [pod.sw_if_index]
    engine.interfaces.delete(pod)
    assert way_to_pod(engine) == []


def test_an_address_that_another_pod_has_by_now_stays_its(engine: Engine) -> None:
    first, second = add_pod(engine, "tun0"), add_pod(engine, "tun1")
    engine.interfaces.delete(first)
    assert way_to_pod(engine) == [second.sw_if_index]
    engine.interfaces.delete(second)
    assert way_to_pod(engine) == []


ADDRESS, BESIDE = IPv4Interface("10.0.0.5/16"), IPv4Interface("10.0.0.6/24")
GATEWAYS = (("198.51.100.0/24", "10.0.0.1"), ("203.0.113.0/24", "10.0.0.2"))


def of_linux(addresses: Sequence[IPv4Interface], routes: Sequence[tuple[str, str]]) -> Any:
    """An uplink's state, as far as it concerns the stack."""
    return SimpleNamespace(
        addresses=[SimpleNamespace(family=socket.AF_INET, interface=each) for each in addresses],
        routes=[SimpleNamespace(table=254, destination=each, gateway=gateway) for each, gateway in routes],
        vlans=(),
    )


def test_what_the_host_changes_on_an_uplink_is_followed(engine: Engine) -> None:
    """An address in the prefix of another, which Linux takes and VPP does not, is the host's as well."""
    fib = engine.stack.fib4
    uplink, host = (
        engine.interfaces.create(name, "tap", flags=UPLINK, output="interface-output", tx="loopback-tx")
        for name in ("host-eth0", "tap0")
    )
    before = of_linux([ADDRESS, BESIDE], GATEWAYS[:1])
    engine.events.fire("uplink-added", uplink, host, before)

    def seen() -> tuple[list[bool], list[bool]]:
        local = [fib.is_local(int(each.ip)) for each in (ADDRESS, BESIDE)]
        return local, [fib.find(destination) is not None for destination, _ in GATEWAYS]

    assert seen() == ([True, True], [True, False])
    now = of_linux([ADDRESS], GATEWAYS[1:])
    engine.events.fire("uplink-changed", uplink, before, now)
    assert seen() == ([True, False], [False, True])
    engine.events.fire("uplink-changed", uplink, now, of_linux([BESIDE], ()))
    assert seen() == ([False, True], [False, False])
    for each in (uplink, host):
        engine.interfaces.delete(each)
