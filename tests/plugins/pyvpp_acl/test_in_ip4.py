# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp_acl.in_ip4 import acl_in_ip4
from tests.plugins.pyvpp_acl.machine import SETTINGS, SessionMachine, frames_are_judged, sessions_begin_within_a_chunk
from tests.plugins.pyvpp_acl.model import frames, rows


@given(rows(4), frames(4))
def test_every_packet_is_judged_by_the_first_row(given_rows, frame):
    frames_are_judged(acl_in_ip4, given_rows, frame)


@given(rows(4), frames(4), st.integers(0, 3))
def test_lists_of_other_interfaces_do_not_matter(given_rows, frame, interface):
    frames_are_judged(acl_in_ip4, given_rows, frame, only=interface)


def test_sessions_begin_within_a_chunk():
    sessions_begin_within_a_chunk(acl_in_ip4, 4)


class Machine(SessionMachine):
    node, version = acl_in_ip4, 4


TestMachine = Machine.TestCase
TestMachine.settings = SETTINGS
