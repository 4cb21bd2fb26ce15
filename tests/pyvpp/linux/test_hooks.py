# SPDX-License-Identifier: Apache-2.0
"""Hooks: which are run, in what order, with what, and what becomes of one that fails or hangs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pyvpp.linux import hooks
from pyvpp.linux.hooks import AFTER_RESTORE, BEFORE_RESTORE, BEFORE_TAKE_OVER, Hooks, why_not

PACKAGED = Path(__file__).resolve().parents[3] / "packaging" / "hooks"
FACTS = {"uplink": "eth0", "driver": "af-packet"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "hooks.d"
    made.mkdir(mode=0o755)
    return made


def put(directory: Path, name: str, script: str, mode: int = 0o755) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return path


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_in_their_order_with_the_event_and_the_facts(directory: Path) -> None:
    told = directory.parent / "told"
    say = f'echo "$0 $1 $# $PYVPP_EVENT $PYVPP_UPLINK $PYVPP_DRIVER" >> {told}'
    for name in ("20-second", "10-first", "30-off~", ".hidden", "40-old.dpkg-old"):
        put(directory, name, say)
    put(directory, "50-not-executable", say, 0o644)
    (directory / "60-directory").mkdir()
    runner = Hooks(directory)
    assert [each.name for each in runner.find().hooks] == ["10-first", "20-second"] and not runner.find().refused
    assert runner.run(BEFORE_TAKE_OVER, FACTS) == []
    assert told.read_text().splitlines() == [
        f"{directory}/{name} before-take-over 1 before-take-over eth0 af-packet" for name in ("10-first", "20-second")
    ]


def test_no_directory_is_no_hook(tmp_path: Path) -> None:
    assert Hooks(tmp_path / "none").run(AFTER_RESTORE, FACTS) == []


def test_what_is_inherited(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is meant for us alone, nor the signals that a guardian ignores."""
    monkeypatch.setenv("PYVPP_HANDOVER", "7")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    told = directory.parent / "told"
    put(directory, "hook", f"exec >{told}; env; grep SigIgn /proc/$$/status")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert Hooks(directory).run(AFTER_RESTORE, FACTS) == []
    finally:
        signal.signal(signal.SIGTERM, before)
    text = told.read_text()
    assert "HANDOVER" not in text and "NOTIFY" not in text
    ignored = int(text.partition("SigIgn:")[2].split()[0], 16)
    assert not ignored >> (signal.SIGTERM - 1) & 1


def test_what_it_prints_is_logged_and_a_failure_told(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(directory, "1-fine", "echo all is well")
    put(directory, "2-fails", "echo too bad >&2; exit 3")
    put(directory, "3-killed", "kill -9 $$")
    broken = put(directory, "4-no-interpreter", "")
    broken.write_text("#!/nowhere/sh\n")
    put(directory, "5-goes-on", "echo here")
    with caplog.at_level(logging.INFO, logger=hooks.__name__):
        failures = Hooks(directory).run(AFTER_RESTORE, FACTS)
    assert failures == [
        f"hook {directory}/2-fails after-restore: status 3",
        f"hook {directory}/3-killed after-restore: killed by signal 9",
        f"hook {directory}/4-no-interpreter after-restore: No such file or directory",
    ]
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", "hook 1-fine after-restore: all is well"),
        ("WARNING", "hook 2-fails after-restore: too bad"),
        ("INFO", "hook 5-goes-on after-restore: here"),
    ]


