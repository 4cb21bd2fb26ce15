# SPDX-License-Identifier: Apache-2.0
"""What is measured: a scenario makes traffic on one lab's ends and gives a figure for each of its metrics."""

import contextlib
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyvpp.bench.live.cpu import Meter
from pyvpp.bench.live.labs import AF_PACKET, AF_XDP, CLIENT, SINK, WAYS, Ends
from pyvpp.bench.live.traffic import Agent, TcpGenerator, stopping
from pyvpp.lab.process import LabError

HIGHER, LOWER = "higher", "lower"
FRAME_BYTES = 60  # 64 on a wire, with the check sequence that Linux never shows
FLOWS = 64
PACED_STEPS = 6
PACED_SECONDS = 0.2
SETTLE_SECONDS = 0.5
GAP = 0.005


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    better: str = HIGHER
    """`higher` or `lower`"""


@dataclass(frozen=True)
class Conditions:
    """How to measure."""

    tcp: TcpGenerator
    seconds: float
    sessions: tuple[int, ...] = ()
    """of everything in the lab"""

    def meter(self, ends: Ends) -> Meter:
        return Meter((pyvpp.pid for pyvpp in ends.pyvpps), self.sessions)


Measured = dict[str, float]
"""figures by the names of the metrics; one that does not apply is not there"""


@dataclass(frozen=True)
class LiveScenario:
    name: str
    summary: str
    lab: str
    ends: str
    """which of the lab's"""
    metrics: tuple[Metric, ...]
    measure: Callable[[Ends, Conditions], Measured]
    ways: tuple[str, ...] = WAYS


# ---- TCP -------------------------------------------------------------------------------------------------------------
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


# ---- small packets ---------------------------------------------------------------------------------------------------
def small_frames(source_mac: str, gateway_mac: str) -> list[str]:
    """UDP of FLOWS flows to a host behind the router, as hexadecimal digits."""
    ethernet = bytes.fromhex((gateway_mac + source_mac).replace(":", "")) + b"\x08\x00"
    length = FRAME_BYTES - len(ethernet)
    addresses = socket.inet_aton(CLIENT) + socket.inet_aton(SINK)
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
    frames = []
    for flow in range(FLOWS):
        udp = struct.pack("!HHHH", 1024 + flow, 9, length - len(header), 0)  # 0: no checksum
        frames.append((ethernet + header + udp).ljust(FRAME_BYTES, b"\0").hex())
    return frames


def forward(ends: Ends, conditions: Conditions) -> Measured:
    """As fast as the sender can, then the highest rate, by bisection, of which nothing is lost."""
    frames = small_frames(ends.client.namespace.mac("eth0"), ends.gateway_mac)
    meter = conditions.meter(ends)
    with stopping(ends.client):
        ends.client.call("flood", device="eth0", frames=frames)
        time.sleep(0.1)
        meter.begin()
        (sent, began), arrived = ends.client.call("count"), ends.server.call("received", device="eth0")
        time.sleep(conditions.seconds)
        (sent_then, ended), arrived_then = ends.client.call("count"), ends.server.call("received", device="eth0")
        cpu = meter.end()
    seconds = (ended - began) / 1e9
    offered, delivered = (sent_then - sent) / seconds / 1e6, (arrived_then - arrived) / seconds / 1e6
    if delivered <= 0:
        raise LabError("no frame arrived")
    settled(ends)
    measured = {
        "delivered": delivered,
        "offered": offered,
        "delivered/offered": 100 * delivered / offered,
        "without loss": lossless_rate(ends, frames, delivered),
        "CPU in all": cpu.lab / delivered * 1e3,
    }
    if ends.pyvpps:
        measured["pyvpp CPU"] = cpu.pyvpp / delivered * 1e3
    return measured


def settled(ends: Ends) -> int:
    """Frames the server has got, once it gets no more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    before = -1
    while (now := int(ends.server.call("received", device="eth0"))) != before and time.monotonic() < deadline:
        before = now
        time.sleep(0.02)
    return now


def lossless_rate(ends: Ends, frames: list[str], most: float) -> float:
    """The highest rate, in Mpps, at which every frame of a short run arrived; `most` is tried first."""

    def loses_nothing(rate: float) -> bool:
        before = settled(ends)
        with stopping(ends.client):
            ends.client.call("flood", device="eth0", frames=frames, rate=rate * 1e6)
            time.sleep(PACED_SECONDS)
            ends.client.call("pause")
            sent, _ = ends.client.call("count")
        return settled(ends) - before >= int(sent)

    return bisected(loses_nothing, most)


def bisected(holds: Callable[[float], bool], most: float) -> float:
    """The greatest value for which it holds, as far as PACED_STEPS trials tell; 0 when there was none."""
    good, bad, trial = 0.0, most, most
    for _ in range(PACED_STEPS):
        if holds(trial):
            good = trial
        else:
            bad = trial
        if good == most:
            break
        trial = (good + bad) / 2
    return good


# ---- latency ---------------------------------------------------------------------------------------------------------
LATENCIES = (Metric("p50", "us", LOWER), Metric("p99", "us", LOWER))


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
    time.sleep(max(conditions.seconds, 0.5))
    return {"pyvpp CPU": 100 * meter.end().pyvpp}


SCENARIOS = (
    *through_uplink("tcp-1", "TCP through the uplink, 1 stream"),
    *through_uplink("tcp-4", "TCP through the uplink, 4 streams", 4),
    *through_uplink("tcp-mtu", "TCP, 1 stream, from ends that send MTU-size packets (TSO, GSO off)", cut=True),
    tcp_scenario("router-tcp", "TCP between two interfaces, 1 stream", "router", "router"),
    LiveScenario(
        "forward", "60-byte frames between two interfaces, 64 flows", "router", "router",
        (
            Metric("delivered", "Mpps"), Metric("offered", "Mpps"), Metric("delivered/offered", "%"),
            Metric("without loss", "Mpps"), Metric("pyvpp CPU", "ns/packet", LOWER),
            Metric("CPU in all", "ns/packet", LOWER),
        ),
        forward,
    ),
    LiveScenario(
        "latency", "request and response through the uplink, back to back", "uplink", "uplink", LATENCIES, latency(0)
    ),
    LiveScenario(
        "latency-idle", "a request every 5 ms: the first packet after idle", "uplink", "uplink", LATENCIES, latency(GAP)
    ),
    LiveScenario(
        "idle", "an uplink without traffic", "uplink", "uplink", (Metric("pyvpp CPU", "% of a core", LOWER),), idle,
        (AF_PACKET, AF_XDP),
    ),
    tcp_scenario("pods-ipip", "TCP from pod to pod on two nodes, IPIP; Linux: VXLAN and veth", "pods", "ipip"),
    tcp_scenario("pods-vxlan", "TCP from pod to pod on two nodes, VXLAN; Linux: VXLAN and veth", "pods", "vxlan"),
)  # fmt: skip
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
