# SPDX-License-Identifier: Apache-2.0
from hypothesis import given

from pyvpp_mss_clamp.ip6_out import clamp_ip6_out
from tests.plugins.pyvpp_mss_clamp.segments import LIMITS, check, frames


@given(frames(6), LIMITS)
def test_kernel_is_the_reference_applied_to_each_packet(frame, limits):
    check(clamp_ip6_out, frame, limits, leaving=True)
