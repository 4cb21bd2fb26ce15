# SPDX-License-Identifier: Apache-2.0
"""`pyvpp demo`: the main job, shown on real packets in a sandbox of network namespaces.

Two nodes hang on one switch by their only NIC. pyvpp takes both NICs over while the nodes go on talking, gives each
node a pod, joins the pods by IPIP and by VXLAN, and hands the NICs back.
"""

import argparse
import contextlib
import os
import secrets
import socket
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from pyvpp.cli.client import Client, NoServerError
from pyvpp.errors import OperatorError
from pyvpp.lab.place import workplace
from pyvpp.lab.process import LabError, PyvppProcess
from pyvpp.linux.sandbox import Namespace, Sandbox

NODES = ("192.168.50.1", "192.168.50.2")
PODS = ("10.1.0.1", "10.2.0.1")
VNI, VXLAN_PORT = 4096, 4789
MEGABYTES = 32
TENTATIVE = 0x40  # IFA_F_TENTATIVE
BLOCK = secrets.token_bytes(1 << 20)
PING = b"pyvpp demo".ljust(48, b".")


class StepFailed(LabError):
    """A step did not show what it should; the message says what was seen instead."""


def say(text: str) -> None:
    print(text, flush=True)


def title(text: str) -> None:
    say(f"\n== {text}")


def show(command: str, output: str) -> None:
    """A command and what it printed, indented."""
    say(f"   $ {command}")
    for line in output.rstrip().splitlines():
        say(f"     {line}")


# -- packets by hand


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(identifier: int, sequence: int) -> bytes:
    body = struct.pack("!HH", identifier, sequence) + PING
    return struct.pack("!BBH", 8, 0, checksum(b"\x08\0\0\0" + body)) + body


def ping(source: Namespace, address: str, count: int = 5, patience: float = 2.0) -> list[float]:
    """Round trip times in milliseconds of the echo requests that were answered."""
    times = []
    identifier = secrets.randbelow(0xFFFF)
    with source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as icmp:
        for sequence in range(count):
            began = time.perf_counter()
            icmp.sendto(echo_request(identifier, sequence), (address, 0))
            while (left := began + patience - time.perf_counter()) > 0:
                icmp.settimeout(left)
                try:
                    packet, _ = icmp.recvfrom(2048)
                except TimeoutError:
                    break
                reply = packet[(packet[0] & 15) * 4 :]
                if reply[0] == 0 and struct.unpack("!HH", reply[4:8]) == (identifier, sequence):
                    if reply[8:] != PING or checksum(reply) != 0:
                        raise StepFailed(f"the echo reply from {address} is damaged: {packet.hex()}")
                    times.append((time.perf_counter() - began) * 1e3)
                    break
    return times


def show_ping(what: str, source: Namespace, address: str) -> None:
    """Five pings, all to be answered, after those that an unknown neighbor on the way costs at either end."""
    for _ in range(5):
        if ping(source, address, count=1, patience=1.0):
            break
    times = ping(source, address)
    if len(times) < 5:
        raise StepFailed(f"{what}: {len(times)} of 5 pings to {address} answered")
    say(f"   ping {what}: {len(times)} of 5 answered, {min(times):.2f} ms at best")


def show_tcp(what: str, source: Namespace, target: Namespace, address: str) -> None:
    """Sends some megabytes through TCP, checks what arrives and says how fast it was."""
    received: list[int] = [0, 0]

    def receive() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            while data := connection.recv(1 << 20):
                received[0] += len(data)
                received[1] = zlib.crc32(data, received[1])
            connection.sendall(b"done")

    with target.inside(lambda: socket.create_server((address, 0))) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]
        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        try:
            with source.inside(lambda: socket.create_connection((address, port), timeout=10)) as connection:
                began = time.perf_counter()
                crc = 0
                for _ in range(MEGABYTES):
                    connection.sendall(BLOCK)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4)
                took = time.perf_counter() - began
        except OSError as error:
            raise StepFailed(f"{what}: TCP to {address}: {error} after {received[0]} bytes") from error
        receiver.join(10)
    for _ in range(MEGABYTES):
        crc = zlib.crc32(BLOCK, crc)
    if received != [MEGABYTES << 20, crc]:
        raise StepFailed(f"{what}: {received[0]} bytes of {MEGABYTES << 20} arrived, or other ones than were sent")
    say(f"   TCP  {what}: {MEGABYTES} MiB arrived intact, {received[0] * 8 / took / 1e6:,.0f} Mbit/s")


