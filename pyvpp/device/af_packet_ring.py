# SPDX-License-Identifier: Apache-2.0
"""What kernels know of AF_PACKET rings: the layout of a slot, and a row for each receive and each transmit ring."""

from pyvpp.tables import LINE_PAIR, Table, interface_table, record_dtype

TX_SLOT_BYTES = 4096

# Offsets in a slot (struct tpacket2_hdr, linux/if_packet.h).
STATUS = 0
LENGTH = 4
CAPTURED = 8
MAC = 12
VLAN_TCI = 24
VLAN_TPID = 26
TX_DATA = 32

STATUS_KERNEL = 0
STATUS_USER = 1
STATUS_COPY = 2  # cut, and whole in the socket's queue
STATUS_VLAN_VALID = 0x10
STATUS_VLAN_TPID_VALID = 0x40
STATUS_AVAILABLE = 0
STATUS_SEND_REQUEST = 1

AF_PACKET_RX_QUEUE = record_dtype(
    [
        ("ring", "<i8"),  # heap offset of the receive ring
        ("fd", "<i4"),
        ("sw_if_index", "<u4"),  # 0: no queue
        ("slots", "<u4"),
        ("slot_bytes", "<u4"),
        ("next", "<u4"),
        ("idle", "<u4"),  # calls of the input kernel that found nothing
        ("pad", "u1", (LINE_PAIR - 32,)),  # the next row is another worker's
    ]
)
AF_PACKET_TX_QUEUE = record_dtype(
    [
        ("tx", "<i8"),  # heap offset of the transmit ring
        ("fd", "<i4"),  # the ring's socket
        ("send_fd", "<i4"),  # the socket without a ring
        ("tx_slots", "<u4"),  # 0: this interface is none of ours
        ("tx_slot_bytes", "<u4"),
        ("tx_next", "<u4"),
        ("pad", "<u4"),
    ]
)
AF_PACKET_RX_QUEUES = Table("af_packet_rx_queues", AF_PACKET_RX_QUEUE, 64)
AF_PACKET_TX_QUEUES = interface_table("af_packet_tx_queues", AF_PACKET_TX_QUEUE, per_worker=True)
