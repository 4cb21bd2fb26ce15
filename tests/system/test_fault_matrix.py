# SPDX-License-Identifier: Apache-2.0
"""The fault matrix: what goes wrong while pyvpp has the uplinks, what it costs, and what Linux has afterwards.

Each row is a test; all are printed as a table at the end of the run. Times are measured, not judged. Kills at random
moments of taking over and giving back are in test_rounds.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvpp.cli.client import NoServerError
from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.journal import Entry, Journal
from pyvpp.linux.restore import GiveBack
from tests.system.conftest import Pair, differences, run
from tests.system.process import eventually
from tests.system.stand import ADDRESSES, HEAD, TITLE, Stand, configure, is_reached, measured, standing, view
from tests.system.summary import tabulate
from tests.system.test_faults import frozen
from tests.system.warm import Server, served

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.usefixtures("compiled")]

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
AS_BEFORE = "as before"
Fault = Callable[[Stand], str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served() as server:
        yield server


def as_before(stand: Stand) -> str:
    assert stand.changes() == []
    assert not list(stand.runtime_dir.glob("netns-*"))
    return AS_BEFORE


def killed(stand: Stand) -> str:
    """By the kernel or an operator: the guardian restores."""
    stand.kill(stand.process.pid)
    stand.until_restored()
    return as_before(stand)


def terminated(stand: Stand) -> str:
    stand.terminate()
    return as_before(stand)


def guardian_killed(stand: Stand) -> str:
    """Nobody notices, and the end is an orderly one."""
    stand.kill(stand.guardian)
    stand.until_reached()
    stand.terminate()
    return as_before(stand)


def both_killed_then_restore(stand: Stand) -> str:
    stand.kill(stand.process.pid, stand.guardian)
    stand.process.wait()
    assert stand.restore() == (0, "")
    return as_before(stand)


def both_killed_then_started(stand: Stand) -> str:
    stand.kill(stand.process.pid, stand.guardian)
    stand.process.wait()
    stand.start_again()
    stand.terminate()
    return as_before(stand)


def journal_truncated(stand: Stand) -> str:
    """A power cut, or a disk that lies: what the journal said is lost, the NIC is not."""
    stand.kill(stand.process.pid, stand.guardian)
    stand.process.wait()
    os.truncate(stand.runtime_dir / "journal.json", 100)
    status, said = stand.restore()
    assert status == 1
    assert "journal.json: cannot be read" in said
    assert "eth0: is back, without addresses and routes" in said
    assert (stand.runtime_dir / "journal.bad").exists()
    assert stand.restore() == (0, "")
    for line in ("addr add 10.77.0.1/24 dev eth0", "addr add 2001:db8:77::1/64 dev eth0 nodad"):
        stand.ip(line)
    return "the NIC, to be configured"


def tap_changed_then_killed(stand: Stand) -> str:
    """Followed live: what was changed on the TAP is in the journal when pyvpp dies."""
    for line in (
        "addr add 10.90.0.1/24 dev eth0",
        "addr del 10.77.0.9/24 dev eth0",
        "route add 10.91.0.0/16 via 10.90.0.2",
        "route del 198.51.100.0/24 via 10.77.0.2 table 100",
        "addr add 2001:db8:90::1/64 dev eth0 nodad",
        "-6 route add 2001:db8:91::/48 via 2001:db8:90::2",
        "-6 route del default via 2001:db8:77::2 metric 300",
    ):
        stand.ip(line)
    wanted = stand.pair.host.snapshot()
    words = ("10.90.0.1", "2001:db8:90::1")
    eventually(lambda: noted(stand).isdisjoint({"10.77.0.9", "::/0"}), "the journal follows")
    eventually(lambda: noted(stand) >= {*words, "10.91.0.0/16", "2001:db8:91::/48"}, "the journal follows")
    eventually(lambda: "10.91.0.0/16" in stand.ctl("show ip fib"), "the FIB follows")
    assert "10.90.0.0/24" in stand.ctl("show ip fib")
    stand.kill(stand.process.pid)
    stand.until_restored()
    same = {kind: wanted[kind] for kind in ("route", "route6")}
    assert differences(same, stand.pair.host.snapshot()) == []
    shown = stand.pair.host.ip("addr", "show", "eth0")
    assert all(word in shown for word in words) and "10.77.0.9" not in shown
    return "what the TAP had"


def noted(stand: Stand) -> set[str]:
    """Addresses and destinations in the journal."""
    record = Journal(stand.runtime_dir).look()
    assert record is not None
    state = record.entries[0].uplink
    return {*(each.address for each in state.addresses), *(route.destination for route in state.routes)}


def tap_readdressed(stand: Stand) -> str:
    stand.ip("addr flush dev eth0 scope global")
    for line in ("addr add 10.77.0.1/25 dev eth0", "addr add 2001:db8:77::1/80 dev eth0 nodad"):
        stand.ip(line)
    stand.now()
    stand.terminate()
    shown = stand.pair.host.ip("addr", "show", "eth0")
    assert "10.77.0.1/25" in shown and "2001:db8:77::1/80" in shown and "10.77.0.9" not in shown
    return "what the TAP had"


def tap_renamed(stand: Stand) -> str:
    stand.ip("link set eth0 name lan7")
    stand.until_reached()
    stand.terminate()
    return as_before(stand)


def tap_renamed_then_killed(stand: Stand) -> str:
    stand.ip("link set eth0 name lan7")
    return killed(stand)


def tap_given_another_mac(stand: Stand) -> str:
    """As udev does (MACAddressPolicy=persistent)."""
    mac = stand.pair.host.ip("-br", "link", "show", "eth0").split()[2]
    stand.ip("link set eth0 address 02:00:00:00:00:99")
    eventually(lambda: mac in stand.pair.host.ip("link", "show", "eth0"), "it has its own again")
    stand.until_reached()
    stand.terminate()
    return as_before(stand)


def tap_given_another_mtu(stand: Stand) -> str:
    """The NIC follows."""
    stand.pair.peer.ip("link", "set", "eth0", "mtu", "4000")
    stand.ip("link set eth0 mtu 4000")
    eventually(lambda: passes(stand, 3500), "large packets pass")
    stand.terminate()
    assert " mtu 4000 " in stand.pair.host.ip("link", "show", "eth0")
    stand.ip("link set eth0 mtu 1500")
    return "what the TAP had"


def passes(stand: Stand, size: int) -> bool:
    """Whether a datagram of this size comes from the host to its peer in one piece."""
    there = ADDRESSES[4][1]
    with (
        stand.pair.peer.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as to,
        stand.pair.host.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as by,
    ):
        to.bind((there, 0))
        to.settimeout(0.2)
        by.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        by.sendto(bytes(size), to.getsockname())
        try:
            return len(to.recv(size)) == size
        except TimeoutError:
            return False


def tap_deleted(stand: Stand) -> str:
    """Nothing to stand behind: Linux has its NIC at once."""
    stand.ip("link del eth0")
    assert stand.process.wait() == 1
    assert "eth0: somebody removed its TAP; Linux gets its NIC back" in stand.process.said
    return as_before(stand)


def nic_unplugged_and_back(stand: Stand) -> str:
    """It comes under another name, since the TAP has its own. The time counts from there."""
    pair = stand.pair
    macs = [each.ip("-br", "link", "show", "eth0").split()[2] for each in (pair.host, pair.peer)]
    pair.peer.ip("link", "del", "eth0")
    eventually(lambda: "eth0: its NIC is gone" in stand.process.said, "it is noticed")
    assert "inet 10.77.0.1" in pair.host.ip("addr", "show", "eth0")
    for line in (
        f"link add usb0 address {macs[0]} type veth peer name eth0 address {macs[1]} netns {pair.peer.name}",
        "link set usb0 up",
    ):
        stand.ip(line)
    for line in ("link set eth0 up", "addr add 10.77.0.2/24 dev eth0", "addr add 2001:db8:77::2/64 dev eth0 nodad"):
        pair.peer.ip(*line.split())
    assert stand.process.wait() == 1
    assert "eth0: its NIC was unplugged and is back; Linux gets its NIC back" in stand.process.said
    stand.until_reached()
    return as_before(stand)


def carrier_flaps(stand: Stand) -> str:
    peer = stand.pair.peer
    keep = "/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down"
    peer.run("sh", "-c", f"echo 1 > {keep}")
    for _ in range(3):
        peer.ip("link", "set", "eth0", "down")
        eventually(lambda: "NO-CARRIER" in nic_link(stand), "no carrier")
        peer.ip("link", "set", "eth0", "up")
    stand.now()
    stand.until_reached()
    stand.terminate()
    return as_before(stand)


def nic_link(stand: Stand) -> str:
    return run("nsenter", f"--net={stand.runtime_dir}/netns-eth0", "ip", "link", "show", "eth0").stdout


ROWS = [
    ("SIGTERM", 1, terminated),
    ("SIGTERM", 2, terminated),
    ("SIGKILL of the dataplane", 1, killed),
    ("SIGKILL of the dataplane", 2, killed),
    ("SIGKILL of the guardian", 1, guardian_killed),
    ("SIGKILL of both, then pyvpp restore", 1, both_killed_then_restore),
    ("SIGKILL of both, then pyvpp restore", 2, both_killed_then_restore),
    ("SIGKILL of both, then the next start", 1, both_killed_then_started),
    ("SIGKILL of both, the journal truncated", 1, journal_truncated),
    ("addresses and routes on the TAP, then SIGKILL", 1, tap_changed_then_killed),
    ("TAP re-addressed", 1, tap_readdressed),
    ("TAP renamed", 1, tap_renamed),
    ("TAP renamed, then SIGKILL", 1, tap_renamed_then_killed),
    ("TAP given another MAC address", 1, tap_given_another_mac),
    ("TAP given another MTU", 1, tap_given_another_mtu),
    ("TAP deleted", 1, tap_deleted),
    ("NIC unplugged and back", 1, nic_unplugged_and_back),
    ("carrier flaps, from the last", 1, carrier_flaps),
]


@pytest.mark.parametrize(("name", "uplinks", "fault"), [pytest.param(*row, id=f"{row[0]}, {row[1]}") for row in ROWS])
def test_a_fault(sandbox: Pair, server: Server, name: str, uplinks: int, fault: Fault) -> None:
    with standing(sandbox, server, uplinks) as stand, measured(stand, name) as outcome:
        outcome.append(fault(stand))


def test_a_worker_hangs(sandbox: Pair, server: Server) -> None:
    with (
        standing(sandbox, server, 1, "--watchdog", "2") as stand,
        measured(stand, "worker hangs, --watchdog 2") as outcome,
    ):
        holder = frozen(stand.process.pid, "vpp_wk_0")
        try:
            assert stand.process.wait() == 1
            assert "for 2 s; Linux gets its NIC back" in stand.process.said
        finally:
            holder.join()
        outcome.append(as_before(stand))


FAILS = """
def fail():
    raise RuntimeError("on purpose")
