# SPDX-License-Identifier: Apache-2.0
"""Commands about the engine: what its nodes did, the trace, and the interfaces it makes."""

import os
import time
from pathlib import Path
from typing import Any

from pyvpp import dispatch as d
from pyvpp.buffers import LARGE_BUFFERS, LARGE_ROOM, LARGE_SLOT, POOL_LARGE, POOL_SMALL, SMALL_ROOM, SMALL_SLOT
from pyvpp.cli import render
from pyvpp.cli.arguments import Arguments, CommandError, expectation
from pyvpp.cli.registry import Output, command
from pyvpp.device import interfaces as devices
from pyvpp.device.af_packet_socket import Options
from pyvpp.device.nic_options import LEAST_SLOTS, MOST_QUEUES, MOST_SLOTS
from pyvpp.interface import HOST, L2, UPLINK
from pyvpp.node import Kind, NodeCounter
from pyvpp.trace import packets, show_trace

STATES = {Kind.INTERNAL: "active", Kind.INPUT: "interrupt wait", Kind.PYTHON: "event wait"}
RUNTIME_COLUMNS = ("calls", "vectors", "clocks", "max_clocks")
THREAD_COUNTS = {
    "loops": d.LOOPS, "epolls": d.EPOLLS, "sleeps": d.SLEEPS, "fd_wakeups": d.FD_WAKEUPS, "wakeups": d.WAKEUPS
}  # fmt: skip
PACKETS_SHOWN = 50
MTU_MIN, MTU_MAX = 68, 65535
TAP_MTU_MAX = 65521  # Linux counts the Ethernet header
LOOPBACK_MTU = 9000
LONGEST_LINUX_NAME = 15
TAP_WORDS = (
    "id", "tun", "host-ns", "host-if-name", "host-ip4-addr", "host-mtu-size", "num-rx-queues", "hw-addr"
)  # fmt: skip


# ---- runtime ------------------------------------------------------------------------------------------------------


@command("show runtime", help="show runtime [verbose]")
def show_runtime(engine: Any, args: Arguments) -> Output:
    """How often each node ran, on how many packets, and the cycles it took. Without verbose only those that ran."""
    verbose = bool(args.accept("verbose"))
    args.end()
    seconds = max(1e-9, time.time() - getattr(engine.stack, "runtime_cleared", engine.started))
    lines: list[str] = []
    data = []
    for worker in engine.workers:
        nodes = [_runtime_of(worker, node) for node in sorted(engine.graph, key=lambda node: str(node.name))]
        moved = {
            "in": _vectors(nodes, lambda node: node["kind"] == "input"),
            "out": _vectors(nodes, lambda node: node["name"].endswith("-tx")),
            "drop": _vectors(nodes, lambda node: node["name"] == "error-drop"),
            "punt": _vectors(nodes, lambda node: node["kind"] == "python"),
        }
        ran = [node for node in nodes if node["kind"] == "internal" and node["calls"]]
        calls = sum(node["calls"] for node in ran)
        per_call = sum(node["vectors"] for node in ran) / calls if calls else 0.0
        loops = int(worker.control[d.LOOPS]) / seconds
        rates = {name: count / seconds for name, count in moved.items()}
        lines += ["---------------"] if lines else []
        lines += [
            f"Thread {worker.index + 1} vpp_wk_{worker.index}",
            f"Time {seconds:.1f}, average vectors/node {per_call:.2f} loops/sec {loops:.2f}",
            "  vector rates " + ", ".join(f"{name} {render.exponent(rate, 4)}" for name, rate in rates.items()),
            render.RUNTIME_HEADING,
        ]
        shown = [node for node in nodes if verbose or node["calls"]]
        lines += [render.runtime_line(n["name"], n["state"], n["calls"], n["vectors"], n["clocks"]) for n in shown]
        data.append(
            {
                "thread": worker.index + 1,
                "name": f"vpp_wk_{worker.index}",
                "seconds": seconds,
                "vectors_per_call": per_call,
                "loops_per_second": loops,
                "rates": rates,
                "nodes": shown,
            }
        )
    return Output("\n".join(lines), data)


