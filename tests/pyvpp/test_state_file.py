# SPDX-License-Identifier: Apache-2.0
"""The state file: whole at every moment, and only for this boot and namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pyvpp import state_file
from pyvpp.configuration import Configuration, Entry, Made
from pyvpp.events import Events
from pyvpp.inheritance import Inheritance, LeftDevice
from pyvpp.linux import netns
from pyvpp.linux.journal import boot_id
from pyvpp.state_file import VERSION, State, StateFile, read_state, still_there

HERE = netns.identity()


@pytest.fixture
def engine() -> Any:
    return SimpleNamespace(configuration=Configuration(Events()), interfaces=[], inheritance=Inheritance())


@contextmanager
def changed(engine: Any, line: str) -> Iterator[None]:
    with engine.configuration.noting(line):
        yield


def note(engine: Any, *lines: str) -> None:
    for line in lines:
        with engine.configuration.noting(line):
            pass


def test_what_is_saved_is_read(tmp_path: Path, engine: Any) -> None:
    file = StateFile(engine, tmp_path)
    file.save()
    assert not file.path.exists() and read_state(tmp_path) is None
    note(engine, "one", "two")
    file.save()
    state = read_state(tmp_path)
    assert state is not None and [entry.line for entry in state.entries] == ["one", "two"]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    file.forget()
    assert not list(tmp_path.iterdir())


def test_a_thousand_commands_are_not_a_thousand_files(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(state_file, "_write", lambda path, content: written.append(content))
    file = StateFile(engine, tmp_path)

    async def commands() -> None:
        for number in range(1000):
            note(engine, f"set number {number}")
            file.save_soon()
        while b"set number 999" not in written[-1]:
            await asyncio.sleep(0.01)
        file.save_soon()

    asyncio.run(commands())
    assert 2 <= len(written) < 100


def test_a_full_disk_is_told_once_and_the_old_file_stays(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = StateFile(engine, tmp_path)
    note(engine, "one")
    file.save()
    before = file.path.read_bytes()

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(state_file, "_write", full)
        for line in ("two", "three"):
            note(engine, line)
            file.save()
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text
    assert file.path.read_bytes() == before
    file.save()
    assert b"three" in file.path.read_bytes()


@pytest.mark.parametrize("what", [{"version": VERSION + 1}, {"boot_id": "another"}, {"netns": (1, 2)}])
def test_another_boot_namespace_or_version_counts_for_nothing(tmp_path: Path, what: dict[str, Any]) -> None:
    state = State(VERSION, boot_id(), HERE, [Entry("one")], [])
    path = tmp_path / "state.json"
    path.write_bytes(msgspec.json.encode(state))
    assert read_state(tmp_path) == state
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(state, **what)))
    assert read_state(tmp_path) is None


def test_spoilt(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    assert read_state(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["state.bad"]


def test_what_speaks_of_a_dead_pod_goes_with_it() -> None:
    own = "/proc/self/ns/net"
    state = State(
        VERSION, boot_id(), HERE,
        [
            Entry("create tap a", {"tun0": Made(1, "")}), Entry("create tap b", {"tun1": Made(2, "")}),
            Entry("ip route add x via tun0"), Entry("ip route add x via tun1"), Entry("from the script", script=True),
        ],
        [LeftDevice("tun0", "eth0", own, HERE), LeftDevice("tun1", "eth0", own, (HERE[0], HERE[1] + 1))],
    )  # fmt: skip
    wanted, gone = still_there(state)
    assert [entry.line for entry in wanted] == ["create tap a", "ip route add x via tun0"]
    assert gone == [f"tun1: its network namespace {own} is gone"]


def test_a_device_is_claimed_once() -> None:
    inheritance = Inheritance(left=[LeftDevice("tun0", "eth0", "pod", (4, 5))])
    assert not inheritance.claim((4, 6), "eth0") and not inheritance.claim((4, 5), "eth1")
    assert inheritance.claim((4, 5), "eth0")
    assert not inheritance.claim((4, 5), "eth0") and not inheritance.left
