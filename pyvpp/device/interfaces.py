# SPDX-License-Identifier: Apache-2.0
"""Interfaces of the engine that have a device below: made and deleted as a whole."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

import numpy as np

from pyvpp.device.af_packet import AfPacket
from pyvpp.device.af_packet_socket import Options
from pyvpp.device.af_xdp import AfXdp
from pyvpp.device.tap import QUEUE_PACKETS, Tap, open_namespace, reattach, set_up_pod
from pyvpp.errors import OperatorError
from pyvpp.interface import P2P, UPLINK, Interface
from pyvpp.linux import netns
from pyvpp.tables import TableInstance, clear_row
from pyvpp.worker import Worker

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)

DEFAULT_TUN_MTU = 1500


def random_mac() -> bytes:
    """02:fe and four random bytes, as VPP makes them."""
    return b"\x02\xfe" + secrets.token_bytes(4)


def add_host_interface(
    engine: "Engine", linux_name: str, *, namespace: int | None = None, mac: bytes | None = None, uplink: bool = False,
    admin_up: bool = False, mtu: int | None = None, options: Options | None = None, prepared: AfPacket | None = None,
) -> Interface:  # fmt: skip
    """An af_packet interface `host-<linux_name>`. Raises OperatorError when Linux has no such link.

    `options` says how many receive queues and slots there are, one queue for each worker unless given; each worker has
    a transmit ring in any case. `prepared` is a device that has only to be bound.
    """
    name = f"host-{linux_name}"
    if engine.interfaces.by_name(name):
        raise OperatorError(f"interface {name} exists already")
    workers = len(engine.workers)
    options = replace(options or Options(rx_queues=workers), tx_queues=workers)
    given = engine.inheritance.sockets(name)
    try:
        if given is not None:
            device = AfPacket.inherited(linux_name, namespace, given)
        elif prepared is None:
            device = AfPacket(linux_name, namespace, options, all_multicast=uplink, alone=uplink)
            device.leave_ipip()
        else:
            device = prepared
            device.bind()
    except OSError as error:
        raise OperatorError(f"Linux interface {linux_name}: {os.strerror(error.errno or 0)}") from error
    with _closed_on_failure(device):
        interface = engine.interfaces.create(
            name, kind="af-packet", mac=mac or random_mac(), mtu=mtu or (device.mtu() if uplink else 9000),
            flags=UPLINK if uplink else 0, admin_up=admin_up, output="interface-output", tx="af-packet-tx",
            device=device, offload=device.offload,
        )  # fmt: skip
    try:
        device.map(engine.buffers.heap)
    except OSError as error:
        engine.interfaces.delete(interface)
        device.close()
        raise OperatorError(f"Linux interface {linux_name}: {error.strerror}") from error
    _attach_rings(engine, interface, device)
    return interface


def _attach_rings(engine: "Engine", interface: Interface, device: AfPacket) -> None:
    """Gives the workers their transmit rings, and the receive rings, by an input node each, to workers."""
    rx, tx = engine.tables["af_packet_rx_queues"], engine.tables["af_packet_tx_queues"]
    rows: list[int] = []

    def close() -> None:
        with engine.barrier():
            for row in rows:
                clear_row(rx.array, row, "fd")
            for array in tx.arrays:
                clear_row(array, interface.sw_if_index, "fd", "send_fd")
        device.unmap(engine.buffers.heap)
        device.close()

    interface.on_delete.append(close)
    for worker, array in enumerate(tx.arrays):
        device.queues[worker].attach_tx(array[interface.sw_if_index])
    for number, queue in enumerate(device.rx_queues):
        rows.append(free_row(rx))
        queue.attach_rx(rx.array[rows[-1]], interface.sw_if_index)
        node = queue_node(interface, number)
        engine.add_input("af-packet-input", node, interface, queue.poll_fds(), instance=rows[-1], mapped=True)


def free_row(table: TableInstance) -> int:
    """A row of a table of receive queues that has no interface yet; `local0`, which is 0, has no queues."""
    free = np.flatnonzero(table.array["sw_if_index"] == 0)
    if not len(free):
        free = np.array([len(table)])
        table.grow(len(table) + 1)
    return int(free[0])


def queue_node(interface: Interface, number: int) -> str:
    """The name of a queue's input node."""
    return f"{interface.name}-input" + (f"-{number}" if number else "")


def add_tap_interface(
    engine: "Engine",
    tap: Tap,
    *,
    name: str,
    mac: bytes = bytes(6),
    mtu: int = 9000,
    flags: int = 0,
    admin_up: bool = True,
) -> Interface:
    """An interface on an open TAP or TUN, which is closed with it, and when there can be no interface."""
    with _closed_on_failure(tap):
        interface = engine.interfaces.create(
            name, kind="tun" if tap.layer3 else "tap", mac=mac, mtu=mtu, flags=flags | (P2P if tap.layer3 else 0),
            admin_up=admin_up, output="interface-output", tx="tap-tx", device=tap, offload=tap.offload,
        )  # fmt: skip
    rx, tx = engine.tables["tap_rx_queues"], engine.tables["tap_tx_queues"]
    rows: list[int] = []

    def close() -> None:
        with engine.barrier():
            for row in rows:
                clear_row(rx.array, row, "fd", "epoll_fd")
            for array in tx.arrays:
                clear_row(array, interface.sw_if_index, "fd")
        with contextlib.suppress(OSError):
            if tap.persistent:
                tap.delete()
            else:
                tap.close()

    interface.on_delete.append(close)
    for worker, array in enumerate(tx.arrays):
        tap.attach_tx(array[interface.sw_if_index], worker)
    for number in range(len(tap.fds)):
        rows.append(row := free_row(rx))
        tap.attach_rx(rx.array[row], number, interface.sw_if_index)

        def placed(worker: Worker, row: int = row) -> None:
            rx.array["epoll_fd"][row] = worker.epoll.fileno()
            rx.array["open"][row] = 1  # if the device is gone, the kernel finds out anew and takes it from this epoll

        node = queue_node(interface, number)
        engine.add_input("tap-input", node, interface, tap.poll_fds(number), instance=row, placed=placed)
    return interface


