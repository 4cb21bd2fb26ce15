# SPDX-License-Identifier: Apache-2.0
"""`pyvpp --dry-run`: the plan names what the true take-over does, and nothing is changed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.system.conftest import Namespace, Pair, differences, environment, wait_for_addresses
from tests.system.process import Pyvpp, pyvpp_command, running
from tests.system.test_takeover import configure_richly, guardian_of


def everything(pair: Pair) -> dict[str, Any]:
    """The host's and the peer's configuration with indexes, processes, mounts, and the files where pyvpp has its."""
    return {
        "host": pair.host.snapshot(),
        "indexes": re.findall(r"^\d+: \S+", pair.host.ip("-o", "link"), re.M),
        "peer": pair.peer.snapshot(),
        "gro": " eth0@" in pair.host.ip("-o", "link") and pair.host.gro("eth0"),
        "processes": sorted(pair.host.pids()),
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(pair.directory) in line],
        "files": {
            path: ("" if path.name.startswith("netns-") or not path.is_file() else path.read_text(), path.lstat().st_mtime)
            for path in pair.directory.rglob("*")
        },
    }  # fmt: skip


def dry_run(pair: Pair, *options: str | Path) -> tuple[int, str, str]:
    """Exit status, plan and errors; nothing may be different afterwards."""
    for namespace in (pair.host, pair.peer):
        wait_for_addresses(namespace)
    before = everything(pair)
    command = pair.host.command(*pyvpp_command("--runtime-dir", pair.runtime_dir, "--dry-run", *options))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    after = everything(pair)
    assert differences(before["host"], after["host"]) == []
    assert before == after
    return done.returncode, done.stdout, done.stderr


def test_the_plan_names_everything_and_nothing_changes(sandbox: Pair) -> None:
    configure_richly(sandbox.host)
    status, plan, errors = dry_run(sandbox, "--uplink", "eth0", "--workers", "2")
    assert (status, errors) == (0, "")
    assert not sandbox.runtime_dir.exists()
    snapshot = sandbox.host.snapshot()
    (link,) = (link for link in snapshot["addr"] if link["ifname"] == "eth0")
    for address in link["addr_info"]:
        assert plan.count(f"{address['local']}/{address['prefixlen']}") >= 2, "on the TAP, and at the end on the NIC"
    for said in (
        "198.51.100.0/24 via 10.99.0.1 table 100", "2001:db8:100::/48 via 2001:db8:77::2", "alias: the uplink",
        "MTU: 1400", "altnames: enp0s3, wan", "neighbors: 10.77.0.50", "proxy 10.77.0.60", "receive rings: 2, transmit rings: 2",
        f"journal {sandbox.runtime_dir}/journal.json", f"directory {sandbox.runtime_dir}",
    ):  # fmt: skip
        assert said in plan, said


def test_what_the_plan_names_is_there_afterwards(sandbox: Pair) -> None:
    _, plan, _ = dry_run(sandbox, "--uplink", "eth0")
    index = re.search(r"create  TAP eth0, index (\d+), queues: 1", plan)
    kept = re.search(r"network namespace, kept on (\S+)", plan)
    assert index is not None and kept is not None
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--runtime-dir", sandbox.runtime_dir) as pyvpp:
        assert pyvpp.process.poll() is None
        taken = Namespace("taken")
        taken.path = Path(kept[1])
        assert taken.inside(lambda: Path("/proc/thread-self/net/dev").read_text().count("eth0:")) == 1
        assert sandbox.host.ip("-d", "-o", "link", "show", "eth0").startswith(f"{index[1]}: ")
        assert "tun type tap" in sandbox.host.ip("-d", "-o", "link", "show", "eth0")
        assert guardian_of(sandbox)
        journals = set(re.findall(r"journal ([^ ,:]+)", plan))
        assert journals and all(Path(path).exists() for path in journals)


def test_the_nic_s_rings_are_told(sandbox: Pair) -> None:
    sizes = ("--num-rx-queues", "3", "--rx-ring-size", "128", "--tx-ring-size", "64", "--qdisc-bypass")
    _, plan, _ = dry_run(sandbox, "--uplink", "eth0", "--workers", "2", *sizes)
    said = "receive rings: 3 of 128 packets, transmit rings: 2 of 64 packets, past the queueing discipline"
    assert f"packet sockets on the NIC, {said}" in plan
    _, plan, _ = dry_run(sandbox, "--uplink", "eth0", "--driver", "af-xdp", "--num-rx-queues", "1")
    assert "AF_XDP sockets when the NIC is there, one for 1 of its receive queues" in plan


def test_the_driver_is_chosen_as_for_the_take_over(sandbox: Pair) -> None:
    _, plan, _ = dry_run(sandbox, "--uplink", "eth0", "--driver", "af-xdp", "--gro", "off")
    assert "use     af-xdp\n" in plan and "AF_XDP sockets when the NIC is there" in plan
    assert "MTU 1500\n" in plan and "GRO on" not in plan


def test_hooks_and_confirmation_are_told(sandbox: Pair) -> None:
    hooks = sandbox.directory / "hooks.d"
    hooks.mkdir(mode=0o755)
    for name, mode in (("10-run", 0o755), ("20-not-run", 0o757)):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {sandbox.directory}/ran\n")
        (hooks / name).chmod(mode)
    _, plan, _ = dry_run(sandbox, "--uplink", "eth0", "--confirm", "90", "--hooks", hooks)
    assert "wait    90 s for `pyvppctl confirm', or restore and end with status 76" in plan
    assert f"warn    {hooks}/20-not-run is not run: others may write to {hooks}/20-not-run" in plan
    order = [
        f"run     {hooks}/10-run before-take-over (one that fails forbids it)", "move    eth0 into", "when packets flow:",
        f"run     {hooks}/10-run after-take-over", f"run     {hooks}/10-run before-restore (not when pyvpp dies)",
        "move    eth0 from", f"run     {hooks}/10-run after-restore",
    ]  # fmt: skip
    places = [plan.index(each) for each in order]
    assert places == sorted(places)


def test_refusals_are_those_of_the_take_over(sandbox: Pair) -> None:
    for options, said in (
        (("--uplink", "nope"), "uplink nope: no such interface; there are: eth0"),
        (("--uplink", "lo"), "uplink lo: the loopback interface cannot be an uplink"),
        (("--workers", "65"), "--workers 65: from 1 to 64"),
    ):
        status, plan, errors = dry_run(sandbox, *options)
        assert (status, plan) == (1, "") and errors.startswith(f"pyvpp: {said}")


def test_beside_a_pyvpp_and_after_a_crash(sandbox: Pair) -> None:
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--runtime-dir", sandbox.runtime_dir)
    pyvpp.wait_until_ready()
    status, plan, errors = dry_run(sandbox, "--uplink", "eth0")
    assert (status, plan) == (1, "") and f"in use by the pyvpp with process id {pyvpp.process.pid}" in errors
    os.kill(guardian_of(sandbox), signal.SIGKILL)
    pyvpp.process.kill()
    pyvpp.process.wait()
    status, plan, errors = dry_run(sandbox, "--uplink", "eth0")
    assert (status, errors) == (0, "")
    assert "restore eth0, which an earlier pyvpp left taken over" in plan
