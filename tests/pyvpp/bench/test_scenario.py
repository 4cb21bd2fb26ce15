# SPDX-License-Identifier: Apache-2.0
from types import ModuleType

import pytest

from pyvpp.bench.scenario import Scenario, Traffic, declared_in, scenarios_among


def some(name: str) -> Traffic:
    return Traffic(name=name, summary="", packet=lambda engine, i, size: bytes([i] * size), variations=3)


ONE, TWO = some("one"), some("two")
VERIFIED = Scenario(name="three", summary="", packet=ONE.packet, expect=lambda engine, packet: packet)


def module(**names: object) -> ModuleType:
    made = ModuleType("a_package_of_a_test")
    vars(made).update(names)
    return made


def test_labels_are_found_by_themselves_in_tuples_and_once_where_imported_again():
    found = declared_in([module(ONE=ONE, MORE=(TWO, VERIFIED, 7), imported=ONE)])
    assert list(found) == ["one", "two", "three"]
    assert scenarios_among(found) == {"three": VERIFIED}


def test_a_name_declared_twice_is_the_programmers_fault():
    with pytest.raises(ValueError, match="scenario one is declared twice, again in a_package_of_a_test"):
        declared_in([module(ONE=ONE), module(other=some("one"))])


def test_packets_by_number_and_size():
    assert ONE.packets(None, 2) == [b"\0\0", b"\1\1", b"\2\2"]
    assert ONE.packets(None, count=1) == [bytes(64)]