def start(engine):
    engine.every_second(fail)
"""


def test_an_exception_in_a_control_task(sandbox: Pair, server: Server, tmp_path: Path) -> None:
    plugin = tmp_path / "fails.py"
    plugin.write_text(FAILS)
    with (
        standing(sandbox, server, 1, "--plugin", str(plugin)) as stand,
        measured(stand, "exception in a control task") as outcome,
    ):
        eventually(lambda: "on purpose" in stand.process.said, "it is told")
        assert "local0" in stand.ctl("show interface")
        stand.until_reached()
        outcome.append("pyvpp goes on")
    stand.terminate()


GREEDY = """
from pyvpp.cli.registry import command
@command("devour", help="devour")
def devour(engine, args):
    engine.eaten = bytearray(b"x") * (1 << 30)
"""


def test_out_of_memory(sandbox: Pair, server: Server, tmp_path: Path) -> None:
    """A control group's limit: the kernel kills the dataplane, and not the guardian."""
    plugin = tmp_path / "greedy.py"
    plugin.write_text(GREEDY)
    with (
        memory_group() as (group, limit),
        standing(sandbox, server, 1, "--plugin", str(plugin)) as stand,
        measured(stand, "out of memory") as outcome,
    ):
        limit(256 << 20)
        (group / "cgroup.procs").write_text(str(stand.process.pid))
        stand.now()
        with pytest.raises(NoServerError):
            stand.ctl("devour")
        assert stand.process.wait() == -signal.SIGKILL
        stand.until_restored()
        outcome.append(as_before(stand))


