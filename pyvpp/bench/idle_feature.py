# SPDX-License-Identifier: Apache-2.0
"""bench-idle-feature: pass each packet on along its feature arc; what an enabled feature costs before it does anything.

Only the bench puts it into a graph: the loader does not look here.
"""

from pyvpp.features import Feature, next_feature
from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.typing import U16, U32, Records

ARCS = ("ip4-unicast", "ip4-output", "interface-output")


@node(name="bench-idle-feature", features=tuple(Feature(arc) for arc in ARCS))
@jit
def idle_feature(meta: Records, frame: U32, nexts: U16, feature_chains: U16) -> None:
    for i, b in enumerate(frame):
        nexts[i] = next_feature(feature_chains, meta[b])
