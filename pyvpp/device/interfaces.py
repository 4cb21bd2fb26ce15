# SPDX-License-Identifier: Apache-2.0
"""Interfaces of the engine that have a device below: made and deleted as a whole."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from pyvpp.device.af_packet import AfPacket
from pyvpp.device.tap import Tap, open_namespace, open_pod_tun
from pyvpp.errors import OperatorError
from pyvpp.interface import HOST, P2P, UPLINK, Interface

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)

DEFAULT_TUN_MTU = 1500


def random_mac() -> bytes:
    """02:fe and four random bytes, as VPP makes them."""
    return b"\x02\xfe" + secrets.token_bytes(4)


def add_host_interface(
    engine: "Engine", linux_name: str, *, namespace: int | None = None, mac: bytes | None = None, uplink: bool = False,
    admin_up: bool = False, mtu: int | None = None,
) -> Interface:  # fmt: skip
    """An af_packet interface `host-<linux_name>`. Raises OperatorError when Linux has no such link."""
    name = f"host-{linux_name}"
    if engine.interfaces.by_name(name):
        raise OperatorError(f"interface {name} exists already")
    try:
        device = AfPacket(linux_name, namespace, all_multicast=uplink)
    except OSError as error:
        raise OperatorError(f"Linux interface {linux_name}: {os.strerror(error.errno or 0)}") from error
    with _closed_on_failure(device):
        interface = engine.interfaces.create(
            name, kind="af-packet", mac=mac or random_mac(), mtu=mtu or (device.mtu() if uplink else 9000),
            flags=UPLINK if uplink else 0, admin_up=admin_up, output="interface-output", tx="af-packet-tx",
            device=device,
        )  # fmt: skip
    rings = engine.tables["af_packet_rings"]
    try:
        device.attach(engine.buffers.heap, rings.array[interface.sw_if_index])
    except OSError as error:
        engine.interfaces.delete(interface)
        device.close()
        raise OperatorError(f"Linux interface {linux_name}: {error.strerror}") from error
    offset = int(rings.array[interface.sw_if_index]["rx"])

    def close() -> None:
        with engine.barrier():
            device.detach(rings.array[interface.sw_if_index])
        device.close()
        engine.buffers.heap.unmap_ring(offset, device.ring_bytes)

    interface.on_delete.append(close)
    engine.add_input("af-packet-input", f"{name}-input", interface, list(device.poll_fds()))
    return interface


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
            admin_up=admin_up, output="interface-output", tx="tap-tx", device=tap,
        )  # fmt: skip
    taps = engine.tables["taps"]
    tap.attach(taps.array[interface.sw_if_index], engine.workers[0].epoll.fileno())  # where add_input puts it

    def close() -> None:
        with engine.barrier():
            tap.detach(taps.array[interface.sw_if_index])
        with contextlib.suppress(OSError):
            tap.close()

    interface.on_delete.append(close)
    engine.add_input("tap-input", f"{name}-input", interface, list(tap.poll_fds()))
    return interface


def add_uplink(engine: "Engine", taken: Any) -> tuple[Interface, Interface]:
    """Puts a taken uplink behind the graph: `host-<name>` on the NIC and a TAP for the host, partners of each other."""
    state = taken.state
    mac = bytes.fromhex(state.mac.replace(":", ""))
    uplink = add_host_interface(engine, taken.nic_name, namespace=taken.netns, mac=mac, uplink=True, mtu=state.mtu)
    tap = Tap(state.name, fd=os.dup(taken.tap_fds[0]))
    host = add_tap_interface(
        engine, tap, name=engine.interfaces.free_name("tap"), mac=mac, mtu=state.mtu, flags=HOST, admin_up=False
    )
    engine.interfaces.set_peer(uplink, host)
    engine.interfaces.set_peer(host, uplink)
    engine.events.fire("uplink-added", uplink, host, state)
    engine.interfaces.set_admin(host, True)
    engine.interfaces.set_admin(uplink, True)
    return uplink, host


def add_pod(
    engine: "Engine", namespace: str, linux_name: str, address: IPv4Address, *, instance: int | None, mtu: int
) -> Interface:
    """A TUN in a pod's namespace with the pod's /32 and default route; fires "pod-added" for the route here."""
    name = engine.interfaces.free_name("tun", instance)
    try:
        tun = open_pod_tun(linux_name, namespace, address, mtu)
    except OSError as error:
        raise OperatorError(f"host-if-name {linux_name} in {namespace}: {os.strerror(error.errno or 0)}") from error
    interface = add_tap_interface(engine, tun, name=name, mtu=mtu)
    engine.events.fire("pod-added", interface, address)
    return interface


def add_tap(
    engine: "Engine", linux_name: str, *, instance: int | None = None, namespace: str | None = None,
    mac: bytes | None = None, mtu: int | None = None, tun: bool = False,
) -> Interface:  # fmt: skip
    """A TAP or TUN with its Linux end in a namespace, up and without addresses."""
    name = engine.interfaces.free_name("tun" if tun else "tap", instance)
    descriptor = open_namespace(namespace) if namespace else None
    try:
        device = Tap(linux_name, layer3=tun, namespace=descriptor)
    except OSError as error:
        raise OperatorError(f"host-if-name {linux_name}: {os.strerror(error.errno or 0)}") from error
    finally:
        if descriptor is not None:
            os.close(descriptor)
    try:
        with _closed_on_failure(device):
            device.configure(mtu=mtu or DEFAULT_TUN_MTU, up=True)
    except OSError as error:
        raise OperatorError(f"host-if-name {linux_name}: {os.strerror(error.errno or 0)}") from error
    return add_tap_interface(
        engine, device, name=name, mac=bytes(6) if tun else mac or random_mac(), mtu=mtu or DEFAULT_TUN_MTU
    )


@contextlib.contextmanager
def _closed_on_failure(device: AfPacket | Tap) -> Iterator[None]:
    """Linux removes the device when nobody comes to hold its descriptor."""
    try:
        yield
    except BaseException:
        device.close()
        raise


def follow_devices(engine: "Engine") -> None:
    """Once a second: link state as Linux has it, and what Linux lost because the ring was full. A TAP whose device is
    gone, a pod's that died, stays until deleted."""
    missed = engine.tables["interface_rx_miss"].arrays[0]
    for interface in engine.interfaces:
        device = interface.device
        try:
            if isinstance(device, AfPacket):
                missed[interface.sw_if_index] += device.newly_missed()
                engine.interfaces.set_link(interface, device.link_up())
            elif isinstance(device, Tap) and interface.link_up and not device.alive():
                log.warning("%s: its other end %s is gone, delete it", interface.name, device.name)
                engine.interfaces.set_link(interface, False)
        except OSError as error:
            engine.interfaces.set_link(interface, False)
            log.debug("%s: %s", interface.name, error)
