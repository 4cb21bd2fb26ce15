# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, and whenever: Linux gets its uplink back as it was.

PYVPP_EXAMPLES=500 kills at so many points. A kill point is the n-th call that code of pyvpp.linux makes or receives, so
that a round can be repeated.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pyvpp.linux import netns
from tests.system.conftest import Pair, environment, run
from tests.system.process import PATIENCE, Pyvpp, eventually, running
from tests.system.test_takeover import assert_nothing_left, assert_same, configure_richly, guardian_of, pyvpp_restore

ROUNDS = int(os.environ.get("PYVPP_EXAMPLES", "3"))

# Takes eth0 over or restores it, and kills itself at the call with this number; says how many there were otherwise.
DIES = """
import os, signal, sys, threading
what, runtime_dir, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.journal import lock_runtime_dir
from pyvpp.linux.restore import restore
from pyvpp.linux.takeover import take_over
calls = 0
def count(frame, event, argument):
    global calls
    if event in ("call", "c_call", "c_return") and "/pyvpp/linux/" in frame.f_code.co_filename:
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
threading.setprofile(count)
sys.setprofile(count)
if what == "restore":
    assert restore(runtime_dir) == []
else:
    with lock_runtime_dir(runtime_dir):
        taken = take_over(inspect_uplink("eth0"), runtime_dir)
        sys.setprofile(None)
        print(calls, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(None)
print(calls, flush=True)
"""


def dies(pair: Pair, what: str, at: int) -> int:
    """The number of calls made until the end; `at` if it was killed there."""
    done = pair.host.run(sys.executable, "-c", DIES, what, pair.runtime_dir, str(at), check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return int(done.stdout or at)


def test_killed_at_any_point_of_take_over_and_restore(sandbox: Pair) -> None:
    """No guardian here: `pyvpp restore` is run again until it is through."""
    configure_richly(sandbox.host)
    before = sandbox.host.snapshot()
    points = {"take over": dies(sandbox, "take over", 0), "restore": dies(sandbox, "restore", 0)}
    assert_same(before, sandbox)
    for number in range(ROUNDS):
        chance = random.Random(number)
        for what in ("take over", "restore", "restore"):
            dies(sandbox, what, chance.randrange(1, points[what]))
        pyvpp_restore(sandbox)
        assert_same(before, sandbox)
        assert_nothing_left(sandbox)


def test_a_namespace_that_no_journal_names_is_left_alone_unless_it_is_empty(sandbox: Pair) -> None:
    sandbox.runtime_dir.mkdir()
    path = sandbox.runtime_dir / "netns-eth0"
    os.close(netns.create_kept(path))
    pyvpp_restore(sandbox)
    assert_nothing_left(sandbox)
    os.close(netns.create_kept(path))
    run("nsenter", f"--net={path}", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    with pytest.raises(AssertionError, match="eth0 is in there, and no journal says where it belongs"):
        pyvpp_restore(sandbox)
    assert "eth0" in run("nsenter", f"--net={path}", "ip", "link").stdout


def test_the_next_start_restores_when_dataplane_and_guardian_were_killed(sandbox: Pair) -> None:
    configure_richly(sandbox.host)
    before = sandbox.host.snapshot()
    first = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
    first.wait_until_ready()
    for pid in (guardian_of(sandbox), first.process.pid):
        os.kill(pid, signal.SIGKILL)
    first.process.wait()
    assert "eth0" not in sandbox.host.ip("link")
    with running(sandbox, sandbox.host, "--uplink", "eth0"):
        pass
    assert_same(before, sandbox)


def frozen(pid: int, thread_name: str) -> threading.Thread:
    """Stops one thread of a process, as a node that never returns would. What is given back ends with the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    seize, interrupt, any_child = 0x4206, 0x4207, 0x40000000
    tid = next(
        int(task.name)
        for task in Path(f"/proc/{pid}/task").iterdir()
        if (task / "comm").read_text().strip() == thread_name
    )
    stopped = threading.Event()

    def hold() -> None:  # what is traced belongs to the thread that traces it, which has to bury it as well
        assert libc.ptrace(seize, tid, None, None) == 0, os.strerror(ctypes.get_errno())
        assert libc.ptrace(interrupt, tid, None, None) == 0, os.strerror(ctypes.get_errno())
        while os.WIFSTOPPED(os.waitpid(tid, any_child)[1]):
            stopped.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert stopped.wait(PATIENCE)
    return holder


def test_a_worker_that_hangs_unwatched_is_left_alone(sandbox: Pair) -> None:
    """Until pyvpp is killed; the watchdog's row is in the fault matrix."""
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--watchdog", "0")
    pyvpp.wait_until_ready()
    holder = frozen(pyvpp.process.pid, "vpp_wk_0")
    try:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert pyvpp.process.poll() is None
            time.sleep(0.1)
        pyvpp.process.kill()
        pyvpp.process.wait()
        eventually(lambda: not (pyvpp.runtime_dir / "journal.json").exists(), "the guardian's restore")
    finally:
        pyvpp.process.kill()
        holder.join()
    assert_same(before, sandbox)


def test_a_service_manager_hears_of_it(sandbox: Pair, tmp_path: Path) -> None:
    """READY=1 once packets flow, WATCHDOG=1 every second, STOPPING=1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = subprocess.Popen(
            sandbox.host.command(sys.executable, "-m", "pyvpp.main", "--runtime-dir", sandbox.runtime_dir),
            env={**environment(), "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdout=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            process.terminate()
            while (said := manager.recv(100)) == b"WATCHDOG=1":
                pass
            assert said == b"STOPPING=1"
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
