# SPDX-License-Identifier: Apache-2.0
"""What the command line says of a NIC becomes of its driver's options; refusals: tests/pyvpp/test_main.py."""

from pyvpp.device.af_packet_socket import Options
from pyvpp.device.nic_options import AS_USUAL, NicOptions


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