def test_endless_output_and_what_runs_on_in_the_background(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that somebody else keeps open is not waited for; what is printed beyond some kilobytes is lost."""
    left = directory.parent / "left"
    put(directory, "1-chatty", "yes | head -c 3000000")
    put(directory, "2-daemon", f"sleep 1000 & echo $! > {left}")
    assert Hooks(directory).run(AFTER_RESTORE, FACTS) == []
    pid = int(left.read_text())
    os.kill(pid, signal.SIGKILL)  # it was there


def test_one_that_hangs_is_killed_with_its_children(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hooks.BUDGET, BEFORE_RESTORE, 2.0)  # seconds: enough to begin
    told = directory.parent / "told"
    put(directory, "1-hangs", f"sleep 1000 & echo $! >{told}; wait")
    put(directory, "2-has-no-time", "true")
    began = time.monotonic()
    no_time = "before-restore: not run, there is no time left"
    assert Hooks(directory).run(BEFORE_RESTORE, FACTS, {"uplink": "eth1"}) == [
        f"hook {directory}/1-hangs before-restore: killed, it took too long",
        f"hook {directory}/2-has-no-time {no_time}",
        f"hook {directory}/1-hangs {no_time}",
        f"hook {directory}/2-has-no-time {no_time}",
    ]
    while is_alive(int(told.read_text())):
        assert time.monotonic() - began < 20


def test_one_that_is_hurried(directory: Path) -> None:
    began = directory.parent / "began"
    put(directory, "1-hangs", f"touch {began}; sleep 1000")
    put(directory, "2-is-not-run", "true")
    runner = Hooks(directory)
    failures: list[str] = []
    thread = threading.Thread(target=lambda: failures.extend(runner.run(AFTER_RESTORE, FACTS)))
    thread.start()
    while not began.exists():
        assert thread.is_alive()
    runner.hurry()
    thread.join(20)
    assert [each.rpartition(": ")[2] for each in failures] == ["killed by signal 9", "not run, there is no time left"]


def test_what_others_could_change_is_not_run(directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(directory, "group", "exit 1", 0o775)
    put(directory, "world", "exit 1", 0o757)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    elsewhere.chmod(0o777)
    (directory / "link").symlink_to(put(elsewhere, "target", "exit 1"))
    found = Hooks(directory).find()
    assert found.hooks == []
    assert found.refused == [
        f"{directory}/group is not run: others may write to {directory}/group",
        f"{directory}/link is not run: others may write to {elsewhere}",
        f"{directory}/world is not run: others may write to {directory}/world",
    ]
    assert Hooks(directory).run(BEFORE_TAKE_OVER, FACTS) == []
    assert len(caplog.records) == 3
    elsewhere.chmod(0o1777)  # others cannot take away what is not theirs
    assert [each.name for each in Hooks(directory).find().hooks] == ["link"]
    if os.geteuid() == 0:
        os.chown(elsewhere / "target", 65534, 0)
        assert why_not(directory / "link") == f"{elsewhere}/target belongs to user 65534"


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """An environment in which the managers' tools note what they are asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("networkctl", "nmcli", "netplan"):
        put(programs, name, f'echo {name} "$@" >> {tmp_path}/asked; [ "$2" != status ] || cat {tmp_path}/status')
    (tmp_path / "status").write_text(f"  Link File: /usr/lib/x.link\n  Network File: {tmp_path}/50-uplink.network\n")
    (tmp_path / "50-uplink.network").write_text(
        "[Match]\nPermanentMACAddress=02:00:00:00:00:01\n\n[Network]\n# yes\nDHCP=yes\n[Match]\nType=ether\n[DHCPv4]\nUseMTU=yes\n"
    )
    return {"PATH": f"{programs}:{os.environ['PATH']}", "PYVPP_UPLINK": "eth0", "RUN": str(tmp_path / "run")}


def call(name: str, event: str, environment: dict[str, str]) -> None:
    subprocess.run([PACKAGED / name, event], env=environment, check=True, timeout=20)


def test_the_hook_for_networkd(tools: dict[str, str], tmp_path: Path) -> None:
    call("networkd", "before-take-over", tools)
    (written,) = (tmp_path / "run").iterdir()
    assert written.name == "00-pyvpp-eth0.network"
    assert written.read_text().splitlines() == [
        "[Match]", "Name=eth0", "Driver=tun", "[Network]", "# yes", "DHCP=yes", "[DHCPv4]", "UseMTU=yes",
        "[Network]", "KeepConfiguration=yes", "[DHCPv4]", "ClientIdentifier=mac", "SendRelease=no",
    ]  # fmt: skip
    for event in ("after-take-over", "before-restore", "after-restore", "after-restore"):
        call("networkd", event, tools)
    assert not list((tmp_path / "run").iterdir())
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["networkctl --no-pager status eth0", "networkctl reload", "networkctl reload"]
    (tmp_path / "status").write_text("  Network File: n/a\n")
    call("networkd", "before-take-over", tools)
    assert not list((tmp_path / "run").iterdir())


def test_the_hook_for_networkmanager(tools: dict[str, str], tmp_path: Path) -> None:
    call("networkmanager", "before-take-over", tools)
    (written,) = (tmp_path / "run").iterdir()
    assert "dns=none" in written.read_text() and "unmanaged-devices=driver:tun" in written.read_text()
    for event in ("after-take-over", "before-restore", "after-restore", "after-restore"):
        call("networkmanager", event, tools)
    assert not list((tmp_path / "run").iterdir())
    assert (tmp_path / "asked").read_text().splitlines() == ["nmcli general reload conf", "nmcli general reload"]


@pytest.mark.parametrize(
    ("renderer", "file"), [("networkd", "00-pyvpp-eth0.network"), ("NetworkManager", "90-pyvpp-eth0.conf")]
)
def test_the_hook_for_netplan(tools: dict[str, str], tmp_path: Path, renderer: str, file: str) -> None:
    put(tmp_path / "bin", "netplan", f"echo {renderer}")
    call("netplan", "before-take-over", {**tools, "HOOKS": str(PACKAGED)})
    assert [path.name for path in (tmp_path / "run").iterdir()] == [file]
