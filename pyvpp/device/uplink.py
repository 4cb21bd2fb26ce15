# SPDX-License-Identifier: Apache-2.0
"""An uplink behind the graph: which driver its NIC gets, and the pair of interfaces that stands for it.

AF_PACKET is the choice unless the NIC can write into our buffers itself. It carries segmentation and checksums both
ways, which AF_XDP cannot: on veth a TCP stream through AF_PACKET is faster, and small packets are as fast.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pyvpp.buffers import HUGEPAGES
from pyvpp.device.af_packet import AfPacket
from pyvpp.device.af_packet_socket import Options as PacketOptions
from pyvpp.device.af_packet_socket import check_rx_slots
from pyvpp.device.af_xdp import AfXdp, check_mtu
from pyvpp.device.af_xdp_interface import add_af_xdp_interface
from pyvpp.device.af_xdp_socket import AF_XDP, LEAST_SLOTS, MOST_SLOTS, RX_SLOTS, TX_SLOTS, Options
from pyvpp.device.interfaces import add_host_interface, add_tap_interface
from pyvpp.device.linux_interface import LinuxInterface
from pyvpp.device.nic_options import AS_USUAL, NicOptions
from pyvpp.device.tap import Tap
from pyvpp.errors import OperatorError
from pyvpp.interface import HOST, Interface
from pyvpp.linux import xdp_features
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.takeover import TakeOver

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)

AUTO, AF_PACKET_DRIVER, AF_XDP_DRIVER = "auto", "af-packet", "af-xdp"


@dataclass(frozen=True)
class Choice:
    """A driver and, where it is not what the operator named, why it is this one. `sure`: there is no other."""

    driver: str
    reason: str = ""
    sure: bool = True
    nic: NicOptions = AS_USUAL

    def opens(self, workers: int) -> str:
        """What `prepare_uplink` and `add_nic` open on the NIC."""
        if self.driver == AF_PACKET_DRIVER:
            return f"packet sockets on the NIC, {self.nic.told(workers)}"
        served = self.nic.num_rx_queues or "each"
        return f"nothing yet: AF_XDP sockets when the NIC is there, one for {served} of its receive queues"


def choose_driver(name: str, wanted: str, pages: str, nic: NicOptions = AS_USUAL) -> Choice:
    """The driver for a NIC that is still Linux', whose packets will be in a heap made of `pages`.

    To be called in a thread without an event loop. Raises OperatorError when the one that is wanted cannot be.
    """
    linux = LinuxInterface(name)
    try:
        check_rx_slots(nic.rx_ring_size or 0, linux.mtu())
        if wanted == AF_PACKET_DRIVER:
            return Choice(AF_PACKET_DRIVER, nic=nic)
        if wanted == AF_XDP_DRIVER:
            check_af_xdp(name, linux, nic)
            return Choice(AF_XDP_DRIVER, nic=nic)
        features = xdp_features.read(linux.ifindex)
        if features is None or not (features.native and features.zero_copy):
            return Choice(AF_PACKET_DRIVER, f"its driver {linux.driver()} offers no zero-copy AF_XDP", nic=nic)
        if pages != HUGEPAGES:
            return Choice(AF_PACKET_DRIVER, "zero-copy AF_XDP needs hugepages, and there are none", nic=nic)
        try:
            check_af_xdp(name, linux, nic)
        except OperatorError as error:
            return Choice(AF_PACKET_DRIVER, str(error), nic=nic)
        return Choice(AF_XDP_DRIVER, f"its driver ({linux.driver()}) offers zero-copy", sure=False, nic=nic)
    finally:
        linux.close()


def check_af_xdp(name: str, linux: LinuxInterface, nic: NicOptions) -> None:
    """Raises OperatorError where AF_XDP cannot be, before anything has moved."""
    check_sockets(name)
    check_mtu(name, linux.mtu(), Options())
    if nic.qdisc_bypass:
        raise OperatorError("--qdisc-bypass: af-xdp passes no queueing discipline; leave it out or use af-packet")
    if nic.num_rx_queues is not None and nic.num_rx_queues > linux.rx_queues():
        raise OperatorError(
            f"--num-rx-queues {nic.num_rx_queues}: for af-xdp from 1 to {linux.rx_queues()}, {name}'s own"
        )
    for option, size in nic.sizes():
        if not LEAST_SLOTS <= size <= MOST_SLOTS:
            raise OperatorError(f"{option} {size}: for af-xdp from {LEAST_SLOTS} to {MOST_SLOTS}")


def check_sockets(name: str) -> None:
    """Raises OperatorError when this kernel has no AF_XDP."""
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    except OSError as error:
        raise OperatorError(f"Linux interface {name}: no AF_XDP socket: {error.strerror}") from error


def take_over_by(
    choice: Choice, state: UplinkState, runtime_dir: str, workers: int, gro: str, engine: Engine | None
) -> TakeOver:
    """How an uplink is taken over for the driver chosen; `gro` is the command line's. A plan needs no engine."""
    return TakeOver(
        state,
        runtime_dir,
        workers,
        gro=gro in ("on", "nic"),
        prepare=partial(prepare_uplink, engine, state, choice) if engine is not None else None,
        prepared=choice.opens(workers),
    )


