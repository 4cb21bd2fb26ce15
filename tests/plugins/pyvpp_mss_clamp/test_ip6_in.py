# SPDX-License-Identifier: Apache-2.0
from hypothesis import given

from pyvpp_mss_clamp.ip6_in import clamp_ip6_in
from tests.plugins.pyvpp_mss_clamp.segments import LIMITS, check, frames


@given(frames(6), LIMITS)
def test_kernel_is_the_reference_applied_to_each_packet(frame, limits):
    check(clamp_ip6_in, frame, limits, leaving=False)
