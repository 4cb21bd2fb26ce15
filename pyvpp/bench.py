# SPDX-License-Identifier: Apache-2.0
"""`pyvpp bench`: how many clocks a packet costs, from the generator's first byte to the buffer's return to the pool.

Each scenario builds an engine of its own with two packet generator interfaces, needs neither root nor a network, and
uses the plugins' commands. A figure is given only when no packet was lost and a random sample of what came out equals
what a model in plain Python says.
"""

import argparse
import json
import os
import platform
import random
import re
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pyvpp.cli.registry import Command, commands_of
from pyvpp.clock import read_cycles
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.interface import L2
from pyvpp.node import FRAME_SIZE, Kind
from pyvpp.packet_generator import PacketGenerator, Stream, generator_of

PEER_MAC = bytes.fromhex("020000000202")
SENDER_MAC = bytes.fromhex("020000000101")
IN_MAC = bytes.fromhex("02fe00000001")
OUT_MAC = bytes.fromhex("02fe00000002")
INNER_MAC = bytes.fromhex("020000000303")
NEAR, FAR = IPv4Address("10.2.0.1"), IPv4Address("10.2.0.2")
TUNNEL_FAR = IPv4Address("10.3.0.2")
ONE_ROUTE, MANY_ROUTES = IPv4Address("198.18.0.0"), IPv4Address("16.0.0.0")
IP4, UDP, IP_IN_IP, VXLAN_PORT, VNI = 0x0800, 17, 4, 4789, 100
PACKET_BYTES, VARIATIONS, SAMPLE, RUNS = 64, 16384, 2000, 50


class BenchError(Exception):
    """A scenario's packets are not what they must be."""


# ---- the reference model ------------------------------------------------------------------------------------------
def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (
        data[-1] << 8 if len(data) & 1 else 0
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ip4(source: IPv4Address, destination: IPv4Address, protocol: int, payload: bytes, ttl: int) -> bytes:
    head = (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, ttl, protocol, 0)
        + source.packed
        + destination.packed
    )
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def ethernet(destination: bytes, source: bytes, payload: bytes) -> bytes:
    return destination + source + IP4.to_bytes(2, "big") + payload


def forwarded(packet: bytes) -> bytes:
    """An IPv4 packet after one hop."""
    aged = packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + bytes(2) + packet[12:]
    return aged[:10] + checksum(aged[:20]).to_bytes(2, "big") + aged[12:]


def flow(destination: IPv4Address, number: int, n: int) -> bytes:
    """An IPv4 packet of n bytes."""
    return ip4(IPv4Address("10.1.0.2"), destination, UDP, udp(1024 + number % 60000, 4000, bytes(range(n - 28))), 64)


# ---- scenarios --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scenario:
    """Commands that set it up, the packets that go in, and what must come out for a packet that went in."""

    name: str
    setup: tuple[str, ...]
    make: Callable[[Engine, int], bytes]
    expect: Callable[[Engine, bytes], bytes]
    routes: int = 1
    masked: tuple[int, ...] = ()
    """bytes of the output that the model leaves open, as the source port that VXLAN draws from the inner flow"""
    xconnect: bool = False
    variations: int = VARIATIONS


def spread(first: IPv4Address, routes: int) -> Callable[[int], IPv4Address]:
    """Random addresses behind so many routes of 24 bits, the same in every run."""
    random_ = random.Random(routes)
    return lambda number: first + (random_.randrange(routes) << 8) + random_.randrange(1, 255)


def plain(destinations: Callable[[int], IPv4Address]) -> Callable[[Engine, int], bytes]:
    return lambda engine, i: ethernet(IN_MAC, SENDER_MAC, flow(destinations(i), i, PACKET_BYTES - 14))


def rewritten(engine: Engine, packet: bytes) -> bytes:
    return ethernet(PEER_MAC, OUT_MAC, forwarded(packet[14:]))


def inner_destination(i: int) -> IPv4Address:
    return ONE_ROUTE + i