def prepare_uplink(engine: Engine, state: UplinkState, choice: Choice, namespace: int) -> AfPacket | None:
    """The sockets for an uplink that is about to move into a namespace: what takes long is done before it moves.

    None when it is driven by something else; the code of its nodes is loaded in any case.
    """
    engine.graph.load_templates()
    if choice.driver != AF_PACKET_DRIVER:
        return None
    options = PacketOptions.of(choice.nic, len(engine.workers))
    return AfPacket(state.name, namespace, options, all_multicast=True, mtu=state.mtu)


def add_uplink(engine: Engine, taken: Any, choice: Choice = Choice(AF_PACKET_DRIVER)) -> tuple[Interface, Interface]:
    """Puts a taken uplink behind the graph: `host-<name>` on the NIC and a TAP for the host, partners of each other."""
    state = taken.state
    mac = bytes.fromhex(state.mac.replace(":", ""))
    with engine.barrier():  # one, instead of one for each node
        uplink = add_nic(engine, taken, mac, choice)
        tap = Tap(state.name, fds=[os.dup(fd) for fd in taken.tap_fds])
        host = add_tap_interface(
            engine, tap, name=engine.interfaces.free_name("tap"), mac=mac, mtu=state.mtu, flags=HOST, admin_up=False
        )
        engine.interfaces.set_peer(uplink, host)
        engine.interfaces.set_peer(host, uplink)
        engine.events.fire("uplink-added", uplink, host, state)
        engine.interfaces.set_admin(host, True)
        engine.interfaces.set_admin(uplink, True)
    return uplink, host


def add_nic(engine: Engine, taken: Any, mac: bytes, choice: Choice) -> Interface:
    """The interface on the NIC, by the driver chosen or, when nobody insists on that, by AF_PACKET."""
    name, nic, reason = taken.nic_name, choice.nic, choice.reason
    if choice.driver == AF_XDP_DRIVER:
        options = Options(nic.num_rx_queues or 0, nic.rx_ring_size or _rx_slots(engine), nic.tx_ring_size or TX_SLOTS)
        try:
            interface = add_af_xdp_interface(
                engine, name, name=f"host-{name}", namespace=taken.netns, options=options, mac=mac, uplink=True,
                mtu=taken.state.mtu,
            )  # fmt: skip
        except OperatorError as error:
            if choice.sure:
                raise
            reason = str(error)
            log.warning("%s: af_packet is used: %s", name, reason)
        else:
            interface.driver_reason = reason
            return interface
    interface = add_host_interface(
        engine, name, namespace=taken.netns, mac=mac, uplink=True, mtu=taken.state.mtu, prepared=taken.device,
        options=PacketOptions.of(nic, len(engine.workers)),
    )  # fmt: skip
    interface.driver_reason = reason
    return interface


def settle_uplink(taken: Any, uplink: Interface) -> list[str]:
    """What packets need not wait for, once they flow; what could not be done."""
    if isinstance(uplink.device, AfPacket):
        uplink.device.be_alone()
    uplink.device.leave_ipip()
    return list(taken.settle())


def _rx_slots(engine: Engine) -> int:
    """Buffers lent to each queue: as many as usual, or fewer where that were more than an eighth of all."""
    slots = RX_SLOTS
    while slots > 64 and slots * 8 > engine.buffers.small:
        slots //= 2
    return slots


def let_go(engine: Engine) -> None:
    """Takes programs off the NICs, before those go back to Linux, which would hear nothing until we are gone."""
    for interface in engine.interfaces:
        if isinstance(interface.device, AfPacket | AfXdp):
            interface.device.remove_program()
