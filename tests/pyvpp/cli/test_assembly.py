# SPDX-License-Identifier: Apache-2.0
import pytest

from pyvpp.cli.assembly import command_tree
from pyvpp.loader import load


def test_the_engines_commands_and_those_of_packages():
    engines_own = {command.name for command in command_tree([]).commands}
    assert {"help", "show interface", "trace add", "packet-generator new", "pcap trace"} <= engines_own
    assert not {"ip route", "create vxlan tunnel"} & engines_own
    every = {command.name for command in command_tree(load().packages).commands}
    assert {"ip route", "create vxlan tunnel"} <= every


def test_two_packages_with_the_same_command_are_the_programmers_fault():
    (package, *_) = load().packages
    with pytest.raises(ValueError, match="defined twice"):
        command_tree([package, package])