def ipip_packet(engine: Engine, i: int) -> bytes:
    inner = flow(inner_destination(i), i, PACKET_BYTES - 14)
    return ethernet(IN_MAC, SENDER_MAC, ip4(TUNNEL_FAR, NEAR, IP_IN_IP, inner, 64))


def ipip_encapsulated(engine: Engine, packet: bytes) -> bytes:
    return ethernet(PEER_MAC, OUT_MAC, ip4(NEAR, TUNNEL_FAR, IP_IN_IP, forwarded(packet[14:]), 63))


def vxlan_packet(engine: Engine, i: int) -> bytes:
    inner = ethernet(mac_of(engine, "vxlan_tunnel0"), INNER_MAC, flow(inner_destination(i), i, PACKET_BYTES - 14))
    payload = struct.pack("!II", 0x08 << 24, VNI << 8) + inner
    return ethernet(IN_MAC, SENDER_MAC, ip4(TUNNEL_FAR, NEAR, UDP, udp(49152 + i % 1000, VXLAN_PORT, payload), 64))


def vxlan_encapsulated(engine: Engine, packet: bytes) -> bytes:
    inner = ethernet(INNER_MAC, mac_of(engine, "vxlan_tunnel0"), forwarded(packet[14:]))
    payload = struct.pack("!II", 0x08 << 24, VNI << 8) + inner
    return ethernet(PEER_MAC, OUT_MAC, ip4(NEAR, TUNNEL_FAR, UDP, udp(0, VXLAN_PORT, payload), 253))


def mac_of(engine: Engine, name: str) -> bytes:
    return engine.require_interface(name).mac


BASE = (
    "set interface ip address pg0 10.1.0.1/24",
    f"set interface ip address pg1 {NEAR}/24",
    f"set ip neighbor pg1 {FAR} {PEER_MAC.hex(':')} static",
)
ROUTE = f"ip route add {ONE_ROUTE}/15 via {FAR} pg1"
UNDERLAY = (*BASE, f"ip route add {TUNNEL_FAR}/32 via {FAR} pg1")
IPIP = (*UNDERLAY, f"create ipip tunnel src {NEAR} dst {TUNNEL_FAR}", "set interface state ipip0 up")
VXLAN = (
    *UNDERLAY,
    f"create vxlan tunnel src {NEAR} dst {TUNNEL_FAR} vni {VNI}",
    "set interface ip address vxlan_tunnel0 10.4.0.1/24",
    f"set ip neighbor vxlan_tunnel0 10.4.0.2 {INNER_MAC.hex(':')} static",
)


def routed(name: str, routes: int) -> Scenario:
    setup = (*BASE, f"ip route add count {routes} {MANY_ROUTES}/24 via {FAR} pg1")
    return Scenario(
        name,
        setup,
        plain(spread(MANY_ROUTES, routes)),
        rewritten,
        routes,
        variations=max(VARIATIONS, min(routes, 1 << 18)),
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("ip4", (*BASE, ROUTE), plain(inner_destination), rewritten),
        routed("ip4-10k", 10_000),
        routed("ip4-1m", 1_000_000),
        Scenario(
            "ipip-encap",
            (*IPIP, "set interface ip address ipip0 10.4.0.1/30", f"ip route add {ONE_ROUTE}/15 via ipip0"),
            plain(inner_destination),
            ipip_encapsulated,
        ),
        Scenario(
            "ipip-decap",
            (*IPIP, "set interface ip address ipip0 10.4.0.1/30", ROUTE),
            ipip_packet,
            lambda engine, packet: rewritten(engine, packet[20:]),
        ),
        Scenario(
            "vxlan-encap",
            (*VXLAN, f"ip route add {ONE_ROUTE}/15 via 10.4.0.2 vxlan_tunnel0"),
            plain(inner_destination),
            vxlan_encapsulated,
            masked=(34, 35),
        ),
        Scenario("vxlan-decap", (*VXLAN, ROUTE), vxlan_packet, lambda engine, packet: rewritten(engine, packet[50:])),
        Scenario("l2-xconnect", (), plain(inner_destination), lambda engine, packet: packet, 0, xconnect=True),
    )
}