SLOW = """
import asyncio
from pyvpp.cli.registry import command
@command("doze", help="doze")
async def doze(engine, args):
    print("dozing", flush=True)
    await asyncio.sleep(1)
"""


def test_pyvppctl_is_killed_in_the_middle_of_a_command(sandbox: Pair, server: Server, tmp_path: Path) -> None:
    plugin = tmp_path / "slow.py"
    plugin.write_text(SLOW)
    with (
        standing(sandbox, server, 1, "--plugin", str(plugin)) as stand,
        measured(stand, "pyvppctl killed in a command") as outcome,
    ):
        ctl = sandbox.start(
            sandbox.host, sys.executable, "-m", "pyvpp.cli.client", "--runtime-dir", stand.runtime_dir, "doze"
        )
        eventually(lambda: "dozing" in stand.process.said, "the command runs")
        stand.kill(ctl.pid)
        assert "local0" in stand.ctl("show interface")
        stand.until_reached()
        outcome.append("pyvpp goes on")
    stand.terminate()


STEPS = ("move", "prepare", "apply", "make VLANs", "settle", "settle VLANs", "bind", "join")
# Takes eth0 over and dies; with a step named it restores, and dies before that step.
HALF_WAY = """
import os, signal, sys
from pyvpp.linux import plan, restore, takeover
from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.journal import lock_runtime_dir
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2:]:
    def run(steps):
        steps = list(steps)
        plan.run(steps[: int(sys.argv[2])])
        die()
    restore.run = run
    restore.restore(sys.argv[1])
with lock_runtime_dir(sys.argv[1]):
    takeover.take_over(inspect_uplink("eth0"), sys.argv[1])
    die()
"""


