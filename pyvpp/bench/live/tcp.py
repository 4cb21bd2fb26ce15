# SPDX-License-Identifier: Apache-2.0
"""TCP over the ends: what arrives, and what a Gbit costs."""

import contextlib
from collections.abc import Callable, Iterator

from pyvpp.bench.live.labs import Ends
from pyvpp.bench.live.scenario import LOWER, Conditions, LiveScenario, Measured, Metric
from pyvpp.bench.live.traffic import Agent
from pyvpp.lab.process import LabError

RATE = Metric("throughput", "Gbit/s")
GBIT_COST = (Metric("pyvpp CPU", "ms/Gbit", LOWER), Metric("CPU in all", "ms/Gbit", LOWER))


def tcp(streams: int, towards_client: bool = False, cut: bool = False) -> Callable[[Ends, Conditions], Measured]:
    """TCP over so many connections; `cut`: the ends hand over packets of the MTU."""

    def measure(ends: Ends, conditions: Conditions) -> Measured:
        sender, receiver, address = ends.client, ends.server, ends.server_address
        if towards_client:
            sender, receiver, address = ends.server, ends.client, ends.client_address
        with without_segmentation(sender, receiver) if cut else contextlib.nullcontext():
            found = conditions.tcp.run(sender, receiver, address, streams, conditions.seconds, conditions.meter(ends))
        gbits = found.bits_per_second / 1e9
        if gbits <= 0:
            raise LabError("no byte arrived")
        measured = {"throughput": gbits, "CPU in all": found.cpu.lab / gbits * 1e3}
        if ends.pyvpps:
            measured["pyvpp CPU"] = found.cpu.pyvpp / gbits * 1e3
        return measured

    return measure


@contextlib.contextmanager
def without_segmentation(*agents: Agent) -> Iterator[None]:
    """TSO and GSO off on the ends' interfaces: what a peer sends that has neither."""
    for agent in agents:
        agent.namespace.segmentation("eth0", False)
    try:
        yield
    finally:
        for agent in agents:
            agent.namespace.segmentation("eth0", True)


def tcp_scenario(
    name: str, summary: str, lab: str, ends: str, streams: int = 1, towards_client: bool = False, cut: bool = False
) -> LiveScenario:
    return LiveScenario(name, summary, lab, ends, (RATE, *GBIT_COST), tcp(streams, towards_client, cut))


def through_uplink(name: str, what: str, streams: int = 1, cut: bool = False) -> tuple[LiveScenario, LiveScenario]:
    """Both directions."""
    return (
        tcp_scenario(name, f"{what}, client to node", "uplink", "uplink", streams, False, cut),
        tcp_scenario(f"{name}-out", f"{what}, node to client", "uplink", "uplink", streams, True, cut),
    )
