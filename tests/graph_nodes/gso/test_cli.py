# SPDX-License-Identifier: Apache-2.0
"""What is coalesced and segmented without being told so, and the commands that change it."""

import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.engine import Engine
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


def test_gro_withheld():
    engine = Engine(buffers=512, hugepages="off", withheld=frozenset({"gro"}))
    try:
        tap = engine.interfaces.create("tap0", "tap", output="interface-output", tx="tap-tx")
        assert engine.features.enabled(ARC, tap.sw_if_index) == []
    finally:
        engine.close()


def test_commands():
    console = Console()
    try:
        index, features = console.pg0.sw_if_index, console.engine.features
        for line, on in (("", True), (" disable", False), (" enable", True)):
            console(f"set interface feature gro pg0{line}")
            assert features.enabled(ARC, index) == (["gro"] if on else [])
        for line in ("nosuch", "pg0 perhaps", "pg0 enable more"):
            with pytest.raises(CommandError):
                console(f"set interface feature gro {line}")
    finally:
        console.close()
