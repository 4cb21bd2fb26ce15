# SPDX-License-Identifier: Apache-2.0
"""Commands about the engine: what its nodes did, its buffers and its threads."""

import os
import time
from pathlib import Path
from typing import Any

from pyvpp import dispatch as d
from pyvpp.buffers import LARGE_BUFFERS, LARGE_ROOM, LARGE_SLOT, POOL_LARGE, POOL_SMALL, SMALL_ROOM, SMALL_SLOT
from pyvpp.cli import render
from pyvpp.cli.arguments import Arguments, CommandError, expectation
from pyvpp.cli.registry import Output, command
from pyvpp.node import Kind, NodeCounter

STATES = {Kind.INTERNAL: "active", Kind.INPUT: "interrupt wait", Kind.SLOW: "event wait", Kind.PYTHON: "event wait"}
RUNTIME_COLUMNS = ("calls", "vectors", "clocks", "max_clocks")
THREAD_COUNTS = {
    "loops": d.LOOPS, "epolls": d.EPOLLS, "sleeps": d.SLEEPS, "fd_wakeups": d.FD_WAKEUPS, "wakeups": d.WAKEUPS
}  # fmt: skip


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
        nodes = [_runtime_of(engine, worker, node) for node in sorted(engine.graph, key=lambda node: str(node.name))]
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


def _runtime_of(engine: Any, worker: Any, node: Any) -> dict[str, Any]:
    row = worker.rows[node.index]
    figures = {column: int(row[column]) for column in RUNTIME_COLUMNS}
    kind = node.node.kind
    waits = engine.processes.state(node.name) if kind is Kind.PROCESS else STATES[kind]
    state = "polling" if int(row["polled"]) else waits
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
    node = named_node(engine, args)
    args.end()
    states = [_runtime_of(engine, worker, node)["state"] for worker in engine.workers]
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


def named_node(engine: Any, args: Arguments) -> Any:
    name = args.word("a node")
    node = engine.graph.find(name)
    if node is None:
        raise CommandError(f"unknown node `{name}' {expectation(name, [str(node.name) for node in engine.graph])}")
    return node
