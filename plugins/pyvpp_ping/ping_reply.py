# SPDX-License-Identifier: Apache-2.0
"""ping-reply: tell each ping of the answers to it.

On the main thread, where the command line waits for them. An answer to a ping that has ended meanwhile, or that never
asked for this one, is dropped and counted.
"""

from enum import IntEnum
from typing import Any

import numpy as np

from pyvpp.node import FREE, Kind, NodeCounter, node
from pyvpp.typing import I64, U8, U16, U32, U64, Records


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    NOT_ASKED = 0, "echo replies that nobody asked for"


@node(name="ping-reply", kind=Kind.SLOW, next={Next.DROP: "error-drop"}, counters=Counter)
def ping_reply(
    engine: Any, heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, ping_received: I64
) -> None:
    for i, b in enumerate(frame):
        cur = int(meta["cur"][b])
        packet = heap[cur : cur + int(meta["len"][b])].tobytes()
        if engine.stack.pings.heard(packet, int(ping_received[b])):
            nexts[i] = FREE
        else:
            counters[Counter.NOT_ASKED] += np.uint64(1)
            meta["error"][b] = error_base + Counter.NOT_ASKED
            nexts[i] = Next.DROP
