# SPDX-License-Identifier: Apache-2.0
"""`--pcap`: a capture of the user's through a configuration of the user's.

The capture's packets arrive on pg0, over and over, as fast as they can; what the configuration does with them is its
own affair: they may leave by any interface, be dropped or go to Linux, so there is no model to verify them with, and
the report says where they went instead.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyvpp.bench.measure import RUNS, as_json, run_for
from pyvpp.bench.scenario import IN_MAC
from pyvpp.bench.stand import Stand
from pyvpp.buffers import LARGE_ROOM
from pyvpp.errors import OperatorError
from pyvpp.node import FRAME_SIZE, Kind
from pyvpp.pcap import ETHERNET
from pyvpp.pcap_read import read as read_capture

RAW_IP = (12, 14, 101, 228)  # link types of bare IP that programs write
LONGEST = 1_000_000  # packets of a capture


@dataclass(frozen=True)
class Fate:
    """Where packets ended: those of the capture, and what the stack made of its own, such as ICMP errors."""

    arrived: int
    sent: dict[str, int]
    """by interface"""
    dropped: int
    slow_path: int
    """handed to nodes in Python"""
    held: int
    """buffers that did not come back yet"""
    counters: dict[str, int]
    """of the nodes"""


def read(path: Path) -> tuple[list[bytes], bool]:
    """A capture's packets, and whether they are bare IP. Raises OperatorError."""
    link_type, packets = read_capture(path, LONGEST)
    packets = [packet for packet in packets if 0 < len(packet) <= LARGE_ROOM]
    if not packets:
        raise OperatorError(f"{path}: no packets in it")
    if link_type not in (ETHERNET, *RAW_IP):
        raise OperatorError(f"{path}: link type {link_type}, expected Ethernet (1) or bare IP (101)")
    return packets, link_type != ETHERNET


def mac_asked_for(packets: list[bytes]) -> bytes:
    """The unicast MAC address most of the frames are for: pg0 gets it, as the machine that captured them had it."""
    to = Counter(packet[:6] for packet in packets if len(packet) >= 14 and packet[0] & 1 == 0 and any(packet[:6]))
    return to.most_common(1)[0][0] if to else IN_MAC


def replay(
    capture: Path, script: Path | None, seconds: float, frame: int = FRAME_SIZE, hugepages: str = "auto"
) -> dict[str, Any]:
    """Figures as JSON. Raises OperatorError for what is wrong with the files."""
    packets, bare_ip = read(capture)
    mac = IN_MAC if bare_ip else mac_asked_for(packets)
    text = _text_of(script) if script else ""
    stand = Stand(hugepages=hugepages, mac=mac, bare_ip=bare_ip)
    try:
        stand.execute(text, str(script))
        stand.generate(packets, frame, limit=len(packets))
        fate = fate_of(stand)
        stand.generate(packets, frame)
        figures = run_for(stand, seconds, runs=RUNS, lossless=False)
        stand.settle()
        return {
            "name": capture.name,
            "packet_bytes": round(sum(map(len, packets)) / len(packets)),
            "vector_size": frame,
            "routes": None,
            **as_json(figures),
            "verified": None,
            "pages": stand.pages,
            "capture_packets": len(packets),
            "pg0_mac": None if bare_ip else mac.hex(":"),
            "fate": asdict(fate),
        }
    finally:
        stand.close()


def _text_of(script: Path) -> str:
    try:
        return script.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{script}: {getattr(error, 'strerror', None) or 'not a text file'}") from None


def fate_of(stand: Stand) -> Fate:
    """Lets the capture through once."""
    engine = stand.engine
    before = tally(stand)
    for _ in range(-(-len(stand.packets) // stand.frame)):
        engine.run(1)
        while engine.drain_punts():
            pass
    stand.settle()
    after = tally(stand)
    return Fate(
        after.arrived - before.arrived,
        differences(after.sent, before.sent),
        after.dropped - before.dropped,
        after.slow_path - before.slow_path,
        after.held - before.held,
        differences(after.counters, before.counters),
    )


def tally(stand: Stand) -> Fate:
    """Since the engine was made."""
    engine = stand.engine
    rows = engine.workers[0].rows
    sent = engine.tables["interface_tx"].sum()
    python = [node.index for node in engine.graph if node.node.kind is Kind.PYTHON]
    return Fate(
        stand.generated,
        {each.name: int(sent[each.sw_if_index]["packets"]) for each in engine.interfaces},
        int(rows["vectors"][engine.graph.index_of("error-drop")]),
        int(rows["vectors"][python].sum()),
        engine.buffers.total - engine.free_buffers,
        stand.counts(),
    )


def differences(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
