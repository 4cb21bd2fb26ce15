# SPDX-License-Identifier: Apache-2.0
"""Every live scenario, in the order of the table."""

from pyvpp.bench.live.labs import AF_PACKET, AF_XDP
from pyvpp.bench.live.latency import LATENCIES, WITH_INTERRUPTS, from_idle, idle, latency
from pyvpp.bench.live.scenario import LOWER, LiveScenario, Metric
from pyvpp.bench.live.small_packets import forward
from pyvpp.bench.live.tcp import tcp_scenario, through_uplink

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
        "latency-idle", "a request every 5 ms: the first packet after idle", "uplink", "uplink",
        (*LATENCIES, *WITH_INTERRUPTS), from_idle,
    ),
    LiveScenario(
        "idle", "an uplink without traffic", "uplink", "uplink", (Metric("pyvpp CPU", "% of a core", LOWER),), idle,
        (AF_PACKET, AF_XDP),
    ),
    tcp_scenario("pods-ipip", "TCP from pod to pod on two nodes, IPIP; Linux: VXLAN and veth", "pods", "ipip"),
    tcp_scenario("pods-vxlan", "TCP from pod to pod on two nodes, VXLAN; Linux: VXLAN and veth", "pods", "vxlan"),
)  # fmt: skip
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