class LongConnection:
    """A TCP connection that stays open over everything that is done to the NICs under it."""

    def __init__(self, source: Namespace, target: Namespace, address: str) -> None:
        self._listener = target.inside(lambda: socket.create_server((address, 0)))
        port = self._listener.getsockname()[1]
        self._client = source.inside(lambda: socket.create_connection((address, port), timeout=10))
        self._server, _ = self._listener.accept()
        self._server.settimeout(10)

    def check(self, when: str) -> None:
        """A message there and back."""
        message = BLOCK[:32768]
        try:
            for ours, theirs in ((self._client, self._server), (self._server, self._client)):
                ours.sendall(message)
                left = len(message)
                while left:
                    data = theirs.recv(left)
                    if not data:
                        raise StepFailed(f"the TCP connection was closed {when}")
                    left -= len(data)
        except OSError as error:
            raise StepFailed(f"the TCP connection opened before broke {when}: {error}") from error
        say(f"   TCP  connection from before pyvpp: alive {when}")

    def close(self) -> None:
        for each in (self._client, self._server, self._listener):
            each.close()


# -- the wire


class Capture:
    """What passes a port of the switch, written to a pcap file."""

    def __init__(self, namespace: Namespace, port: str, path: Path) -> None:
        self.path = path

        def opened() -> socket.socket:
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            wire.bind((port, 3))
            return wire

        self._wire = namespace.inside(opened)

    def finish(self) -> list[bytes]:
        """Writes the file and returns its IPv4 frames."""
        self._wire.settimeout(0.2)
        frames = []
        with self._wire, self.path.open("wb") as file, contextlib.suppress(TimeoutError):
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            while True:
                frame = self._wire.recv(65535)
                now = time.time()
                file.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame), len(frame)) + frame)
                if frame[12:14] == b"\x08\0":
                    frames.append(frame)
        return frames


def decode_ip4(packet: bytes) -> str:
    """One line for an IPv4 packet and what it carries, down to the ICMP message inside the tunnel."""
    header = (packet[0] & 15) * 4
    protocol, inner = packet[9], packet[header:]
    line = f"IP {socket.inet_ntoa(packet[12:16])} > {socket.inet_ntoa(packet[16:20])}"
    if protocol == socket.IPPROTO_IPIP:
        return f"{line} IPIP | {decode_ip4(inner)}"
    if protocol == socket.IPPROTO_ICMP:
        kind = {0: "echo reply", 8: "echo request"}.get(inner[0], f"type {inner[0]}")
        return f"{line} ICMP {kind} seq {int.from_bytes(inner[6:8], 'big')}"
    if protocol == socket.IPPROTO_UDP:
        source, target = struct.unpack("!HH", inner[:4])
        if target == VXLAN_PORT:
            vni = int.from_bytes(inner[12:15], "big")
            return f"{line} UDP {source} > {target} VXLAN VNI {vni} | {decode_ip4(inner[16:])}"
        return f"{line} UDP {source} > {target}"
    return f"{line} protocol {protocol}"


def show_capture(frames: list[bytes], expected: str, path: Path) -> None:
    lines = [decode_ip4(frame[14:]) for frame in frames]
    wanted = [line for line in lines if expected in line and PODS[0] in line and PODS[1] in line]
    if len(wanted) < 2:
        raise StepFailed(f"the wire carried no {expected} packets: {lines[:10]}")
    say(f"   on the wire, between node 1 and the switch ({path.stat().st_size} bytes of pcap, {len(frames)} packets):")
    for line in wanted[:4]:
        say(f"     {line}")


# -- the nodes