def _runtime_of(worker: Any, node: Any) -> dict[str, Any]:
    row = worker.rows[node.index]
    figures = {column: int(row[column]) for column in RUNTIME_COLUMNS}
    state = "polling" if int(row["polled"]) else STATES[node.node.kind]
    return {"name": node.name, "kind": node.node.kind.value, "state": state, **figures}


def _vectors(nodes: list[dict[str, Any]], counts: Any) -> int:
    return sum(node["vectors"] for node in nodes if counts(node))


@command("show graph fusion", help="show graph fusion")
def show_graph_fusion(engine: Any, args: Arguments) -> Output:
    """Whether a node may do the work of those behind it."""
    args.end()
    return Output(f"fusion {'on' if engine.fusion else 'off'}", {"fusion": engine.fusion})


@command("set graph fusion", help="set graph fusion on|off")
def set_graph_fusion(engine: Any, args: Arguments) -> None:
    """off: every packet goes from node to node, so that `show runtime` counts it and its cycles at each.

    on, as at the start: packets of a frame that have the same way before them, through ip4-input, ip4-lookup and
    ip4-rewrite, take it in the node that received the frame, in two thirds of the cycles.
    """
    on = args.choice("on", "off") == "on"
    args.end()
    engine.fusion = on


@command("clear runtime", help="clear runtime")
def clear_runtime(engine: Any, args: Arguments) -> None:
    """Begin counting anew for `show runtime`."""
    args.end()
    with engine.barrier():
        for worker in engine.workers:
            for column in RUNTIME_COLUMNS:
                worker.rows[column] = 0
            for word in THREAD_COUNTS.values():
                worker.control[word] = 0
    engine.stack.runtime_cleared = time.time()


# ---- errors -------------------------------------------------------------------------------------------------------


@command("show errors", help="show errors [verbose]", aliases=("show error", "show node counters"))
def show_errors(engine: Any, args: Arguments) -> Output:
    """The counters of all nodes that are not zero; with verbose also by thread, with the number of the counter."""
    verbose = bool(args.accept("verbose"))
    args.end()
    total = _errors(engine, lambda node: node.counts())
    if not verbose:
        return Output("\n".join([render.ERROR_HEADING, *map(_error_line, total)]), total)
    lines = [render.ERROR_HEADING + render.centred("Index", 6)]
    threads = []
    for worker in engine.workers:
        counted = _errors(engine, lambda node, index=worker.index: node.counts_of(index))
        lines += [f"Thread {worker.index + 1} (vpp_wk_{worker.index}):", *map(_error_line_with_index, counted)]
        threads.append({"thread": worker.index + 1, "name": f"vpp_wk_{worker.index}", "errors": counted})
    lines += ["Total:", *map(_error_line_with_index, total)]
    return Output("\n".join(lines), {"threads": threads, "total": total})


def _errors(engine: Any, counts: Any) -> list[dict[str, Any]]:
    return [
        {
            "count": int(count),
            "node": node.name,
            "reason": counter.text,
            "severity": counter.severity.value,
            "index": node.error_base + int(counter),
        }
        for node in engine.graph
        for counter, count in zip(node.counter_names, counts(node), strict=False)
        if count
    ]


def _error_line(error: dict[str, Any]) -> str:
    return render.error_line(error["count"], error["node"], error["reason"], error["severity"])


def _error_line_with_index(error: dict[str, Any]) -> str:
    return _error_line(error) + render.centred(error["index"], 6)


@command("clear errors", help="clear errors", aliases=("clear error", "clear node counters"))
def clear_errors(engine: Any, args: Arguments) -> None:
    """Set the counters of all nodes to zero."""
    args.end()
    with engine.barrier():
        for node in engine.graph:
            node.clear()


# ---- buffers, threads, nodes --------------------------------------------------------------------------------------


