# SPDX-License-Identifier: Apache-2.0
"""Every scenario that a first-party plugin adds to `pyvpp bench` delivers what its model says."""

import pytest

import pyvpp_nodes
from pyvpp.bench.scenario import declared_in
from pyvpp.bench.stand import stand_for
from tests.pyvpp.bench.stands import SCENARIOS, tried

OF_STACK = declared_in([pyvpp_nodes])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - OF_STACK.keys()))
def test_a_scenario_is_verified(name: str) -> None:
    with stand_for(SCENARIOS[name]) as stand:
        tried(stand, SCENARIOS[name])
