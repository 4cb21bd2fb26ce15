# SPDX-License-Identifier: Apache-2.0
"""What is coalesced and segmented without being told so, and the commands that change it."""

from types import SimpleNamespace

import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.engine import Engine
from pyvpp.interface import OFFLOAD_ALL, OFFLOAD_CSUM_ANYWHERE, OFFLOAD_IPIP, OFFLOAD_USO
from tests.graph_nodes.lab import Lab
from tests.graph_nodes.test_churn import Console

pytestmark = pytest.mark.slow

ARC = "interface-output"


def test_gro_is_not_on_towards_the_packet_generator_and_tunnels():
    lab = Lab()
    try:
        on = {each.name for each in lab.engine.interfaces if lab.engine.features.enabled(ARC, each.sw_if_index)}
        assert on == {"host-eth0", "tap0", "tun0"}
    finally:
        lab.close()


@pytest.mark.parametrize("withheld", [set(), {"gro"}, {"gso"}])
def test_what_an_interface_begins_with(withheld):
    engine = Engine(buffers=512, hugepages="off", withheld=frozenset(withheld))

    def enabled(kind: str, offload: int, zero_copy: bool | None = None) -> set[str]:
        device = None if zero_copy is None else SimpleNamespace(way=SimpleNamespace(zero_copy=zero_copy))
        made = engine.interfaces.create(
            f"{kind}-{offload}-{zero_copy}", kind, output="interface-output", tx="pg-tx", offload=offload, device=device
        )
        return set(engine.features.enabled(ARC, made.sw_if_index))

    try:
        assert enabled("tun", OFFLOAD_ALL) == {"gro"} - withheld
        assert enabled("tap", OFFLOAD_ALL & ~OFFLOAD_USO) == {"gro", "gso"} - withheld
        assert (
            enabled("af-packet", OFFLOAD_ALL) == enabled("af-packet", OFFLOAD_ALL | OFFLOAD_IPIP) == {"gro"} - withheld
        )
        assert enabled("af-packet", OFFLOAD_ALL & ~OFFLOAD_CSUM_ANYWHERE) == {"gro", "gso"} - withheld
        assert enabled("af-xdp", 0) == {"gro", "gso"} - withheld
        assert enabled("af-xdp", OFFLOAD_ALL, zero_copy=False) == {"gro"} - withheld
        assert enabled("af-xdp", OFFLOAD_ALL, zero_copy=True) == enabled("packet-generator", 0) == set()
    finally:
        engine.close()


def test_commands():
    console = Console()
    try:
        index, features = console.pg0.sw_if_index, console.engine.features
        for line, on in (("", True), (" disable", False), (" enable", True)):
            console(f"set interface feature gro pg0{line}")
            assert features.enabled(ARC, index) == (["gro"] if on else [])
        console("set interface feature gso pg0")
        assert features.enabled(ARC, index) == ["gro", "gso"]
        for line in ("nosuch", "pg0 perhaps", "pg0 enable more"):
            with pytest.raises(CommandError):
                console(f"set interface feature gro {line}")
    finally:
        console.close()