@command("show buffers", help="show buffers")
def show_buffers(engine: Any, args: Arguments) -> Output:
    """The pools of packet buffers: small ones, and large ones for segments that are yet to be cut."""
    args.end()
    buffers = engine.buffers
    kept = len(engine._inject_buffers)  # by the main thread, for the packets it makes
    pools = [
        ("default-numa-0", SMALL_SLOT, SMALL_ROOM, buffers.small, POOL_SMALL, kept),
        ("large-numa-0", LARGE_SLOT, LARGE_ROOM, LARGE_BUFFERS - 1, POOL_LARGE, 0),
    ]
    lines = [render.BUFFER_HEADING]
    data = []
    for index, (name, size, room, total, word, cached) in enumerate(pools):
        available = sum(int(pool[word]) for pool in buffers.pools)
        used = total - available - cached
        lines.append(render.buffer_line(name, index, 0, size, room, total, available, cached, used))
        data.append(
            {
                "name": name,
                "index": index,
                "numa": 0,
                "size": size,
                "data_size": room,
                "total": total,
                "available": available,
                "cached": cached,
                "used": used,
            }
        )
    return Output("\n".join(lines), data)


@command("show threads", help="show threads")
def show_threads(engine: Any, args: Arguments) -> Output:
    """The main thread and the workers: the CPU each is on, and the CPUs it may be on.

    Then the rounds of its loop, how often it asked epoll, slept there, was woken by a device, by the main thread.
    """
    args.end()
    data = [_thread(0, "vpp_main", os.getpid(), dict.fromkeys(THREAD_COUNTS, 0))]
    for worker in engine.workers:
        counts = {name: int(worker.control[word]) for name, word in THREAD_COUNTS.items()}
        lwp = worker.thread.native_id if worker.thread else None
        data.append(_thread(worker.index + 1, f"vpp_wk_{worker.index}", lwp, counts))
    rows = [["-" if value is None else value for value in thread.values()] for thread in data]
    headings = ("ID", "Name", "LWP", "CPU", "CPUs", "Loops", "Epolls", "Sleeps", "FdWakeups", "Wakeups")
    return Output(render.table(headings, rows, "><>>>>>>>>"), data)


def _thread(number: int, name: str, lwp: int | None, counts: dict[str, int]) -> dict[str, Any]:
    return {"id": number, "name": name, "lwp": lwp, "cpu": _cpu_of(lwp), "cpus": _cpus_of(lwp), **counts}


def _cpus_of(lwp: int | None) -> str | None:
    """The CPUs a thread of ours is allowed on, as Linux lists them."""
    try:
        lines = Path(f"/proc/self/task/{lwp}/status").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:")), None)


