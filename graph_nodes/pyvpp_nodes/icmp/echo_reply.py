# SPDX-License-Identifier: Apache-2.0
"""ip4-icmp-echo-reply: hand the answer to a ping of ours to the command that waits for it.

ip4-icmp-input sends here what carries the identifier of a running `ping`, whose row of `ping_ids` is not 0.
"""

import time
from typing import Any

import numpy as np

from pyvpp.node import Kind, node
from pyvpp.tables import Table
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4

PING_IDS = Table("ping_ids", np.uint8, 65536)  # by ICMP identifier: 1 while a ping of ours has it


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(name="ip4-icmp-echo-reply", next={}, kind=Kind.PYTHON, trace=format_trace)
def ip4_icmp_echo_reply(engine: Any, packet: Any) -> None:
    now = time.monotonic()
    data = packet.data
    icmp = 4 * (data[0] & 15)
    waiting = getattr(engine.stack, "pings", {}).get(int.from_bytes(data[icmp + 4 : icmp + 6], "big"))
    if waiting is not None:
        waiting(data, icmp, now)
