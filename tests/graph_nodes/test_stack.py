# SPDX-License-Identifier: Apache-2.0
"""The stack on an engine: what becomes of pods that come and go."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from pyvpp.engine import Engine
from pyvpp.interface import P2P, Interface

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
