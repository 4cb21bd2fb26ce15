# SPDX-License-Identifier: Apache-2.0
import numpy as np

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip4.local_end_of_arc import Counter, Next, ip4_local_end_of_arc
from tests.graph_nodes.forwarding import ip4

TAKERS = np.zeros(256, np.uint16)
TAKERS[[0, 1, 17, 255]] = 0x8000, 0x8001, 0x8011, 0x80FF


def test_every_protocol():
    result = run_kernel(
        ip4_local_end_of_arc, [Packet(ip4(protocol=p)) for p in range(256)], {"ip4_local_protocols": TAKERS}
    )
    assert result.nexts == [int(taker) or Next.PUNT for taker in TAKERS]
    assert result.counters[Counter.UNKNOWN_PROTOCOL] == 252
