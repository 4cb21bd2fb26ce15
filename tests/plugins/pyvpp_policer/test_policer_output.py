# SPDX-License-Identifier: Apache-2.0
from hypothesis import given

from pyvpp_policer.policer_output import policer_output
from tests.plugins.pyvpp_policer.frames import FRAMES, POLICERS_OF_INTERFACES, check


@given(POLICERS_OF_INTERFACES, FRAMES)
def test_packets_are_dropped_marked_or_passed_by_their_colour(policers, frames):
    check(policer_output, policers, frames)