# ---- running them -----------------------------------------------------------------------------------------------
def execute(engine: Engine, commands: list[Command], line: str) -> None:
    """Runs a command of a plugin. Raises BenchError when no plugin has it."""
    matching = [each for each in commands if line.startswith(each.name + " ")]
    if not matching:
        raise BenchError(f"no plugin offers the command: {line}")
    chosen = max(matching, key=lambda each: len(each.name))
    chosen(engine, line[len(chosen.name) + 1 :])


def build(engine: Engine, scenario: Scenario) -> PacketGenerator:
    from pyvpp.cli import commands as engine_commands
    from pyvpp.cli.registry import commands_in

    generator = generator_of(engine)
    received, sent = generator.create_interface("pg0", IN_MAC), generator.create_interface("pg1", OUT_MAC)
    for interface, peer in ((received, sent), (sent, received)):
        engine.interfaces.set_admin(interface, True)
        if scenario.xconnect:
            engine.interfaces.set_flags(interface, L2, True)
            engine.interfaces.set_peer(interface, peer)
    commands = [each for package in engine.declarations.packages for each in commands_of(package)]
    commands += commands_in(engine_commands)
    for line in scenario.setup:
        execute(engine, commands, line)
    return generator


def sent_packets(engine: Engine) -> int:
    node = engine.graph.find("pg1-tx")
    assert node
    return int(node.counts()[0])


def generated_packets(engine: Engine) -> int:
    return int(engine.workers[0].rows[engine.graph.index_of("pg-input")]["vectors"])


def masked(packet: bytes, at: tuple[int, ...]) -> bytes:
    return bytes(0 if i in at else byte for i, byte in enumerate(packet))


