# SPDX-License-Identifier: Apache-2.0
from hypothesis import given

from pyvpp_acl.out_ip4 import acl_out_ip4
from tests.plugins.pyvpp_acl.machine import SETTINGS, SessionMachine, frames_are_judged, sessions_begin_within_a_chunk
from tests.plugins.pyvpp_acl.model import frames, rows


@given(rows(4), frames(4))
def test_every_packet_is_judged_by_the_first_row(given_rows, frame):
    frames_are_judged(acl_out_ip4, given_rows, frame)


def test_sessions_begin_within_a_chunk():
    sessions_begin_within_a_chunk(acl_out_ip4, 4)


class Machine(SessionMachine):
    node, version = acl_out_ip4, 4


TestMachine = Machine.TestCase
TestMachine.settings = SETTINGS
