# SPDX-License-Identifier: Apache-2.0
"""Frames of 60 bytes over a router: how many pass, of how many, at what price, and how many without a loss."""

import os
import socket
import struct
import time
from collections.abc import Callable

from pyvpp.bench.live.labs import CLIENT, SINK, Ends
from pyvpp.bench.live.scenario import Conditions, Measured
from pyvpp.bench.live.traffic import stopping
from pyvpp.lab.process import LabError

FRAME_BYTES = 60  # 64 on a wire, with the check sequence that Linux never shows
FLOWS = 64
SENDERS = max(1, min(2, len(os.sched_getaffinity(0)) - 2))  # the forwarder and the receiver need a core, too
PACED_STEPS = 6
PACED_SECONDS = 0.2
SETTLE_SECONDS = 0.5
LEAD = 0.1  # s of a flood that are not counted


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
    before = settled(ends)
    with stopping(ends.client):
        ends.client.call("flood", device="eth0", frames=frames, senders=SENDERS)
        time.sleep(LEAD)
        meter.begin()
        (sent, began), arrived = ends.client.call("count"), arrivals(ends)
        time.sleep(conditions.seconds)
        (sent_then, ended), arrived_then = ends.client.call("count"), arrivals(ends)
        cpu = meter.end()
        ends.client.call("pause")
        whole, _ = ends.client.call("count")
    seconds = (ended - began) / 1e9
    delivered = (arrived_then - arrived) / seconds / 1e6
    if delivered <= 0:
        raise LabError("no frame arrived")
    measured = {
        "delivered": delivered,
        "offered": (sent_then - sent) / seconds / 1e6,
        "delivered/offered": 100 * (settled(ends) - before) / whole,
        "without loss": lossless_rate(ends, frames, delivered),
        "CPU in all": cpu.lab / delivered * 1e3,
    }
    if ends.pyvpps:
        measured["pyvpp CPU"] = cpu.pyvpp / delivered * 1e3
    return measured


def arrivals(ends: Ends) -> int:
    """Frames that the server's interface has received so far."""
    return int(ends.server.call("received", device="eth0"))


def settled(ends: Ends) -> int:
    """Frames the server has got, once it gets no more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    before = -1
    while (now := arrivals(ends)) != before and time.monotonic() < deadline:
        before = now
        time.sleep(0.02)
    return now


def lossless_rate(ends: Ends, frames: list[str], most: float) -> float:
    """The highest rate, in Mpps, at which every frame of a short run arrived; `most` is tried first."""

    def loses_nothing(rate: float) -> bool:
        before = settled(ends)
        with stopping(ends.client):
            ends.client.call("flood", device="eth0", frames=frames, senders=SENDERS, rate=rate * 1e6)
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
