# SPDX-License-Identifier: Apache-2.0
"""`pyvpp`: takes uplinks over and runs until told to stop; and its subcommands."""

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pyvpp import __version__
from pyvpp.cli.logbuffer import log_buffer
from pyvpp.device.nic_options import NicOptions
from pyvpp.errors import OperatorError, in_one_line
from pyvpp.plugin.find import give_path, given_paths
from pyvpp.service import is_managed, notify

if TYPE_CHECKING:
    from pyvpp.cli.parser import CommandTree
    from pyvpp.engine import Engine
    from pyvpp.upgrade import Heir

log = logging.getLogger("pyvpp")

SUBCOMMANDS = ("demo", "bench", "plugin", "warmup", "restore", "doctor", "upgrade")
DRIVERS = ("auto", "af-packet", "af-xdp")
GRO = ("on", "nic", "graph", "off")
HANDOVER = "PYVPP_HANDOVER"  # in the environment of a process that takes another's place
DEFAULT_RUNTIME_DIR = "/run/pyvpp"
MOST_WORKERS = 64
MOST_CPUS = 1 << 16
LEAST_BUFFERS, MOST_BUFFERS = 1024, 1 << 21  # the heap's address range has room for twice as many


class HandedOver(Exception):
    """Another process goes on; nothing is left to do in this one. It must not be forgotten: that would bury it."""

    def __init__(self, successor: Any) -> None:
        super().__init__(successor)
        self.successor = successor


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The options of the foreground process."""
    p = Parser(
        prog="pyvpp",
        description="A userspace vector packet processor. Subcommands: " + ", ".join(SUBCOMMANDS) + ".",
    )
    p.add_argument(
        "--uplink",
        action="append",
        default=[],
        metavar="IF",
        help="Linux interface to take over: its name, MAC address or PCI address",
    )
    driver = "how the NIC is driven; auto is af-packet unless the NIC offers zero-copy AF_XDP"
    p.add_argument("--driver", choices=DRIVERS, default="auto", help=driver)
    p.add_argument(
        "--num-rx-queues",
        type=int,
        metavar="N",
        help="receive queues of the NIC: one for each worker, or with af-xdp all it has, unless said otherwise",
    )
    p.add_argument("--rx-ring-size", type=int, metavar="N", help="packets each receive queue of the NIC holds")
    p.add_argument("--tx-ring-size", type=int, metavar="N", help="packets each transmit queue of the NIC holds")
    p.add_argument(
        "--qdisc-bypass", action="store_true",
        help="Linux queues nothing that is sent: what the NIC does not take at once is dropped (af-packet)",
    )  # fmt: skip
    p.add_argument(
        "--gro", choices=GRO, default="on", metavar="on|nic|graph|off",
        help="who coalesces TCP on its way to Linux: the NIC's driver and the node gro (on), one of them, or nobody",
    )  # fmt: skip
    p.add_argument("--workers", type=int, metavar="N", help="worker threads, one unless said otherwise")
    p.add_argument("--corelist-workers", metavar="LIST", help="CPUs the workers run on, one each: 2,4-5")
    p.add_argument(
        "--plugin", action="append", default=[], metavar="PATH",
        help="a plugin that is not installed: its file, or the folder of its package or project",
    )  # fmt: skip
    p.add_argument("--dry-run", action="store_true", help="say what would be done to Linux, and do nothing")
    p.add_argument("--watch", action="store_true", help="reload plugins given by --plugin when their sources change")
    p.add_argument(
        "--check", action="append", default=[], metavar="NAME", help="a plugin whose kernels run with bounds checks"
    )
    p.add_argument("--exec", dest="script", metavar="FILE", help="commands to run at start")
    p.add_argument(
        "--keep", action="store_true",
        help="when told to stop, leave pods' devices and the configuration to the next start, as after a crash",
    )  # fmt: skip
    p.add_argument("--runtime-dir", default=DEFAULT_RUNTIME_DIR, metavar="DIR", help="sockets and the journal")
    p.add_argument("--hugepages", default="auto", metavar="auto|off|N", help="memory of the packets")
    p.add_argument("--buffers", type=int, default=16384, metavar="N", help="small buffers in all")
    p.add_argument(
        "--watchdog",
        type=int,
        default=10,
        metavar="SECONDS",
        help="give Linux its NIC back and end when a worker stands still for so long; 0: never",
    )
    p.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    p.add_argument("--version", action="version", version=f"pyvpp {__version__}")
    return p


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status; an operator's mistake is one line on standard error."""
    argv = sys.argv[1:] if argv is None else argv
    heir = None
    try:
        if argv and argv[0] in SUBCOMMANDS:
            return subcommand(argv[0], argv[1:])
        if HANDOVER in os.environ:
            from pyvpp.upgrade import Heir

            heir = Heir.by_environment()
        return run(parser().parse_args(argv), heir)
    except OperatorError as error:
        if heir is not None and not heir.goes_on:
            heir.give_up(str(error))
        print(f"pyvpp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def subcommand(name: str, argv: list[str]) -> int:
    if name == "warmup":
        Parser(prog="pyvpp warmup", description="Compile everything now.").parse_args(argv)
        warm_up()
        return 0
    if name == "restore":
        p = Parser(prog="pyvpp restore", description="Give Linux its NIC back from the journal.")
        p.add_argument("--runtime-dir", default=DEFAULT_RUNTIME_DIR)
        options = p.parse_args(argv)
        from pyvpp.linux.restore import restore

        problems = restore(options.runtime_dir)
        for problem in problems:
            print(f"pyvpp restore: {problem}", file=sys.stderr)
        return 1 if problems else 0
    return int(importlib.import_module(f"pyvpp.{name}").main(argv))


def warm_up(declarations: Any = None) -> None:
    """Compiles what is not in the cache, in parallel, with a progress bar on a terminal."""
    from pyvpp.compile import compile_in_parallel
    from pyvpp.loader import load

    declarations = declarations or load()
    nodes, native = list(declarations.nodes.values()), list(declarations.native)
    if not sys.stderr.isatty():
        told: list[int] = []

        def once(done: int, total: int, name: str) -> None:
            if not told:
                told.append(1)
                print(f"pyvpp: compiling {total} nodes, once per version and CPU", file=sys.stderr, flush=True)

        compile_in_parallel(nodes, once, native=native)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=None)
        compile_in_parallel(
            nodes,
            lambda done, total, name: bar.update(task, completed=done, total=total, description=f"compiling {name}"),
            native=native,
        )


