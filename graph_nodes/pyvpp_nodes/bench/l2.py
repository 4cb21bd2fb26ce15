# SPDX-License-Identifier: Apache-2.0
"""Two ports cross-connected."""

from pyvpp.bench.scenario import Scenario
from pyvpp_nodes.bench.ground import inner, to

XCONNECT = Scenario(
    name="l2-xconnect",
    summary="two ports cross-connected",
    setup=("set interface l2 xconnect pg0 pg1", "set interface l2 xconnect pg1 pg0"),
    packet=to(inner),
    expect=lambda engine, frame: frame,
    routes=0,
)
