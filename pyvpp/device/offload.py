# SPDX-License-Identifier: Apache-2.0
"""What may be left to Linux and the NIC behind an AF_PACKET socket, as the OFFLOAD_ bits of an interface."""

import os

from pyvpp.interface import OFFLOAD_CSUM, OFFLOAD_CSUM_ANYWHERE, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO
from pyvpp.linux import ethtool

FIRST_WITH_USO = (6, 2)
"""The Linux whose virtio_net_hdr has a type for UDP segmentation; an older one refuses the packet."""
FIRST_HEADER_ONLY = {"tx-checksum-ipv4", "tx-checksum-ipv6"}
"""A NIC with these takes the outer UDP header of a tunnel for the one that is meant."""


def offload_of(linux_name: str) -> int:
    """Of an interface in the caller's namespace; raises OSError when there is none.

    Linux itself segments what a NIC cannot, and finishes checksums for one that finishes none.
    """
    features = ethtool.active_features(linux_name)
    anywhere = ethtool.TX_CHECKSUM_ANYWHERE in features or not FIRST_HEADER_ONLY & features
    release = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
    uso = OFFLOAD_USO if release >= FIRST_WITH_USO else 0
    return OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | uso | (OFFLOAD_CSUM_ANYWHERE if anywhere else 0)
