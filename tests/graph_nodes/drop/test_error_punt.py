# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.node import FREE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.drop.error_punt import error_punt


@given(st.lists(st.integers(0, 9), min_size=1, max_size=64))
def test_freed_and_counted_by_interface(interfaces):
    result = run_kernel(error_punt, [Packet(b"x", rx=rx) for rx in interfaces])
    assert result.nexts == [FREE] * len(interfaces)
    punts = result.tables["interface_punts"]
    assert [int(punts[rx]) for rx in range(10)] == [interfaces.count(rx) for rx in range(10)]
