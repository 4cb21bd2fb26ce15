# SPDX-License-Identifier: Apache-2.0
"""What `show hardware-interfaces` says of an interface: its queues, its driver and the driver's rings."""

from typing import Any

from pyvpp.cli.rx_commands import queue_data
from pyvpp.device import af_packet_ring, af_packet_socket
from pyvpp.device.af_packet import AfPacket
from pyvpp.device.af_packet_socket import Queue
from pyvpp.device.af_xdp import AfXdp
from pyvpp.device.af_xdp_ring import CHUNK_BYTES
from pyvpp.interface import OFFLOAD_IPIP, Interface

TX_STATES = {0: "available", 1: "request", 2: "sending", 4: "wrong"}  # of a slot (TP_STATUS_*, linux/if_packet.h)


def queues(engine: Any, interface: Interface) -> tuple[list[str], dict[str, Any]]:
    """Which worker reads which queue, and writes into which."""
    rx = [queue_data(queue) for queue in engine.rx_queues.of(interface)]
    if not rx:
        return [], {}
    lines = ["  RX Queues:", "    queue thread         mode"]
    for queue in rx:
        thread = f"vpp_wk_{queue['worker']} ({queue['thread']})"
        lines.append(f"    {queue['queue']:<5} {thread:<14} {queue['mode']}")
    tx = _tx_threads(interface, len(engine.workers))
    lines += ["  TX Queues:", "    queue shared thread(s)"]
    lines += [f"    {n:<5} {'yes' if len(threads) > 1 else 'no':<6} {_ranges(threads)}" for n, threads in tx.items()]
    return lines, {"rx_queues": rx, "tx_queues": [{"queue": n, "threads": threads} for n, threads in tx.items()]}


def _tx_threads(interface: Interface, workers: int) -> dict[int, list[int]]:
    """The threads that send by each transmit queue: one each where there are as many queues as workers."""
    threads: dict[int, list[int]] = {}
    for worker in range(workers):
        threads.setdefault(interface.tx_queue(worker, workers), []).append(worker + 1)
    return threads


def _ranges(threads: list[int]) -> str:
    return ",".join(map(str, threads))


def driver(engine: Any, interface: Interface) -> tuple[list[str], dict[str, Any]]:
    """The driver's name, why it was chosen, and what an af_packet or af_xdp interface's rings look like."""
    if isinstance(interface.device, AfPacket):
        lines, data = _af_packet(engine, interface, interface.device)
    elif isinstance(interface.device, AfXdp):
        lines, data = _af_xdp(interface, interface.device)
    else:
        return [f"  {interface.kind}"], {}
    chosen = [f"  {interface.kind}: {interface.driver_reason}"] if interface.driver_reason else []
    return [*chosen, *lines], {"driver_reason": interface.driver_reason, **data}


def _af_packet(engine: Any, interface: Interface, device: AfPacket) -> tuple[list[str], dict[str, Any]]:
    lines = ["  Linux PACKET socket interface v2", "  FEATURES:"]
    features = ["qdisc-bpass-enabled"] if device.options.qdisc_bypass else []
    features.append("cksum-gso-enabled")
    if device.alone:
        features.append("ingress-drop")
    if interface.offload & OFFLOAD_IPIP:
        features.append("ipip-gso-enabled")
    if device.fanout is not None:
        features.append(f"fanout hash, group {device.fanout}")
    lines += [f"    {feature}" for feature in features]
    rx, tx = [], []
    for number, queue in enumerate(device.rx_queues):
        statistics = queue.statistics()
        rx.append({**_ring(queue.rx_slot_bytes, queue.rx_slots), **vars(statistics)})
        lines += [
            f"  RX Queue {number}:",
            f"    {_ring_text(rx[-1])}",
            f"    packets:{statistics.packets} drops:{statistics.drops}",
        ]
    for number, queue in enumerate(device.queues):
        states = _tx_states(engine, queue)
        tx.append({**_ring(af_packet_ring.TX_SLOT_BYTES, queue.tx_slots), **states})
        counted = " ".join(f"{name}:{count}" for name, count in states.items())
        lines += [f"  TX Queue {number}:", f"    {_ring_text(tx[-1])}", f"    {counted} total:{queue.tx_slots}"]
    return lines, {"features": features, "fanout": device.fanout, "rx_rings": rx, "tx_rings": tx}


def _af_xdp(interface: Interface, device: AfXdp) -> tuple[list[str], dict[str, Any]]:
    """Where the program runs, who copies, and what Linux counted on each socket (XDP_STATISTICS)."""
    features = [*str(device.way).split(", "), "need-wakeup", *device.abilities()]
    if interface.offload & OFFLOAD_IPIP:
        features.append("ipip-gso-enabled")
    lines = [f"  AF_XDP sockets on netdev {device.linux_name}, driver {device.driver}", "  FEATURES:"]
    lines += [f"    {feature}" for feature in features]
    sockets = []
    for queue in device.queues:
        options, counted = queue.options, queue.statistics()
        sockets.append({"rx_size": options.rx_slots, "tx_size": options.tx_slots, **vars(counted)})
        lines += [
            f"  RX Queue {queue.number}:",
            f"    ring and fill ring:{options.rx_slots}  frame size:{CHUNK_BYTES}",
            f"    drops:{counted.rx_dropped} ring full:{counted.rx_ring_full} "
            f"fill ring empty:{counted.fill_ring_empty} invalid:{counted.rx_invalid_descriptors}",
            f"  TX Queue {queue.number}:",
            f"    ring and completion ring:{options.tx_slots}",
            f"    invalid:{counted.tx_invalid_descriptors} ring empty:{counted.tx_ring_empty}",
        ]
    return lines, {"driver": device.driver, "features": features, "sockets": sockets}


def _ring(slot_bytes: int, slots: int) -> dict[str, int]:
    block = max(slot_bytes, af_packet_socket.PAGE)
    return {"block_size": block, "blocks": slot_bytes * slots // block, "frame_size": slot_bytes, "frames": slots}


def _ring_text(ring: dict[str, int]) -> str:
    return "block size:{block_size} nr:{blocks}  frame size:{frame_size} nr:{frames}".format(**ring)


def _tx_states(engine: Any, queue: Queue) -> dict[str, int]:
    """How many slots of the transmit ring are in each state."""
    ring = engine.buffers.heap.array[queue.tx_offset : queue.tx_offset + queue.tx_bytes]
    status = ring.view("<u4")[:: af_packet_ring.TX_SLOT_BYTES // 4]
    return {name: int((status == state).sum()) for state, name in TX_STATES.items()}
