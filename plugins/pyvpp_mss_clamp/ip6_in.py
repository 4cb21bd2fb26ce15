# SPDX-License-Identifier: Apache-2.0
"""tcp-mss-clamping-ip6-in: lower the maximum segment size in TCP SYNs that arrive on an interface.

A feature of ip6-unicast, off until `set interface tcp-mss-clamp INTERFACE ip6 enable ip6-mss SIZE`. A SYN (or
SYN-ACK) that asks for larger segments asks for SIZE instead; the TCP checksum is patched (RFC 1624), or left to the
device that is to finish it. TCP behind extension headers is not looked for.
Nothing is dropped. A SYN without the option stands for 1220 bytes (RFC 9293, 3.7.1) and is counted, not changed.
"""

from pyvpp.features import Feature, next_feature
from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_mss_clamp.clamp import Counter, clamp_ip6
from pyvpp_nodes.integers import int64

ARC = "ip6-unicast"


@node(name="tcp-mss-clamping-ip6-in", counters=Counter, features=(Feature(ARC),))
@jit
def clamp_ip6_in(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, feature_chains: U16, mss_clamp: Records
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        clamp_ip6(heap, m, int64(m.cur), int64(mss_clamp[m.rx].ip6), counters)
        nexts[i] = next_feature(feature_chains, m)
