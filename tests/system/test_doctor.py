# SPDX-License-Identifier: Apache-2.0
"""`pyvpp doctor`: it sees what is there, says what to do, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyvpp.linux import netns
from tests.system.conftest import ROOT, Pair, differences, environment
from tests.system.process import Pyvpp, pyvpp_command

DHCLIENT = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
s.bind(("eth0", 0x0800))
open("/proc/self/comm", "w").write("dhclient")
print("bound", flush=True)
s.recv(1 << 16)
"""


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """`--fix` compiles what is not: here it has nothing of that to do."""
    command = [str(word) for word in pyvpp_command("warmup")]
    subprocess.run(command, check=True, capture_output=True, timeout=600, env=environment())


def doctor(
    pair: Pair, *options: str | Path, prefix: tuple[str, ...] = (), **variables: str
) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit status, and the findings by what they are about; both forms of the output say the same."""
    command = (*prefix, *pair.host.command(*pyvpp_command("doctor", "--runtime-dir", pair.runtime_dir, *options)))
    command = tuple(map(str, command))
    before = pair.host.snapshot()
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=60, env={**environment(), **variables}
    )
    assert done.stderr == ""
    assert pair.host.snapshot() == before
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout):
        found.setdefault(finding["what"], []).append(finding)
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**environment(), **variables})
    assert text.returncode == done.returncode
    assert len(text.stdout.splitlines()) == sum(map(len, found.values()))
    return done.returncode, found


def test_an_uplink_that_can_be_taken_over(sandbox: Pair) -> None:
    sandbox.host.ip("route", "add", "default", "via", "10.77.0.2")
    status, found = doctor(sandbox)
    assert status == 0
    assert {each["verdict"] for what in ("tun", "af-packet", "kernel", "network manager") for each in found[what]} == {
        "ok"
    }
    (uplink,) = found["uplink eth0"]
    assert uplink["verdict"] == "ok" and "can be taken over" in uplink["found"]
    assert not sandbox.runtime_dir.exists()


def test_what_would_go_wrong_is_named_with_what_to_do(sandbox: Pair) -> None:
    client = sandbox.start(sandbox.host, sys.executable, "-c", DHCLIENT)
    assert client.stdout is not None and client.stdout.readline() == "bound\n"
    status, found = doctor(sandbox, "--uplink", "eth0", SSH_CONNECTION="10.77.0.2 5555 10.77.0.1 22")
    assert status == 0
    warned = [each for each in found["uplink eth0"] if each["verdict"] == "warn"]
    assert len(warned) == 2
    assert f"dhclient (process {client.pid}) has a packet socket on it" in warned[0]["found"]
    assert warned[0]["found"].endswith("meets ENETDOWN and is bound again; it renews the lease")
    assert "this very session (SSH to 10.77.0.1)" in warned[1]["found"]


def test_what_keeps_pyvpp_from_running_fails(sandbox: Pair) -> None:
    sandbox.host.ip("link", "set", "eth0", "down")
    status, found = doctor(sandbox, "--uplink", "eth0", "--uplink", "nope")
    assert status == 1
    assert found["uplink eth0"] == [
        {
            "verdict": "fail",
            "what": "uplink eth0",
            "found": "is down; bring it up first (ip link set eth0 up)",
            "remedy": "",
            "fix": "",
        }
    ]
    assert found["uplink nope"][0]["found"].startswith("no such interface; there are: eth0")
    status, found = doctor(sandbox, prefix=("setpriv", "--bounding-set", "-net_admin,-net_raw"))
    assert status == 1
    assert found["rights"][0]["found"] == "root without CAP_NET_ADMIN, CAP_NET_RAW"
    assert found["af-packet"][0]["verdict"] == "fail"


def test_hooks_and_a_runtime_directory_that_others_may_change(sandbox: Pair) -> None:
    hooks = sandbox.directory / "hooks.d"
    hooks.mkdir(mode=0o755)
    for name, mode in (("10-run", 0o755), ("20-not-run", 0o757)):
        (hooks / name).touch()
        (hooks / name).chmod(mode)
    sandbox.runtime_dir.mkdir()
    sandbox.runtime_dir.chmod(0o777)
    status, found = doctor(sandbox, "--hooks", hooks)
    assert status == 1
    assert [(each["verdict"], each["found"]) for each in found["hooks"]] == [
        ("warn", f"{hooks}/20-not-run is not run: others may write to {hooks}/20-not-run"),
        ("ok", f"in {hooks}, in this order: 10-run"),
    ]
    assert found["runtime directory"][0]["verdict"] == "fail"
    assert found["runtime directory"][0]["found"].endswith("others may write in it (mode 777, expected 750)")


def test_what_an_earlier_pyvpp_left(sandbox: Pair) -> None:
    sandbox.runtime_dir.mkdir()
    os.close(netns.create_kept(sandbox.runtime_dir / "netns-eth0"))
    status, found = doctor(sandbox)
    assert status == 0
    assert (
        found["runtime directory"][0]["verdict"] == "warn"
        and "pyvpp restore" in found["runtime directory"][0]["remedy"]
    )
    netns.release_kept(sandbox.runtime_dir / "netns-eth0")
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--runtime-dir", sandbox.runtime_dir)
    pyvpp.wait_until_ready()
    status, found = doctor(sandbox, "--uplink", "eth0")
    assert status == 1 and "already taken over by the pyvpp with process id" in found["uplink eth0"][0]["found"]
    assert f"is used by the pyvpp with process id {pyvpp.process.pid}" in found["runtime directory"][0]["found"]
    for pid in sandbox.host.pids():
        os.kill(pid, 9)
    pyvpp.process.wait()
    status, found = doctor(sandbox)
    assert status == 1 and "says that eth0 is taken over, and no pyvpp runs" in found["journal"][0]["found"]


def fixed(pair: Pair, *options: str | Path, prefix: tuple[str, ...] = ()) -> tuple[int, list[dict[str, str]]]:
    """Exit status of `--fix`, and what it found; what it found once more afterwards comes last."""
    words = pyvpp_command("doctor", "--fix", "--json", "--runtime-dir", pair.runtime_dir, *options)
    line = [str(word) for word in (*prefix, *pair.host.command(*words))]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment())
    return done.returncode, json.loads(done.stdout)


def test_fix_takes_away_what_was_left_and_nothing_else(sandbox: Pair) -> None:
    sandbox.runtime_dir.mkdir()
    os.close(netns.create_kept(sandbox.runtime_dir / "netns-eth0"))
    before = sandbox.host.snapshot()
    status, found = fixed(sandbox)
    assert status == 0
    assert [each["found"] for each in found if each["verdict"] == "done"] == [
        "took away the namespace, which was empty"
    ]
    assert f"{sandbox.runtime_dir}: nothing is left there" in [each["found"] for each in found]
    assert not netns.is_kept(sandbox.runtime_dir / "netns-eth0")
    assert sandbox.host.snapshot() == before
    assert not [each for each in fixed(sandbox)[1] if each["verdict"] == "done"], "there is nothing to do twice"


def test_fix_gives_back_an_uplink_whose_pyvpp_was_killed(sandbox: Pair) -> None:
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--runtime-dir", sandbox.runtime_dir)
    pyvpp.wait_until_ready()
    status, found = fixed(sandbox)
    assert status == 0 and not [each for each in found if each["verdict"] == "done"], "one that runs is left alone"
    for pid in sandbox.host.pids():
        os.kill(pid, 9)
    pyvpp.process.wait()
    status, found = fixed(sandbox)
    assert status == 0
    assert [each["found"] for each in found if each["verdict"] == "done"] == ["gave eth0 back to Linux"]
    assert differences(before, sandbox.host.snapshot()) == []


def test_fix_makes_the_tun_device(sandbox: Pair) -> None:
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/net && exec "$@"', "-")
    status, found = doctor(sandbox, prefix=hidden)
    assert status == 1 and found["tun"][0]["fix"] == "loads the tun module or makes the device"
    status, all_found = fixed(sandbox, prefix=hidden)
    assert status == 0
    assert [each["found"] for each in all_found if each["what"] == "tun"] == [
        "made /dev/net/tun, for root (undo: rm /dev/net/tun)", "/dev/net/tun opens",
    ]  # fmt: skip


def test_fix_says_what_it_could_not_do(sandbox: Pair) -> None:
    """Not allowed to make a device: the finding stays, with the remedy."""
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro tmpfs /dev/net && exec "$@"', "-")
    status, found = fixed(sandbox, prefix=hidden)
    assert status == 1
    first, last = (each for each in found if each["what"] == "tun")
    assert first["verdict"] == "warn" and "but: [Errno 30] Read-only file system" in first["found"]
    assert last["verdict"] == "fail"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_service_is_understood_by_systemd(tmp_path: Path) -> None:
    unit = tmp_path / "pyvpp.service"
    unit.write_text((ROOT / "packaging/systemd/pyvpp.service").read_text().replace("/usr/local/bin/pyvpp", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    about_it = [line for line in (done.stdout + done.stderr).splitlines() if "pyvpp" in line]
    assert about_it == []
