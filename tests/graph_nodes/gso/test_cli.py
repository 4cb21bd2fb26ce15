# SPDX-License-Identifier: Apache-2.0
"""What is coalesced and segmented without being told so, and the commands that change it."""

import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.engine import Engine
from pyvpp.interface import OFFLOAD_ALL, OFFLOAD_CSUM_ANYWHERE, OFFLOAD_IPIP, OFFLOAD_USO
from tests.graph_nodes.lab import Lab
from tests.graph_nodes.test_churn import Console

pytestmark = pytest.mark.slow

ARC = "interface-output"


def test_gro_is_on_towards_linux_and_nowhere_else():
    lab = Lab()
    try:
        on = {each.name for each in lab.engine.interfaces if lab.engine.features.enabled(ARC, each.sw_if_index)}
        assert on == {"tap0", "tun0"}
    finally:
        lab.close()


@pytest.mark.parametrize("withheld", [set(), {"gro"}, {"gso"}])
def test_what_an_interface_begins_with(withheld):
    engine = Engine(buffers=512, hugepages="off", withheld=frozenset(withheld))

    def enabled(kind: str, offload: int) -> set[str]:
        made = engine.interfaces.create(
            f"{kind}-{offload}", kind, output="interface-output", tx="pg-tx", offload=offload
        )
        return set(engine.features.enabled(ARC, made.sw_if_index))

    try:
        assert enabled("tun", OFFLOAD_ALL) == {"gro"} - withheld
        assert enabled("tap", OFFLOAD_ALL & ~OFFLOAD_USO) == {"gro", "gso"} - withheld
        assert enabled("af-packet", OFFLOAD_ALL) == enabled("af-packet", OFFLOAD_ALL | OFFLOAD_IPIP) == set()
        assert enabled("af-packet", OFFLOAD_ALL & ~OFFLOAD_CSUM_ANYWHERE) == {"gso"} - withheld
        assert enabled("af-xdp", 0) == {"gso"} - withheld
        assert enabled("packet-generator", 0) == set()
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
