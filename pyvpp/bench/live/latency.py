# SPDX-License-Identifier: Apache-2.0
"""Requests and their responses, and what an uplink costs on which there are none."""

import statistics
import time
from collections.abc import Callable

from pyvpp.bench.live.labs import Ends
from pyvpp.bench.live.scenario import LOWER, Conditions, Measured, Metric
from pyvpp.bench.live.traffic import stopping
from pyvpp.lab.process import LabError

GAP = 0.005  # s; pyvpp polls no longer after so long
LEAST_IDLE_SECONDS = 0.5
LATENCIES = (Metric("p50", "us", LOWER), Metric("p99", "us", LOWER))
WITH_INTERRUPTS = (Metric("p50, interrupt", "us", LOWER), Metric("p99, interrupt", "us", LOWER))


def from_idle(ends: Ends, conditions: Conditions) -> Measured:
    """Requests too far apart for anybody to be awake: in adaptive mode, and then in interrupt mode."""
    measure = latency(GAP)
    figures = measure(ends, conditions)
    if not ends.pyvpps:
        return figures
    try:
        set_rx_mode(ends, "interrupt")
        beside = measure(ends, conditions)
    finally:
        set_rx_mode(ends, "adaptive")
    return {**figures, **{f"{name}, interrupt": value for name, value in beside.items()}}


def set_rx_mode(ends: Ends, mode: str) -> None:
    """Of all interfaces of every pyvpp on the way that receive."""
    for pyvpp in ends.pyvpps:
        lines = pyvpp.ctl("show interface rx-placement").splitlines()
        for name in dict.fromkeys(line.split()[0] for line in lines if " queue " in line):
            pyvpp.ctl(f"set interface rx-mode {name} {mode}")


def latency(gap: float) -> Callable[[Ends, Conditions], Measured]:
    """64 bytes of UDP and their echo, one at a time, so many seconds apart."""

    def measure(ends: Ends, conditions: Conditions) -> Measured:
        with stopping(ends.server):
            port = ends.server.call("echo", address=ends.server_address)
            patience = conditions.seconds + 10
            found = ends.client.call(
                "ask", patience, address=ends.server_address, port=port, seconds=conditions.seconds, gap=gap
            )
        times: list[int] = found["times"]
        if len(times) < 2:
            raise LabError(f"{found['lost']} requests and no answer")
        percentiles = statistics.quantiles(times, n=100, method="inclusive")
        return {"p50": percentiles[49] / 1e3, "p99": percentiles[98] / 1e3, "lost": float(found["lost"])}

    return measure


def idle(ends: Ends, conditions: Conditions) -> Measured:
    """What pyvpp takes while nothing comes."""
    meter = conditions.meter(ends)
    meter.begin()
    time.sleep(max(conditions.seconds, LEAST_IDLE_SECONDS))
    return {"pyvpp CPU": 100 * meter.end().pyvpp}