class Node(PyvppProcess):
    """A node with its pod and its pyvpp, which says what it is told."""

    def __init__(self, sandbox: Sandbox, number: int, directory: Path) -> None:
        name = f"node{number + 1}"
        super().__init__(name, sandbox.namespace(name), directory, "--uplink", "eth0")
        self.number = number
        self.address, self.pod_address = NODES[number], PODS[number]
        self.pod = sandbox.namespace(f"pod{number + 1}")

    def ctl(self, command: str) -> str:
        """Runs a command in this node's pyvpp and shows it."""
        output = super().ctl(command)
        show(f"{self.name}: pyvppctl {command}", output)
        return output


def linux_view(node: Node) -> dict[str, Any]:
    """What a restored NIC must have again."""
    state = node.host.uplink("eth0")
    if state is None:
        raise StepFailed(f"{node.name} has no eth0")
    names = ("kind", "mac", "mtu", "flags", "addresses", "routes", "neighbors", "sysctls")
    view = {name: getattr(state, name) for name in names}
    view["neighbors"] = tuple(each for each in state.neighbors if not each.learned)  # those come and go
    return view


def has_ip6(name: str) -> bool:
    switch = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    return switch.exists() and switch.read_text().strip() == "0"


def settled_view(node: Node) -> dict[str, Any]:
    """The same, once the link-local address, which comes a moment after the link, is there and known to be unique."""
    wanted = {socket.AF_INET6} if node.host.inside(lambda: has_ip6("eth0")) else set()
    for _ in range(100):
        view = linux_view(node)
        there = {each.family for each in view["addresses"]}
        if wanted <= there and not any(each.flags & TENTATIVE for each in view["addresses"]):
            return view
        time.sleep(0.1)
    raise StepFailed(f"{node.name}: duplicate address detection does not end")


def show_view(node: Node, view: dict[str, Any]) -> None:
    addresses = ", ".join(str(each.interface) for each in view["addresses"])
    say(f"   {node.name} eth0: a {view['kind']}, {view['mac']}, MTU {view['mtu']}, {addresses}; "
        f"{len(view['routes'])} routes")  # fmt: skip


def step_pods(nodes: list[Node]) -> None:
    title("A pod on each node: pyvpp puts a TUN into its namespace")
    for node in nodes:
        node.ctl(f"create tap id 0 tun host-ns {node.pod.name} host-if-name eth0 host-ip4-addr {node.pod_address}/32")
        show_ping(f"pod {node.number + 1} to its node", node.pod, node.address)


def step_tunnel(nodes: list[Node], wire: Namespace, kind: str, directory: Path) -> None:
    """Joins the pods by a tunnel of one kind, and shows the traffic and the wire."""
    for node, other in (nodes, nodes[::-1]):
        if kind == "IPIP":
            interface = node.ctl(f"create ipip tunnel src {node.address} dst {other.address}").strip()
            node.ctl(f"set interface state {interface} up")
        else:
            interface = node.ctl(f"create vxlan tunnel src {node.address} dst {other.address} vni {VNI} l3").strip()
        node.ctl(f"ip route add {other.pod_address}/32 via {interface}")
    path = directory / f"{kind.lower()}.pcap"
    show_ping(f"pod 1 to pod 2 through {kind}", nodes[0].pod, nodes[1].pod_address)
    capture = Capture(wire, "port1", path)
    show_ping(f"pod 1 to pod 2 through {kind}", nodes[0].pod, nodes[1].pod_address)
    show_capture(capture.finish(), kind if kind == "IPIP" else f"VXLAN VNI {VNI}", path)
    show_ping(f"pod 2 to pod 1 through {kind}", nodes[1].pod, nodes[0].pod_address)
    show_tcp(f"pod 1 to pod 2 through {kind}", nodes[0].pod, nodes[1].pod, nodes[1].pod_address)
    show_tcp(f"pod 2 to pod 1 through {kind}", nodes[1].pod, nodes[0].pod, nodes[0].pod_address)


def step_view(nodes: list[Node], interface: str) -> None:
    title("What node 1's pyvpp has to say about it")
    node, other = nodes
    node.ctl("show interface")
    node.ctl(f"show ip fib {other.pod_address}/32")
    node.ctl(f"show {interface} tunnel")


