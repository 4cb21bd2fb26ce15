# SPDX-License-Identifier: Apache-2.0
"""What pyvpp may do while it runs, and who may see what it has in its runtime directory."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from pyvpp.linux import privileges
from pyvpp.linux.privileges import HELPFUL, NEEDED
from tests.system.conftest import Pair
from tests.system.process import PATIENCE, Pyvpp, eventually, ping, pyvpp_command, running
from tests.system.test_restart import pod_command, stopped
from tests.system.test_takeover import assert_same, configure_richly, guardian_of

GROUP, OTHER_GROUP, NOBODY = 4242, 4243, 65534
ONLY_NEEDED = ",".join(("-all", *(f"+{capability.name.removeprefix('CAP_').lower()}" for capability in NEEDED)))


def assert_reduced(process: int) -> None:
    """Every thread of a process has what is needed and will never have more."""
    most = privileges.of().permitted & privileges.bits(NEEDED)
    seen = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            seen.append(privileges.of(task))
        except (FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            assert not task.exists()
    assert seen
    for has in seen:
        assert (has.effective, has.permitted, has.bounding, has.inheritable, has.ambient) == (most, most, most, 0, 0)
        assert has.no_new


def current(pyvpp: Pyvpp) -> int:
    return int(pyvpp.data("show version verbose")["pid"])


def can_connect(directory: Path, user: int, group: int) -> bool:
    """Whether somebody may talk to pyvpp. The directories above are root's alone: who is in one needs none above."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.chdir(directory)
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as s:
                status = int(s.connect_ex("cli.sock") != 0)
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1)
    return status == 0


def test_only_what_is_needed_is_kept_and_nobody_else_sees_in(sandbox: Pair) -> None:
    pod = sandbox.namespace("pod")
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--group", str(GROUP), "--workers", "2") as pyvpp:
        pyvpp.ctl(pod_command(pod, "10.80.1.2"))
        for upgraded in (False, True):
            if upgraded:
                pyvpp.ctl("upgrade")
                assert_reduced(pyvpp.process.pid)  # the keeper by now
            assert_reduced(current(pyvpp))
            eventually(lambda: guardian_of(sandbox), "the guardian")
            assert_reduced(guardian_of(sandbox))
            shown = pyvpp.data("show version verbose")
            kept = {capability.name.lower() for capability in NEEDED if capability not in privileges.missing()}
            assert set(shown["capabilities"]) == kept and shown["no_new_privileges"] is True
            directory = pyvpp.runtime_dir.stat()
            assert (directory.st_uid, directory.st_gid, stat.S_IMODE(directory.st_mode)) == (0, GROUP, 0o2750)
            modes = {
                path.name: stat.S_IMODE(path.lstat().st_mode)
                for path in pyvpp.runtime_dir.iterdir()
                if not path.name.startswith("netns-")  # Linux' own, for whoever gets that far
            }
            assert modes == {"pyvpp.lock": 0o640, "cli.sock": 0o660, "journal.json": 0o600, "state.json": 0o600}
            assert (pyvpp.runtime_dir / "cli.sock").stat().st_gid == GROUP
            assert can_connect(pyvpp.runtime_dir, NOBODY, GROUP)
            assert not can_connect(pyvpp.runtime_dir, NOBODY, OTHER_GROUP)
        capture = sandbox.directory / "wire.pcap"
        pyvpp.ctl(f"pcap trace rx tx max 10 intfc any file {capture}")
        assert ping(sandbox.peer, "10.77.0.1")
        pyvpp.ctl("pcap trace off")
        assert stat.S_IMODE(capture.stat().st_mode) == 0o640


@pytest.mark.parametrize("driver", ["af-packet", "af-xdp"])
def test_nothing_else_is_needed(sandbox: Pair, driver: str) -> None:
    """Started with the documented capabilities alone, as in a container: all is taken over, given back, and kept."""
    configure_richly(sandbox.host)
    pod = sandbox.namespace("pod")
    before = sandbox.host.snapshot()
    command = ("setpriv", "--bounding-set", ONLY_NEEDED, *pyvpp_command())
    options = ("--uplink", "eth0", "--driver", driver, "--keep")
    for ending in (signal.SIGKILL, signal.SIGTERM):
        pyvpp = Pyvpp(sandbox, sandbox.host, *options, command=command)
        pyvpp.wait_until_ready()
        if ending == signal.SIGKILL:
            pyvpp.ctl(pod_command(pod, "10.80.1.2"))
        assert ping(sandbox.peer, "10.77.0.1")
        assert pyvpp.data("show configuration")
        assert "goes on in place of" in pyvpp.ctl("upgrade")
        assert ping(sandbox.peer, "10.77.0.1")
        journal = pyvpp.runtime_dir / "journal.json"
        stopped(pyvpp, ending)
        eventually(lambda journal=journal: not journal.exists(), "Linux has its NIC back")
        assert_same(before, sandbox)
    assert "eth0" in pod.ip("link"), "--keep"


@pytest.mark.parametrize("lacking", HELPFUL)
def test_without_what_only_helps(sandbox: Pair, lacking: privileges.Capability) -> None:
    before = sandbox.host.snapshot()
    without = f"{ONLY_NEEDED},-{lacking.name.removeprefix('CAP_').lower()}"
    command = ("setpriv", "--bounding-set", without, *pyvpp_command())
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", command=command)
    pyvpp.wait_until_ready()
    assert ping(sandbox.peer, "10.77.0.1")
    pyvpp.stop()
    assert_same(before, sandbox)


def test_a_directory_that_others_may_write_in_is_refused(sandbox: Pair) -> None:
    for mode, owner, said in (
        (0o770, 0, "others may write in it (mode 770, expected 750)"),
        (0o1777, 0, "others may write in it (mode 1777, expected 750)"),
        (0o700, NOBODY, f"belongs to user {NOBODY} (expected 0)"),
    ):
        directory = sandbox.directory / "shared"
        directory.mkdir(exist_ok=True)
        os.chown(directory, owner, 0)
        directory.chmod(mode)
        pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--runtime-dir", directory)
        _, errors = pyvpp.process.communicate(timeout=PATIENCE)
        assert (pyvpp.process.returncode, errors) == (1, f"pyvpp: runtime directory {directory}: {said}\n")


def test_a_group_that_is_none(sandbox: Pair) -> None:
    pyvpp = Pyvpp(sandbox, sandbox.host, "--group", "no-such-group")
    _, errors = pyvpp.process.communicate(timeout=PATIENCE)
    assert (pyvpp.process.returncode, errors) == (1, "pyvpp: --group no-such-group: no such group\n")
