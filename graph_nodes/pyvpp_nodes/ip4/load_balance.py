# SPDX-License-Identifier: Apache-2.0
"""ip4-load-balance: choose among the paths of a route that was found before, the one a tunnel's outer packets take.

`m.adj` is the load balance. A flow hash from an earlier choice is used again without its lowest bit, since that chose
already and says the same of every packet that comes here.
"""

from enum import IntEnum

from pyvpp.buffers import FLOW_HASH
from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, Records
from pyvpp_nodes.fib.forwarding import take_bucket
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.flow_hash import ip4_flow_hash


class Next(IntEnum):
    DROP = 0


def format_trace(record: TraceRecord) -> list[str]:
    return [
        f"fib {record.fib_index} dpo-idx {record.adj} flow hash: 0x{record.flow_hash:08x}",
        *format_ip4(record.data),
    ]


@node(name="ip4-load-balance", next={Next.DROP: "ip4-drop"}, trace=format_trace)
@jit
def ip4_load_balance(
    heap: U8, meta: Records, frame: U32, nexts: U16, load_balances: Records, lb_buckets: Records
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        balance = load_balances[m.adj]
        if balance.n_buckets > 1:
            known = m.flags & FLOW_HASH
            flow = int64(m.flow_hash) >> 1 if known else ip4_flow_hash(heap, int64(m.cur), int64(balance.flow_hash))
            nexts[i] = take_bucket(m, balance, lb_buckets, flow)
        else:
            m.adj = balance.adj
            nexts[i] = balance.next
