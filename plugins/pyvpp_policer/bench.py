# SPDX-License-Identifier: Apache-2.0
"""What `pyvpp bench --scenario policer` runs, and what `pyvpp plugin check` fills the tables with."""

import random
from typing import Any

import numpy as np

from pyvpp.bench.scenario import Scenario, Traffic
from pyvpp_nodes.bench.ground import BASE, ROUTE, inner, rewritten, to
from pyvpp_nodes.fib.tables import ADJACENCIES, ADJACENCY
from pyvpp_nodes.kit.token_bucket import TOKEN, time_to_fill
from pyvpp_policer.meter import (
    CLASSES,
    POLICER,
    POLICER_APPLIED,
    POLICER_CLASSES,
    POLICER_TOKENS,
    POLICERS,
    TOKENS,
    Action,
    Kind,
)

SCENARIO = Scenario(
    name="policer",
    summary="IPv4 forwarding, a two-rate policer on input within whose rates all packets are",
    setup=(
        *BASE,
        ROUTE,
        "policer add name wide type 2r3c-2698 cir 90000000 cb 1000000000 eir 100000000 eb 1000000000"
        " exceed-action transmit violate-action transmit",
        "policer input name wide pg0",
    ),
    packet=to(inner),
    expect=rewritten,
)


OUTPUT = Traffic(
    name="policer-output",
    summary="IPv4 forwarding, the same policer on output",
    setup=(*SCENARIO.setup[:-1], "policer output name wide pg1"),
    packet=SCENARIO.packet,
)


def check_tables(random_: random.Random) -> dict[str, Any]:
    """A policer of each kind with small buckets, one of them for each interface."""
    n = 8
    policers, tokens = np.zeros(n, POLICER), np.zeros(n, TOKENS)
    for k in range(n):
        policers["kind"][k], policers["by_packets"][k] = random_.choice(list(Kind)), random_.randrange(2)
        policers["rate"][k], policers["rate2"][k] = random_.randrange(1, 10**6), random_.randrange(1, 10**6)
        policers["burst"][k], policers["burst2"][k] = random_.randrange(3000), random_.randrange(3000)
        policers["longest"][k] = time_to_fill(int(policers["rate"][k]), 6000)
        policers["longest2"][k] = time_to_fill(int(policers["rate2"][k]), 3000)
        policers["action"][k] = [random_.choice(list(Action)) for _ in range(3)]
        policers["dscp"][k] = [random_.randrange(64) for _ in range(3)]
        tokens["committed"][k], tokens["excess"][k] = policers["burst"][k] * TOKEN, policers["burst2"][k] * TOKEN
        policers["aware"][k] = random_.randrange(2)
    applied = np.zeros(POLICER_APPLIED.capacity, POLICER_APPLIED.dtype)
    for way in ("input", "output"):
        applied[way] = [random_.randrange(4) for _ in applied]
    classes = np.array([random_.randrange(n) for _ in range(4 * CLASSES)], np.uint32)
    adjacencies = np.zeros(16, ADJACENCY)
    return {
        POLICERS.name: policers, POLICER_TOKENS.name: tokens, POLICER_APPLIED.name: applied,
        ADJACENCIES.name: adjacencies, POLICER_CLASSES.name: classes,
    }  # fmt: skip