def cpu_list(text: str) -> list[int]:
    """CPUs as VPP's corelist-workers names them: numbers and ranges with commas between, each CPU once."""
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first) < MOST_CPUS):
            raise OperatorError(f"--corelist-workers {text}: `{part}' is no CPU and no range of them (expected 2,4-5)")
        cpus += range(int(first), int(last or first) + 1)
    missing = [cpu for cpu in cpus if cpu not in os.sched_getaffinity(0)]
    if missing:
        allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise OperatorError(f"--corelist-workers {text}: CPU {missing[0]} is not ours to use (expected of {allowed})")
    if len(set(cpus)) != len(cpus):
        raise OperatorError(f"--corelist-workers {text}: a CPU is named twice")
    return cpus


def nic_options(options: argparse.Namespace) -> NicOptions:
    """What is said of the NICs' queues. Raises OperatorError."""
    said = NicOptions(options.num_rx_queues, options.rx_ring_size, options.tx_ring_size, options.qdisc_bypass)
    said.check()
    return said


def run(options: argparse.Namespace, heir: "Heir | None" = None) -> int:
    """The main job, in the order that keeps the gap short: guardian, compile, look, take over, serve, restore.

    An heir finds all that done, and goes on with it.
    """
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger().addHandler(log_buffer)  # what `show logging` shows
    cpus = cpu_list(options.corelist_workers) if options.corelist_workers is not None else None
    if options.workers is None:
        options.workers = len(cpus) if cpus else 1
    if cpus and len(cpus) != options.workers:
        raise OperatorError(
            f"--corelist-workers {options.corelist_workers}: {len(cpus)} CPUs for {options.workers} workers"
        )
    options.cpus = cpus
    if not 1 <= options.workers <= MOST_WORKERS:
        raise OperatorError(f"--workers {options.workers}: from 1 to {MOST_WORKERS}")
    if options.hugepages not in ("auto", "off") and not options.hugepages.isdecimal():
        raise OperatorError(f"--hugepages {options.hugepages}: auto, off or a number")
    if not LEAST_BUFFERS <= options.buffers <= MOST_BUFFERS:
        raise OperatorError(f"--buffers {options.buffers}: from {LEAST_BUFFERS} to {MOST_BUFFERS}")
    options.nic = nic_options(options)
    if options.watchdog < 0:
        raise OperatorError(f"--watchdog {options.watchdog}: seconds, or 0 for none")
    if len(set(options.uplink)) != len(options.uplink):
        raise OperatorError("--uplink: the same interface is named twice")
    if options.uplink and os.geteuid() != 0:
        raise OperatorError("taking an uplink over needs root")
    for path in options.plugin:
        give_path(path)
    if options.watch and not given_paths():
        raise OperatorError("--watch: there is no plugin to watch (expected --plugin PATH)")
    script = None
    if options.script:
        from pyvpp.cli.builtin import read_script

        script = read_script(options.script)
    if options.dry_run:
        from pyvpp.dry_run import told

        print(told(options), end="")
        return 0
    try:
        return run_first(options, script) if heir is None else run_on(options, heir)
    except HandedOver as handed:
        successor = handed.successor
    from pyvpp.linux.keeper import REPLACED, become_keeper, is_kept

    if is_kept():
        return REPLACED
    if not is_managed():
        become_keeper(options.runtime_dir, successor.pid)
    return 0