def add_pod(
    engine: "Engine", namespace: str, linux_name: str, address: IPv4Address, *, instance: int | None, mtu: int,
    queues: int = 0,
) -> Interface:  # fmt: skip
    """A TUN in a pod's namespace with the pod's /32 and default route; fires "pod-added" for the route here.

    `queues` 0: one for each worker.
    """
    name = engine.interfaces.free_name("tun", instance)
    device, known = _open_tap(engine, name, linux_name, namespace, True, queues or len(engine.workers))
    try:
        with _closed_on_failure(device):
            if not known:
                set_up_pod(device, address, mtu)
    except OSError as error:
        raise OperatorError(f"host-if-name {linux_name} in {namespace}: {os.strerror(error.errno or 0)}") from error
    interface = add_tap_interface(engine, device, name=name, mtu=mtu)
    engine.events.fire("pod-added", interface, address)
    return interface


def add_tap(
    engine: "Engine", linux_name: str, *, instance: int | None = None, namespace: str | None = None,
    mac: bytes | None = None, mtu: int | None = None, tun: bool = False, queues: int = 0,
    address: IPv4Interface | None = None,
) -> Interface:  # fmt: skip
    """A TAP or TUN with its Linux end in a namespace, up, with an address if one is given.

    `queues` 0: one for each worker.
    """
    name = engine.interfaces.free_name("tun" if tun else "tap", instance)
    device, known = _open_tap(engine, name, linux_name, namespace, tun, queues or len(engine.workers))
    what = f"host-if-name {linux_name}"
    try:
        with _closed_on_failure(device):
            if not known:
                device.configure(mtu=mtu or DEFAULT_TUN_MTU, up=True, queue=QUEUE_PACKETS)
            if not known and address:
                what = f"host-ip4-addr {address}"
                device.add_address(address)
    except OSError as error:
        raise OperatorError(f"{what}: {os.strerror(error.errno or 0)}") from error
    return add_tap_interface(
        engine, device, name=name, mac=bytes(6) if tun else mac or random_mac(), mtu=mtu or DEFAULT_TUN_MTU
    )


def _open_tap(
    engine: "Engine", name: str, linux_name: str, namespace: str | None, layer3: bool, queues: int
) -> tuple[Tap, bool]:
    """The device for an interface, and whether Linux' end is configured already.

    It is the one handed over by the process before, or the one that process left, or a new one.
    """
    if given := engine.inheritance.queues(name):
        device = Tap(linux_name, fds=given.fds)
        device.home, device.netns, device.pins = given.namespace, given.netns, given.pins
        return device, True
    descriptor = open_namespace(namespace) if namespace else netns.open_current()
    try:
        where = netns.identity(descriptor)
        known = None
        if engine.inheritance.claim(where, linux_name):
            known = reattach(linux_name, descriptor, layer3=layer3, queues=queues)
        device = known or Tap(linux_name, layer3=layer3, namespace=descriptor if namespace else None, queues=queues)
    except OSError as error:
        place = f" in {namespace}" if namespace else ""
        raise OperatorError(f"host-if-name {linux_name}{place}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(descriptor)
    device.home, device.netns = namespace or "", where
    device.pins = known is not None and bool(namespace)
    return device, known is not None


@contextlib.contextmanager
def _closed_on_failure(device: AfPacket | Tap) -> Iterator[None]:
    """Linux removes the device when nobody comes to hold its descriptor."""
    try:
        yield
    except BaseException:
        device.close()
        raise


def follow_devices(engine: "Engine") -> None:
    """Once a second: link state as Linux has it, what it does for us by now, and what Linux lost because the ring was
    full. A TAP whose device is gone, a pod's that died, stays until deleted."""
    missed = engine.tables["interface_rx_miss"].arrays[0]
    for interface in engine.interfaces:
        device = interface.device
        try:
            if isinstance(device, AfPacket | AfXdp):
                missed[interface.sw_if_index] += device.newly_missed()
                engine.interfaces.set_link(interface, device.link_up())
                engine.interfaces.set_offload(interface, device.offload)
                if isinstance(device, AfXdp):
                    device.push()
                continue
            if not isinstance(device, Tap):
                continue
            device.release_namespace()
            if interface.link_up and not device.alive():
                log.warning("%s: its other end %s is gone, delete it", interface.name, device.name)
                engine.interfaces.set_link(interface, False)
        except OSError as error:
            engine.interfaces.set_link(interface, False)
            log.debug("%s: %s", interface.name, error)
