# SPDX-License-Identifier: Apache-2.0
"""The options of `pyvpp` in the foreground: what there is, and what may be said."""

import argparse
import os
from typing import NoReturn

from pyvpp import __version__
from pyvpp.device.nic_options import NicOptions
from pyvpp.errors import OperatorError

SUBCOMMANDS = ("demo", "lab", "bench", "plugin", "warmup", "restore", "doctor", "upgrade")
DRIVERS = ("auto", "af-packet", "af-xdp")
GRO = ("on", "nic", "graph", "off")
HANDOVER = "PYVPP_HANDOVER"  # in the environment of a process that takes another's place
DEFAULT_RUNTIME_DIR = "/run/pyvpp"
DEFAULT_HOOKS = "/etc/pyvpp/hooks.d"
MOST_WORKERS = 64
MOST_CPUS = 1 << 16
LEAST_CONFIRM, MOST_CONFIRM = 1, 7 * 86400  # seconds
LEAST_BUFFERS, MOST_BUFFERS = 1024, 1 << 21  # the heap's address range has room for twice as many


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
    p.add_argument("--config", metavar="FILE", help="options and plugins' keys, in TOML")
    p.add_argument(
        "--metrics", metavar="[ADDRESS:]PORT", help="serve figures to Prometheus at /metrics; on 127.0.0.1 unless said"
    )
    p.add_argument("--exec", dest="script", metavar="FILE", help="commands to run at start")
    p.add_argument(
        "--keep", action="store_true",
        help="when told to stop, leave pods' devices and the configuration to the next start, as after a crash",
    )  # fmt: skip
    p.add_argument(
        "--confirm", type=float, metavar="SECONDS",
        help="give Linux its NIC back after so long, and end, unless somebody says `pyvppctl confirm'",
    )  # fmt: skip
    p.add_argument("--runtime-dir", default=DEFAULT_RUNTIME_DIR, metavar="DIR", help="sockets and the journal")
    p.add_argument(
        "--hooks", default=DEFAULT_HOOKS, metavar="DIR",
        help="programs to run before and after an uplink is taken over and given back",
    )  # fmt: skip
    p.add_argument("--group", metavar="NAME", help="who may use the sockets in it, besides root")
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


def check(options: argparse.Namespace) -> None:
    """Completes what `parser` understood: `workers`, `cpus`, `nic`. Raises OperatorError, naming the option."""
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
    if options.confirm is not None and not LEAST_CONFIRM <= options.confirm <= MOST_CONFIRM:
        raise OperatorError(f"--confirm {options.confirm:g}: from {LEAST_CONFIRM} to {MOST_CONFIRM} seconds")
    if options.confirm is not None and not options.uplink:
        raise OperatorError("--confirm: there is nothing to give back (expected --uplink)")
    if len(set(options.uplink)) != len(options.uplink):
        raise OperatorError("--uplink: the same interface is named twice")
    if options.uplink and os.geteuid() != 0:
        raise OperatorError("taking an uplink over needs root")


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