def run_first(options: argparse.Namespace, script: str | None) -> int:
    """Begins with nothing taken over, and ends so."""
    from pyvpp.cli.server import SOCKET_NAME, make_room
    from pyvpp.linux.capture import inspect_uplink
    from pyvpp.linux.guardian import start_guardian
    from pyvpp.linux.journal import lock_runtime_dir
    from pyvpp.linux.names import interface_names_of
    from pyvpp.linux.restore import restore

    with lock_runtime_dir(options.runtime_dir):
        for problem in restore(options.runtime_dir):
            log.warning("after an earlier crash: %s", problem)
        make_room(Path(options.runtime_dir) / SOCKET_NAME)  # what stands in the way is told before anything moves
        options.uplink = interface_names_of(options.uplink)  # those restored just now have their names again
        for name in options.uplink:
            inspect_uplink(name)
        guardian = start_guardian(options.runtime_dir) if options.uplink else None
        try:
            return asyncio.run(serve(options, script))
        finally:
            if guardian:
                guardian.done()


def run_on(options: argparse.Namespace, heir: "Heir") -> int:
    """Begins with what another process had, and ends with nothing taken over."""
    try:
        return asyncio.run(serve(options, None, heir))
    finally:
        if heir.guardian:
            heir.guardian.done()


def _log_task(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task of the control plane that failed: packets flow on."""
    error = context.get("exception")
    log.error("%s%s", context["message"], f": {in_one_line(error)}" if error else "")


def tell_gaps(uplink: Any, given_back_ms: float | None) -> None:
    """How long an uplink's packets had nobody, as far as it came: None when the NIC was not given back."""
    told = []
    if uplink.taken_over_ms:
        told.append(f"{uplink.taken_over_ms:.1f} ms when it was taken over")
    if given_back_ms is not None:
        told.append(f"{given_back_ms:.1f} ms when it was given back")
    if told:
        print(f"pyvpp: {uplink.tap_name}: nobody handled its packets for {', '.join(told)}", flush=True)


def make_engine(options: argparse.Namespace, declarations: Any) -> "Engine":
    from pyvpp.engine import Engine

    withheld = frozenset[str]() if options.gro in ("on", "graph") else frozenset({"gro"})
    try:
        return Engine(
            declarations, workers=options.workers, cpus=options.cpus, buffers=options.buffers,
            hugepages=options.hugepages, withheld=withheld,
        )  # fmt: skip
    except (OSError, MemoryError) as error:
        raise OperatorError(f"--buffers {options.buffers}: no memory for so many: {error}") from error


async def take_uplinks(engine: "Engine", options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Takes the uplinks over, one after the other, unless told to stop."""
    from pyvpp.device.uplink import add_uplink, choose_driver, settle_uplink, take_over_by
    from pyvpp.linux.capture import inspect_uplink

    for name in options.uplink:
        if stop.is_set():
            break
        state = await asyncio.to_thread(inspect_uplink, name)
        choice = await asyncio.to_thread(choose_driver, name, options.driver, engine.buffers.heap.pages, options.nic)
        taking = take_over_by(choice, state, options.runtime_dir, options.workers, options.gro, engine)
        uplink = await asyncio.to_thread(taking.run, settled=False)
        engine.uplinks.append(uplink)
        nic, _ = add_uplink(engine, uplink, choice)
        uplink.taken_over_ms = 1000 * (time.monotonic() - uplink.left_at)
        if options.driver == "auto":
            print(f"pyvpp: {name} is driven by {nic.kind}: {nic.driver_reason}", flush=True)
        for warning in (*uplink.warnings, *await asyncio.to_thread(settle_uplink, uplink, nic)):
            log.warning("%s: %s", name, warning)


async def configure(engine: "Engine", tree: "CommandTree", options: argparse.Namespace, script: str | None) -> None:
    """Runs the commands of `--exec`, and those that a pyvpp was given before it was killed, on the devices it left."""
    from pyvpp.inheritance import Inheritance
    from pyvpp.state_file import read_state, take_up

    left = read_state(options.runtime_dir)
    if left is not None:
        engine.inheritance = Inheritance(left=left.devices)
    if script is not None:
        with engine.configuration.from_script():
            output = await tree.execute_script(engine, script, options.script)
        if output:
            print(output if isinstance(output, str) else getattr(output, "text", output), flush=True)
    if left is not None:
        for lost in await take_up(engine, tree, left):
            log.warning("not as it was before: %s", lost)


async def give_back(engine: "Engine", runtime_dir: str, hung: bool) -> list[str]:
    """Gives Linux its NICs back; what could not be restored. The graph forwards until the TAP is gone."""
    from pyvpp.device.uplink import let_go
    from pyvpp.linux.restore import restore

    notify("STOPPING=1")
    let_go(engine)
    gaps: dict[str, float] = {}
    problems = await asyncio.to_thread(partial(restore, runtime_dir, gaps=gaps)) if engine.uplinks else []
    if not hung:  # a thread that hangs cannot be waited for; it ends with the process
        engine.stop()
    for problem in problems:
        print(f"pyvpp: restore: {problem}", file=sys.stderr)
    for uplink in engine.uplinks:
        tell_gaps(uplink, gaps.get(uplink.tap_name))
    return problems


async def serve(options: argparse.Namespace, script: str | None, heir: "Heir | None" = None) -> int:
    """From the first look at the nodes to the last packet: the exit status. Raises HandedOver."""
    from pyvpp.cli.assembly import command_tree
    from pyvpp.cli.server import CliServer
    from pyvpp.device.interfaces import follow_devices
    from pyvpp.linux.keeper import die_with_keeper
    from pyvpp.loader import load
    from pyvpp.plugin.reload import Reloader
    from pyvpp.state_file import StateFile
    from pyvpp.upgrade import Upgrades
    from pyvpp.watchdog import Watchdog

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_task)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    declarations = load()
    await asyncio.to_thread(warm_up, declarations)
    engine = make_engine(options, declarations)
    tree = command_tree(declarations.packages, engine.blame)
    engine.reloader = Reloader(engine, tree, lambda text: print(f"pyvpp: {text}", flush=True))
    server = CliServer(engine, tree, options.runtime_dir)
    state_file = StateFile(engine, options.runtime_dir)
    engine.upgrade = upgrades = Upgrades(engine, options.runtime_dir, stop.set)
    engine.every_second(lambda: follow_devices(engine))
    watchdog = Watchdog(engine, options.watchdog)
    hung: list[str] = []

    def look() -> None:
        notify("WATCHDOG=1")
        if options.watchdog and not hung and (found := watchdog.look()):
            log.error("%s; Linux gets its NIC back", found)
            hung.append(found)
            stop.set()

    engine.every_second(look)
    status, served = 1, False
    problems: list[str] = []
    try:
        engine.start()
        for name in options.check:
            print(f"pyvpp: {await engine.reloader.reload(name, checked=True)}", flush=True)
        if heir is not None:
            told = await heir.take_on(engine, tree, server, options.runtime_dir)
            print(f"pyvpp: {told}", flush=True)
        else:
            await take_uplinks(engine, options, stop)
            await configure(engine, tree, options, script)
        for name in engine.reloader.given() if options.watch else ():
            engine.reloader.watcher.watch(name)
        state_file.save()
        server.changed = state_file.save_soon
        await server.start()
        served = True
        loop.add_signal_handler(signal.SIGHUP, upgrades.on_signal)
        print("pyvpp: ready", flush=True)
        notify("READY=1")
        if heir is not None:
            die_with_keeper(loop)
        main = asyncio.create_task(engine.serve())
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({main, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if main.done() and not stop.is_set():
            log.error("the main loop ended: %s", main.exception())
        else:
            status = 1 if hung else 0
        main.cancel()
        waiting.cancel()
    finally:
        await upgrades.cancel()
        if upgrades.successor is None and (heir is None or heir.goes_on):
            problems = await give_back(engine, options.runtime_dir, bool(hung))
            await server.stop()
            if status == 0 and not options.keep:
                state_file.forget()
            else:
                if served:
                    state_file.save()
                state_file.leave()
            if not hung:
                engine.close()
            for uplink in engine.uplinks:
                uplink.close()
    if upgrades.successor is not None:
        state_file.leave()
        await server.stop(replaced=True)
        engine.stop()
        raise HandedOver(upgrades.successor)
    return 1 if problems else status


if __name__ == "__main__":
    sys.exit(main())