def test_restore_killed_half_way(sandbox: Pair, server: Server) -> None:
    """Before each of its steps, and run again."""
    configure(sandbox, 1)
    before = view(sandbox, 1)
    for number, step in enumerate(STEPS):
        for words in ((), (str(number),)):
            done = sandbox.host.run(sys.executable, "-c", HALF_WAY, sandbox.runtime_dir, *words, check=False)
            assert done.returncode == -signal.SIGKILL, done.stderr
        began = time.monotonic()
        words = ("restore", "--runtime-dir", str(sandbox.runtime_dir))
        process = server.start(sandbox.host, sandbox.directory / "restore.out", sandbox.runtime_dir, "", *words)
        assert (process.wait(), process.said) == (0, "")
        eventually(lambda: is_reached(sandbox.peer, ADDRESSES[4][0]), "the host is reached")
        lasted = f"{1000 * (time.monotonic() - began):.0f}"
        assert differences(before, view(sandbox, 1)) == []
        row = (f"restore killed before {step}, run again", "1", "", lasted, "", lasted, AS_BEFORE)
        tabulate(TITLE, HEAD, row)
    assert len(STEPS) == len(GiveBack(entry_of(sandbox)).steps())


def entry_of(sandbox: Pair) -> Entry:
    return Entry(sandbox.host.inside(lambda: inspect_uplink("eth0")), "", 0)


@contextlib.contextmanager
def memory_group() -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A control group of the kernel's, and what sets its limit; skips where there can be none."""
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.controllers").exists()
    group = (root if unified else root / "memory") / f"pvt-{os.getpid()}"
    limits = ("memory.max", "memory.swap.max") if unified else ("memory.limit_in_bytes", "memory.swappiness")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    try:
        if not (group / limits[0]).exists():
            pytest.skip("control groups do not limit memory here")

        def limit(size: int) -> None:
            (group / limits[0]).write_text(str(size))
            with contextlib.suppress(OSError):  # where there is no swap
                (group / limits[1]).write_text("0")

        yield group, limit
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()