def demonstrate(sandbox: Sandbox, directory: Path) -> None:
    title("Two nodes, one NIC each, on one switch; nothing of pyvpp yet")
    wire = sandbox.namespace("switch")
    nodes = [Node(sandbox, number, directory) for number in range(2)]
    for node in nodes:
        node.host.cable("eth0", wire, f"port{node.number + 1}")
    wire.switch("switch", ("port1", "port2"))
    for node in nodes:
        node.host.address("eth0", f"{node.address}/24", gateway="192.168.50.254")
    before = [settled_view(node) for node in nodes]
    for node, view in zip(nodes, before, strict=True):
        show_view(node, view)
    show_ping("node 1 to node 2", nodes[0].host, nodes[1].address)
    show_tcp("node 1 to node 2", nodes[0].host, nodes[1].host, nodes[1].address)
    connection = LongConnection(nodes[0].host, nodes[1].host, nodes[1].address)
    connection.check("before pyvpp")

    title("pyvpp takes both NICs over (the first start compiles, which may take a minute or two)")
    for node in nodes:
        node.start(sandbox)
        node.wait_until_ready()
        say(f"   {node.name}: pyvpp --uplink eth0 is ready")
        connection.check(f"with {node.name} behind pyvpp")
    say("   Each frame now goes from the wire through pyvpp to a TAP called eth0, and back.")
    for node in nodes:
        show_view(node, linux_view(node))
    show_ping("node 1 to node 2", nodes[0].host, nodes[1].address)
    show_tcp("node 1 to node 2", nodes[0].host, nodes[1].host, nodes[1].address)

    step_pods(nodes)

    title("Pod to pod through IPIP: IPv4 inside IPv4, 20 bytes more a packet")
    step_tunnel(nodes, wire, "IPIP", directory)
    step_view(nodes, "ipip")
    for node, other in (nodes, nodes[::-1]):
        node.ctl(f"ip route del {other.pod_address}/32")

    title(f"Pod to pod through VXLAN, VNI {VNI}, UDP port {VXLAN_PORT}, bare IP inside as Calico-VPP sends it")
    step_tunnel(nodes, wire, "VXLAN", directory)
    step_view(nodes, "vxlan")
    connection.check("after all this")

    title("SIGTERM: the NICs go back to Linux")
    for node in nodes:
        node.stop()
    for node, view in zip(nodes, before, strict=True):
        after = linux_view(node)
        show_view(node, after)
        if differing := [name for name in view if view[name] != after[name]]:
            told = "; ".join(f"{name}: {view[name]} became {after[name]}" for name in differing)
            raise StepFailed(f"{node.name}: eth0 is not what it was: {told}")
    say("   Link, addresses, routes, neighbors and sysctls compare equal with those before.")
    connection.check("without pyvpp again")
    show_ping("node 1 to node 2", nodes[0].host, nodes[1].address)
    connection.close()


def main(argv: list[str]) -> int:
    """Entry point. 0 when every step showed what it should."""
    argparse.ArgumentParser(prog="pyvpp demo", description=__doc__.splitlines()[0] if __doc__ else "").parse_args(argv)
    if os.geteuid() != 0:
        raise OperatorError("the demo needs root: it builds network namespaces and takes NICs over in them")
    began = time.monotonic()
    say("pyvpp demo: everything happens in network namespaces of its own; this machine's network is not touched.")
    with workplace("pyvpp-demo") as (sandbox, directory):
        try:
            demonstrate(sandbox, directory)
        except KeyboardInterrupt:
            say("\npyvpp demo: interrupted, cleaning up")
            return 130
        except (LabError, OSError) as error:
            say(f"\npyvpp demo: FAILED: {error}")
            for log in sorted(directory.glob("*.log")):
                show(f"tail {log.name}", "\n".join(log.read_text(errors="replace").splitlines()[-20:]))
            for runtime_dir in sorted(each.parent for each in directory.glob("*/cli.sock")):
                with contextlib.suppress(NoServerError), contextlib.closing(Client(runtime_dir / "cli.sock")) as client:
                    for command in ("show interface", "show errors"):
                        show(f"{runtime_dir.name}: pyvppctl {command}", client.command(command)["output"])
            return 1
    say(f"\npyvpp demo: all of it worked, in {time.monotonic() - began:.0f} s; nothing is left behind.")
    return 0
