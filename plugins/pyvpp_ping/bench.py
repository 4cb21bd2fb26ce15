# SPDX-License-Identifier: Apache-2.0
"""What `pyvpp bench --nodes` measures ping's nodes on, and what `pyvpp plugin check` fills their tables with."""

import random
import struct
from typing import Any

import numpy as np

from pyvpp.bench.scenario import IN_MAC, Traffic
from pyvpp_nodes.bench.ground import BASE, OWN, SENDER, SENDER_MAC
from pyvpp_nodes.bench.model import ETHERNET_BYTES, IP4_BYTES, ethernet, ip4
from pyvpp_ping.message import ICMP, checksum
from pyvpp_ping.tables import IDENTIFIERS, PINGING, PINGS


def echo_reply(engine: Any, i: int, size: int) -> bytes:
    """An answer to a ping that is not ours."""
    head = struct.pack("!BBHHH", 0, 0, 0, i & 0xFFFF, 1)
    message = head + bytes(max(size - ETHERNET_BYTES - IP4_BYTES - len(head), 0))
    return ethernet(IN_MAC, SENDER_MAC, ip4(SENDER, OWN, ICMP, message[:2] + checksum(message) + message[4:]))


TRAFFIC = Traffic(
    name="echo-replies", summary="answers to the host's pings", setup=BASE, packet=echo_reply, variations=1024
)


def check_tables(random_: random.Random) -> dict[str, Any]:
    """Half of all identifiers are a ping's, of one family or the other."""
    pings = np.zeros(IDENTIFIERS, PINGING)
    pings["version"] = np.random.default_rng(random_.randrange(1 << 32)).choice([0, 0, 4, 6], IDENTIFIERS)
    return {PINGS.name: pings}
