# SPDX-License-Identifier: Apache-2.0
"""The FIB follows an engine's interfaces by their events."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyvpp.tables import TableInstance
from pyvpp_nodes.fib import create
from pyvpp_nodes.fib.adjacency import ADMIN_UP, LINK_UP
from pyvpp_nodes.fib.entry import attached_nexthop

INTERFACE = np.dtype(
    (
        np.record,
        [
            ("flags", np.uint32),
            ("mtu", np.uint32),
            ("output_next", np.uint16),
            ("pad", np.uint16),
            ("mac", np.uint64),
            ("fib_index", np.uint32),
        ],
    )
)


class Events(dict[str, Any]):
    def on(self, name: str, handler: Any) -> None:
        self[name] = handler


def test_events_reach_routes_and_neighbors(bench: Any) -> None:
    rows = np.zeros(8, INTERFACE)
    rows[1] = (ADMIN_UP | LINK_UP, 1500, 0x8000 | 77, 0, 0x020000000001, 0)
    eth = SimpleNamespace(sw_if_index=1, name="eth0")
    tables = {name: TableInstance(replace(table.table, capacity=70000), 1) for name, table in bench.tables.items()}
    tables["interfaces"] = SimpleNamespace(array=rows)
    barriers: list[int] = []

    @contextmanager
    def barrier() -> Any:
        barriers.append(1)
        yield

    engine = SimpleNamespace(
        tables=tables, events=Events(), interfaces=[eth], barrier=barrier, synchronize=lambda: None
    )
    stack = create(engine, node_index={"error-drop": 0, "ip4-drop": 1}.__getitem__, clock=lambda: 5.0)
    fib = stack.fib4
    fib.add_address(1, 0x0A000001, 24)
    fib.update("20.0.0.0/8", (attached_nexthop(0x0A000002, 1),))
    stack.neighbors.learn(1, 0x0A000002, b"\x02abcde")
    route = fib.find("20.0.0.0/8")
    assert route is not None
    adjacency = tables["adjacencies"].array[route.shares[0][1]]
    assert bytes(adjacency.rewrite[:14]) == b"\x02abcde\x02\0\0\0\0\1\x08\0"
    assert (int(adjacency.mtu), int(adjacency.next)) == (1500, 0x8000 | 77)
    rows["mtu"][1] = 9000
    engine.events["interface-mtu"](eth)
    rows["mac"][1] = 0x020000000002
    engine.events["interface-mac"](eth)
    assert int(adjacency.mtu) == 9000
    assert bytes(adjacency.rewrite[6:12]) == b"\x02\0\0\0\0\2"
    assert barriers
    rows["flags"][1] = 0
    engine.events["interface-state"](eth)
    assert len(stack.neighbors) == 0
    assert fib.lookup("10.0.0.1").length == 0
    engine.events["interface-deleted"](eth)
    assert fib.find("20.0.0.0/8") is None
    assert fib.links == {} == fib.addresses
    stack.tick()
