# SPDX-License-Identifier: Apache-2.0
"""Interfaces of the engine on AF_XDP: made and deleted as a whole."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from pyvpp.device.af_xdp import AfXdp
from pyvpp.device.af_xdp_socket import Options
from pyvpp.device.interfaces import queue_node, random_mac
from pyvpp.errors import OperatorError
from pyvpp.interface import UPLINK, Interface

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.worker import Worker

log = logging.getLogger(__name__)

KIND = "af-xdp"


def add_af_xdp_interface(
    engine: Engine, linux_name: str, *, name: str | None = None, namespace: int | None = None,
    options: Options | None = None, mac: bytes | None = None, uplink: bool = False, admin_up: bool = False,
    mtu: int | None = None,
) -> Interface:  # fmt: skip
    """An interface `<linux_name>/<n>`, VPP's name for it, unless another is given. Raises OperatorError."""
    name = name or engine.interfaces.free_name(f"{linux_name}/")
    if engine.interfaces.by_name(name):
        raise OperatorError(f"interface {name} exists already")
    given = engine.inheritance.xdp_sockets(name)
    try:
        if given is not None:
            device = AfXdp.inherited(linux_name, engine.buffers.heap, namespace, given, all_multicast=uplink)
        else:
            _share_packets(engine)
            device = AfXdp(linux_name, engine.buffers.heap, namespace, options, all_multicast=uplink)
            if not uplink:
                device.leave_ipip()
    except OSError as error:
        raise OperatorError(f"Linux interface {linux_name}: {os.strerror(error.errno or 0)}") from error
    try:
        interface = engine.interfaces.create(
            name, kind=KIND, mac=mac or random_mac(), mtu=mtu or device.mtu(), flags=UPLINK if uplink else 0,
            admin_up=admin_up, output="interface-output", tx="af-xdp-tx", device=device,
            offload=device.offload,
        )  # fmt: skip
    except BaseException:
        device.close()
        raise

    def close() -> None:
        with engine.barrier():
            device.detach(engine.tables, interface.sw_if_index)
        device.close()
        with engine.barrier():
            device.return_lent(engine.buffers, interface.sw_if_index)

    interface.on_delete.append(close)
    workers = engine.rx_queues.by_load()
    try:
        with engine.barrier():
            first = device.attach(engine.buffers, engine.tables, interface.sw_if_index, workers)
    except OSError as error:
        engine.interfaces.delete(interface)
        raise OperatorError(f"Linux interface {linux_name}: {error.strerror}") from error
    except OperatorError:
        engine.interfaces.delete(interface)
        raise
    for number, fd in enumerate(device.poll_fds()):
        worker = workers[number % len(workers)]
        node = queue_node(interface, number)

        def placed(worker: Worker, queue: int = number) -> None:
            device.read_by(engine.buffers, queue, worker.index)

        engine.add_input(
            "af-xdp-input", node, interface, [fd], worker, instance=first + number, placed=placed, mapped=True
        )
    return interface


def _share_packets(engine: Engine) -> None:
    """Linux keeps the very memory that it is told of, so it has to be such that another process can go on with."""
    try:
        with engine.barrier():
            engine.buffers.share()
    except OSError as error:
        log.warning("packets lie in memory of this process alone, it cannot be upgraded: %s", error)