def _cpu_of(lwp: int | None) -> int | None:
    """The CPU a thread of ours ran on last."""
    try:
        text = Path(f"/proc/self/task/{lwp}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[36])


@command("show node", help="show node NODE")
def show_node(engine: Any, args: Arguments) -> Output:
    """A node's manual page, where its packets go and come from, and its counters."""
    node = _node(engine, args)
    args.end()
    states = [_runtime_of(worker, node)["state"] for worker in engine.workers]
    state = "polling" if "polling" in states else states[0]
    nexts = [{"slot": slot, "index": i, "node": engine.graph.name_of(i)} for slot, i in enumerate(node.nexts)]
    previous = [{"index": other.index, "node": other.name} for other in engine.graph if node.index in other.nexts]
    counters = _counters(node)
    lines = [f"node {node.name}, type {node.node.kind.value}, state {state}, index {node.index}", ""]
    lines += ["  " + line if line else "" for line in node.node.manual.splitlines()]
    if nexts:
        lines += ["", "  next nodes:", "    next-index  node-index               Node"]
        for each in nexts:
            slot, index = render.centred(each["slot"], 10), render.centred(each["index"], 10)
            lines.append(f"    {slot}  {index}  {render.centred(each['node'], 30)}".rstrip())
    if previous:
        lines += ["", "  known previous nodes:"]
        lines += render.in_columns([f"{each['node']} ({each['index']})" for each in previous])
    if counters:
        lines += ["", "  counters:"]
        lines += [f"    {each['count']:>10}  {each['severity']:<5}  {each['reason']}" for each in counters]
    return Output(
        "\n".join(lines),
        {
            "name": node.name,
            "type": node.node.kind.value,
            "state": state,
            "index": node.index,
            "template": node.node.name if node.node.template else None,
            "manual": node.node.manual,
            "next": nexts,
            "previous": previous,
            "counters": counters,
        },
    )


def _counters(node: Any) -> list[dict[str, Any]]:
    names: tuple[NodeCounter, ...] = node.counter_names
    return [
        {"count": int(count), "reason": counter.text, "severity": counter.severity.value}
        for counter, count in zip(names, node.counts(), strict=False)
    ]


def _node(engine: Any, args: Arguments) -> Any:
    name = args.word("a node")
    node = engine.graph.find(name)
    if node is None:
        raise CommandError(f"unknown node `{name}' {expectation(name, [str(node.name) for node in engine.graph])}")
    return node


# ---- trace --------------------------------------------------------------------------------------------------------


@command("trace add", help="trace add NODE N")
def trace_add(engine: Any, args: Arguments) -> None:
    """Trace the next N packets that reach a node.

    The name that several nodes have in common, such as af-packet-input, stands for the nodes of all interfaces, each of
    which traces N packets. Every worker counts for itself.
    """
    name = args.peek()
    indices = [node.index for node in engine.graph if node.node.template and node.node.name == name]
    if indices:
        args.word()
    else:
        indices = [_node(engine, args).index]
    count = args.unsigned(min=1, what="a number of packets")
    args.end()
    with engine.barrier():
        for worker in engine.workers:
            for index in indices:
                worker.rows[index]["trace_limit"] += count
            worker.control[d.TRACE_ON] = 1


@command("show trace", help="show trace [max N]")
def show_trace_(engine: Any, args: Arguments) -> Output:
    """The traced packets, and what each node saw of them; 50 of each worker unless max says otherwise."""
    limit = PACKETS_SHOWN
    while args:
        args.expect("max")
        limit = args.unsigned(min=1, what="a number of packets")
    text, data = show_trace(engine, limit)
    if any(len(packets(engine, worker.index)) > limit for worker in engine.workers):
        text = f"Limiting display to {limit} packets. To display more specify max.\n{text}"
    return Output(text, data)


@command("clear trace", help="clear trace")
def clear_trace(engine: Any, args: Arguments) -> None:
    """Forget the traced packets and trace no more."""
    args.end()
    with engine.barrier():
        for worker in engine.workers:
            worker.control[d.TRACE_ON] = 0
            worker.control[d.TRACE_USED] = 0
            worker.control[d.TRACE_PACKETS] = 0
            worker.rows["trace_limit"] = 0


# ---- interfaces ---------------------------------------------------------------------------------------------------


@command(
    "create host-interface",
    help="create host-interface name IFNAME [num-rx-queues N] [rx-ring-size N] [tx-ring-size N] [qdisc-bypass] "
    "[hw-addr MAC]",
)
def create_host_interface(engine: Any, args: Arguments) -> Output:
    """Put an interface on a Linux network device, next to Linux: `host-` and the device's name.

    There is a receive queue for each worker unless num-rx-queues says otherwise. The sizes are packets a queue holds.
    With qdisc-bypass Linux queues nothing that is sent: what the device does not take at once is dropped.
    """
    name = mac = None
    chosen: dict[str, Any] = {"rx_queues": len(engine.workers)}
    while args:
        if args.accept("name"):
            name = linux_name(args)
        elif args.accept("num-rx-queues"):
            chosen["rx_queues"] = args.unsigned(min=1, max=MOST_QUEUES, what="a number of queues")
        elif args.accept("rx-ring-size"):
            chosen["rx_slots"] = _ring_size(args)
        elif args.accept("tx-ring-size"):
            chosen["tx_slots"] = _ring_size(args)
        elif args.accept("qdisc-bypass"):
            chosen["qdisc_bypass"] = True
        elif args.accept("hw-addr"):
            mac = unicast_mac(args)
        else:
            raise args.unknown("name", "num-rx-queues", "rx-ring-size", "tx-ring-size", "qdisc-bypass", "hw-addr")
    if name is None:
        raise CommandError("missing host interface name")
    return created(devices.add_host_interface(engine, name, mac=mac, options=Options(**chosen)))


def _ring_size(args: Arguments) -> int:
    """A power of two, as VPP wants it."""
    n = args.unsigned(min=LEAST_SLOTS, max=MOST_SLOTS, what="a number of packets")
    if n & (n - 1):
        raise CommandError(f"ring size {n} is no power of two")
    return n


@command("delete host-interface", help="delete host-interface name IFNAME")
def delete_host_interface(engine: Any, args: Arguments) -> None:
    """Take an interface off its Linux network device."""
    args.expect("name")
    name = args.word("the name of a Linux interface")
    args.end()
    interface = engine.interfaces.by_name(f"host-{name}")
    if interface is None or interface.kind != "af-packet":
        raise CommandError(f"no host-interface on `{name}'")
    delete(engine, interface)


@command(
    "create tap",
    help="create tap [id N] [tun] [host-ns NS] host-if-name NAME [host-ip4-addr ADDRESS/LENGTH] [host-mtu-size N] "
    "[num-rx-queues N] [hw-addr MAC]",
)
def create_tap(engine: Any, args: Arguments) -> Output:
    """Make a TAP, or with tun a TUN, whose other end is a Linux interface.

    A tun with host-ns and host-ip4-addr is a pod's: its end gets the address as a /32 and the default route, and the
    route to the pod is added here. The host's end is a namespace's name, a path to one, or the number of a process.
    There is a queue for each worker unless num-rx-queues says otherwise.
    """
    instance = namespace = name = address = mtu = mac = None
    tun = False
    queues = len(engine.workers)
    while args:
        if args.accept("id"):
            instance = args.unsigned(max=0xFFFF, what="an id")
        elif args.accept("tun"):
            tun = True
        elif args.accept("host-ns"):
            namespace = args.word("a network namespace")
        elif args.accept("host-if-name"):
            name = linux_name(args)
        elif args.accept("host-ip4-addr"):
            address = args.address4()
        elif args.accept("host-mtu-size"):
            mtu = args.unsigned(min=MTU_MIN, max=MTU_MAX, what="an MTU")
        elif args.accept("num-rx-queues"):
            queues = args.unsigned(min=1, max=MOST_QUEUES, what="a number of queues")
        elif args.accept("hw-addr"):
            mac = unicast_mac(args)
        else:
            raise args.unknown(*TAP_WORDS)
    if name is None:
        raise CommandError("host-if-name not specified")
    if not tun and mtu and mtu > TAP_MTU_MAX:
        raise CommandError(f"host-mtu-size {mtu} out of range (expected at most {TAP_MTU_MAX} for a tap)")
    if tun and mac:
        raise CommandError("a tun has no MAC address (expected no hw-addr with tun)")
    if tun and namespace and address:
        if address.network.prefixlen != 32:
            raise CommandError(f"a pod's address is one address, got `{address}' (expected {address.ip}/32)")
        pod_mtu = mtu or devices.DEFAULT_TUN_MTU
        pod = devices.add_pod(engine, namespace, name, address.ip, instance=instance, mtu=pod_mtu, queues=queues)
        return created(pod)
    interface = devices.add_tap(
        engine, name, instance=instance, namespace=namespace, mac=mac, mtu=mtu, tun=tun, queues=queues, address=address
    )
    return created(interface)


@command("delete tap", help="delete tap INTERFACE")
def delete_tap(engine: Any, args: Arguments) -> None:
    """Delete a TAP or TUN, and with it the Linux interface at its other end."""
    interface = args.interface(engine)
    args.end()
    if interface.kind not in ("tap", "tun"):
        raise CommandError(f"{interface.name} is no tap (it is {interface.kind})")
    delete(engine, interface)


@command(
    "create loopback interface",
    help="create loopback interface [mac MAC] [instance N]",
    aliases=("loopback create-interface", "loopback create"),
)
def create_loopback_interface(engine: Any, args: Arguments) -> Output:
    """Make an interface that leads to itself: a place for an address that is always up. It begins down."""
    mac = instance = None
    while args:
        if args.accept("mac"):
            mac = unicast_mac(args)
        elif args.accept("instance"):
            instance = args.unsigned(max=0xFFFF, what="an instance")
        else:
            raise args.unknown("mac", "instance")
    name = engine.interfaces.free_name("loop", instance)
    number = int(name.removeprefix("loop"))
    made = engine.interfaces.create(
        name, kind="loopback", mac=mac or b"\xde\xad" + number.to_bytes(4, "big"), mtu=LOOPBACK_MTU, admin_up=False,
        output="interface-output", tx="loopback-tx",
    )  # fmt: skip
    return created(made)


@command(
    "delete loopback interface",
    help="delete loopback interface intfc INTERFACE",
    aliases=("loopback delete-interface", "loopback delete"),
)
def delete_loopback_interface(engine: Any, args: Arguments) -> None:
    """Delete a loopback interface."""
    args.expect("intfc")
    interface = args.interface(engine)
    args.end()
    if interface.kind != "loopback":
        raise CommandError(f"{interface.name} is no loopback interface (it is {interface.kind})")
    delete(engine, interface)


@command("set interface l2 xconnect", help="set interface l2 xconnect INTERFACE INTERFACE")
def set_interface_l2_xconnect(engine: Any, args: Arguments) -> None:
    """Send every frame of the first interface out of the second. Connect the second to the first for the way back."""
    interface = args.interface(engine)
    peer = args.interface(engine)
    args.end()
    if interface is peer:
        raise CommandError(f"{interface.name} cannot be connected to itself")
    for each in (interface, peer):
        # what leaves by a loopback comes back by it: two of them, connected, would never let go of a frame
        # and of a sub-interface the tag would have to be taken off
        if each.p2p or each.kind in ("local", "loopback", "sub-interface") or each.flags & (UPLINK | HOST):
            raise CommandError(
                f"{each.name} cannot be cross-connected (expected an Ethernet interface, no loopback, no sub-interface "
                "and no uplink)"
            )
    with engine.barrier():
        engine.interfaces.set_peer(interface, peer)
        engine.interfaces.set_flags(interface, L2, True)


@command("set interface l3", help="set interface l3 INTERFACE")
def set_interface_l3(engine: Any, args: Arguments) -> None:
    """End a cross-connect: the interface's frames go to IP again."""
    interface = args.interface(engine)
    args.end()
    if not interface.flags & L2:
        return  # an uplink has a peer too, which it keeps
    with engine.barrier():
        engine.interfaces.set_flags(interface, L2, False)
        engine.interfaces.set_peer(interface, None)


def created(interface: Any) -> Output:
    return Output(interface.name, {"name": interface.name, "sw_if_index": interface.sw_if_index})


def delete(engine: Any, interface: Any) -> None:
    if interface.flags & (UPLINK | HOST):
        raise CommandError(f"{interface.name} belongs to an uplink, which stays as long as pyvpp runs")
    engine.interfaces.delete(interface)


def linux_name(args: Arguments) -> str:
    name = args.word("the name of a Linux interface")
    if len(os.fsencode(name)) > LONGEST_LINUX_NAME or "/" in name or name in (".", ".."):
        raise CommandError(f"invalid interface name `{name}' (expected 1 to {LONGEST_LINUX_NAME} bytes without /)")
    return name


def unicast_mac(args: Arguments) -> bytes:
    word = args.peek() or ""
    mac = args.mac()
    if mac[0] & 1 or not any(mac):
        raise CommandError(f"`{word}' is no unicast address (expected a MAC address whose first byte is even)")
    return mac