def verify(engine: Engine, generator: PacketGenerator, scenario: Scenario, packets: list[bytes], frame: int) -> None:
    """Sends a random sample once and compares all that comes out. Raises BenchError."""
    sample = random.sample(packets, min(SAMPLE, len(packets)))
    captured: list[bytes] = []
    sink = engine.require_interface("pg1")
    generator.capture(sink, captured.append)
    generator.add(Stream("sample", sample, engine.require_interface("pg0"), limit=len(sample), frame=frame))
    generator.set_enabled("sample", True)
    for _ in range(2 * len(sample) // frame + 8):
        engine.run(1)
        engine.drain_punts()
    engine.run(2)
    generator.stop_capture(sink)
    generator.delete("sample")
    expected = sorted(masked(scenario.expect(engine, packet), scenario.masked) for packet in sample)
    found = sorted(masked(packet, scenario.masked) for packet in captured)
    if len(found) != len(expected):
        raise BenchError(f"{scenario.name}: {len(expected)} packets in, {len(found)} out{losses(engine)}")
    for want, got in zip(expected, found, strict=True):
        if want != got:
            raise BenchError(
                f"{scenario.name}: a packet differs from the model:\n  got  {got.hex()}\n  want {want.hex()}"
            )


def losses(engine: Engine) -> str:
    """What nodes have counted, for the reader of an error."""
    counts = [
        f"{node.name}: {int(count)} {counter.text}"
        for node in engine.graph
        for counter, count in zip(node.counter_names, node.counts(), strict=False)
        if count
    ]
    return "".join(f"\n  {line}" for line in counts)


def run_scenario(scenario: Scenario, seconds: float, frame: int) -> dict[str, Any]:
    """One scenario's figures: those of the run with the fewest clocks a packet. Raises BenchError."""
    engine = Engine()
    try:
        generator = build(engine, scenario)
        packets = [scenario.make(engine, i) for i in range(scenario.variations)]
        verify(engine, generator, scenario, packets, frame)
        generator.add(Stream("bench", packets, engine.require_interface("pg0"), frame=frame))
        generator.set_enabled("bench", True)
        free = engine.buffers.free
        best: dict[str, Any] = {}
        rounds = 200
        measured(engine, rounds)
        probe = measured(engine, rounds)
        rounds = max(10, int(rounds * seconds / RUNS / probe["seconds"]))
        for _ in range(RUNS):
            figures = measured(engine, rounds)
            if not best or figures["clocks_per_packet"] < best["clocks_per_packet"]:
                best = figures
        generator.set_enabled("bench", False)
        engine.run(1)
        if engine.buffers.free != free:
            raise BenchError(f"{scenario.name}: {free - engine.buffers.free} buffers did not return to the pool")
        verify(engine, generator, scenario, packets, frame)
        return {
            "name": scenario.name,
            "packet_bytes": len(packets[0]),
            "vector_size": frame,
            "routes": scenario.routes,
            **best,
            "verified": True,
        }
    finally:
        engine.close()


def measured(engine: Engine, rounds: int) -> dict[str, Any]:
    """Runs the worker's loop and answers what it cost. Raises BenchError when packets were lost."""
    rows = engine.workers[0].rows
    before = rows[["vectors", "calls", "clocks"]].copy()
    into, out = generated_packets(engine), sent_packets(engine)
    start, start_ns = read_cycles(), time.perf_counter_ns()
    engine.run(rounds)
    clocks, ns = read_cycles() - start, time.perf_counter_ns() - start_ns
    packets = generated_packets(engine) - into
    if packets != sent_packets(engine) - out or not packets:
        raise BenchError(f"{packets} packets in, {sent_packets(engine) - out} out{losses(engine)}")
    nodes: list[dict[str, Any]] = []
    for node in engine.graph:
        vectors, calls, spent = (
            int(rows[node.index][name] - before[node.index][name]) for name in ("vectors", "calls", "clocks")
        )
        if vectors and node.node.kind is not Kind.PYTHON:
            nodes.append(
                {
                    "name": node.name,
                    "clocks_per_packet": round(spent / vectors, 2),
                    "vectors_per_call": round(vectors / calls, 2),
                }
            )
    nodes.sort(key=lambda each: -each["clocks_per_packet"])
    return {
        "packets": packets,
        "seconds": ns / 1e9,
        "mpps": round(packets / ns * 1e3, 3),
        "ns_per_packet": round(ns / packets, 2),
        "clocks_per_packet": round(clocks / packets, 2),
        "nodes": nodes,
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    try:
        with open("/proc/cpuinfo") as file:
            found = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    import numba

    return {
        "cpu": found[1] if found else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": numba.__version__,
    }


def text_of(result: dict[str, Any]) -> str:
    lines = [
        f"{result['name']}: {result['mpps']:.2f} Mpps, {result['ns_per_packet']:.1f} ns and"
        f" {result['clocks_per_packet']:.1f} clocks a packet ({result['packet_bytes']} bytes, vectors of"
        f" {result['vector_size']}, {result['routes']} routes; verified)"
    ]
    lines += [
        f"  {node['name']:<28}{node['clocks_per_packet']:>9.1f} clocks{node['vectors_per_call']:>9.1f} vectors/call"
        for node in result["nodes"]
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The command. Exit status 1 when a scenario's output is wrong, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="pyvpp bench", description="Measures nodes and paths; needs no root.")
    names = ", ".join(SCENARIOS)
    parser.add_argument("--scenario", action="append", metavar="NAME", help=f"one of {names}; may be repeated")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="how long each scenario runs")
    parser.add_argument("--vector", type=int, default=FRAME_SIZE, metavar="N", help="packets at a time, at most 256")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON, - for standard output")
    options = parser.parse_args(argv)
    chosen = options.scenario or ["ip4"]
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {unknown[0]} (available: {names})")
    if not 1 <= options.vector <= FRAME_SIZE:
        parser.error(f"--vector {options.vector}: must be from 1 to {FRAME_SIZE}")
    if not options.seconds > 0:
        parser.error("--seconds must be more than 0")
    results = []
    for name in chosen:
        try:
            results.append(run_scenario(SCENARIOS[name], options.seconds, options.vector))
        except (BenchError, OperatorError) as error:
            print(f"pyvpp bench: {error}", file=sys.stderr)
            return 1
        if options.json != "-":
            print(text_of(results[-1]), flush=True)
    if options.json:
        text = json.dumps({"schema": 1, "machine": machine(), "scenarios": results}, indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            with open(options.json, "w") as file:
                file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
