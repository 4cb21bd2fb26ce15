# SPDX-License-Identifier: Apache-2.0
"""What kernels know of AF_XDP sockets: a row for the receiving half of each, one for the sending half, and which rows
are an interface's. A row is one worker's at a time, or guarded by its lock, and has cache lines of its own.
"""

from pyvpp.tables import LINE_PAIR, Table, interface_table, record_dtype

AF_XDP_RX_QUEUE = record_dtype(
    [
        ("rx_producer", "<i8"),  # heap offsets
        ("rx_consumer", "<i8"),
        ("rx_ring", "<i8"),
        ("fill_producer", "<i8"),
        ("fill_flags", "<i8"),
        ("fill_ring", "<i8"),
        ("fd", "<i4"),
        ("sw_if_index", "<u4"),
        ("slots", "<u4"),  # of either ring; 0: no queue
        ("fill_next", "<u4"),  # what the fill ring's producer will be
        ("pad", "u1", (LINE_PAIR - 64,)),  # the next row is another worker's
    ]
)
AF_XDP_TX_QUEUE = record_dtype(
    [
        ("tx_producer", "<i8"),  # heap offsets
        ("tx_consumer", "<i8"),
        ("tx_flags", "<i8"),
        ("tx_ring", "<i8"),
        ("completion_producer", "<i8"),
        ("completion_consumer", "<i8"),
        ("completion_ring", "<i8"),
        ("boundary", "<i8"),  # no descriptor names bytes on both sides of a multiple of this
        ("fd", "<i4"),
        ("slots", "<u4"),  # of either ring; 0: no queue
        ("tx_next", "<u4"),  # what the transmit ring's producer will be
        ("metadata", "<u4"),  # 1: Linux or the NIC finishes checksums
        ("lock", "<u4"),  # one worker at a time sends by a queue
        ("send_fd", "<i4"),  # a packet socket, for what is to be segmented
        ("pad", "u1", (LINE_PAIR - 88,)),
    ]
)
AF_XDP_INTERFACE = record_dtype([("first", "<u4"), ("queues", "<u4")])
TX_ROW_BYTES = AF_XDP_TX_QUEUE.itemsize
TX_LOCK = dict(AF_XDP_TX_QUEUE.fields or {})["lock"][1]

AF_XDP_RX_QUEUES = Table("af_xdp_rx_queues", AF_XDP_RX_QUEUE, 64)
AF_XDP_TX_QUEUES = Table("af_xdp_tx_queues", AF_XDP_TX_QUEUE, 64)  # the same rows: the sockets' other half
AF_XDP_INTERFACES = interface_table("af_xdp_interfaces", AF_XDP_INTERFACE)  # which rows are an interface's
