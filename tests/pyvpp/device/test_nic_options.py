# SPDX-License-Identifier: Apache-2.0
"""What the command line says of a NIC becomes of its driver's options; refusals: tests/pyvpp/test_main.py."""

import pytest

from pyvpp.device.af_packet_socket import Options, check_rx_slots
from pyvpp.device.nic_options import AS_USUAL, NicOptions
from pyvpp.errors import OperatorError


def test_nothing_said_is_a_queue_for_each_worker_and_rings_as_usual() -> None:
    assert Options.of(AS_USUAL, 3) == Options(rx_queues=3, tx_queues=3)
    assert AS_USUAL.told(3) == "receive rings: 3, transmit rings: 3"
    AS_USUAL.check()


def test_what_is_said_is_done() -> None:
    said = NicOptions(num_rx_queues=4, rx_ring_size=1024, tx_ring_size=16, qdisc_bypass=True)
    said.check()
    assert Options.of(said, 2) == Options(rx_queues=4, tx_queues=2, rx_slots=1024, tx_slots=16, qdisc_bypass=True)
    assert said.told(2) == (
        "receive rings: 4 of 1024 packets, transmit rings: 2 of 16 packets, past the queueing discipline"
    )


@pytest.mark.parametrize(("mtu", "most"), [(1500, 131072), (9000, 16384), (65535, 2048)])
def test_a_receive_ring_takes_a_quarter_of_a_gibibyte_at_most(mtu: int, most: int) -> None:
    check_rx_slots(most, mtu)
    with pytest.raises(OperatorError, match=f"^rx-ring-size {2 * most}: at most {most} for an MTU of {mtu}$"):
        check_rx_slots(2 * most, mtu)
