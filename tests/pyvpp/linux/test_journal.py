# SPDX-License-Identifier: Apache-2.0
"""The journal's file and the lock of a runtime directory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyvpp.errors import OperatorError
from pyvpp.linux.capture import Address, UplinkState
from pyvpp.linux.journal import VERSION, Entry, Journal, Record, boot_id, holds_lock, lock_runtime_dir
from pyvpp.linux.restore import restore
from pyvpp.linux.route import Hop, Route

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def record() -> Iterator[Record]:
    address = Address(2, 24, 0, 128, {"IFA_LOCAL": "10.0.0.1", "IFA_ADDRESS": "10.0.0.1", "IFA_LABEL": "eth0"})
    hop = Hop("eth0", 1, 0, ((5, "0a000002"),))  # RTA_GATEWAY
    route = Route(2, 0, 0, 0, 254, 3, 0, 1, 0, "", ((6, "64000000"),), (hop,))  # RTA_PRIORITY
    state = UplinkState(
        name="eth0", ifindex=2, kind="", mac="02:00:00:00:00:01", mtu=1500, txqueuelen=1000, group=0, alias="", altnames=("wan",),
        flags=0x1001, address_generation=0, token="", sysctls={"ipv6/conf/accept_ra": "0"}, addresses=(address,), routes=(route,),
        neighbors=(),
    )  # fmt: skip
    yield Record(VERSION, boot_id(), os.getpid(), (4, 5), [Entry(state, "/run/pyvpp/netns-eth0", 7)])


def test_what_is_written_is_read_back(tmp_path: Path, record: Record) -> None:
    journal = Journal(tmp_path)
    assert journal.read() is None
    journal.write(record)
    assert journal.read() == record
    assert [path.name for path in tmp_path.iterdir()] == ["journal.json"]
    journal.remove()
    assert journal.read() is None


def test_a_journal_of_an_earlier_boot_is_dropped(tmp_path: Path, record: Record) -> None:
    journal = Journal(tmp_path)
    journal.write(msgspec.structs.replace(record, boot_id="another"))
    assert journal.read() is None
    assert not journal.path.exists()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.path.write_bytes(b'{"version": 1')
    with pytest.raises(
        OperatorError, match=r"journal .*journal\.json: cannot be read .*, it is set aside by `pyvpp restore`"
    ):
        journal.read()


HOLDS = """
import sys
from pyvpp.linux.journal import lock_runtime_dir
with lock_runtime_dir(sys.argv[-1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_who_restores_is_waited_for(tmp_path: Path) -> None:
    """The guardian after a crash; not a pyvpp that runs."""
    for words, waits in ((["pyvpp.linux.guardian"], True), ([], False)):
        command = [sys.executable, "-c", HOLDS, *words, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            if waits:
                ended = threading.Timer(0.1, holder.communicate, ("\n",))
                ended.start()
                lock_runtime_dir(tmp_path).close()
                ended.join()
            else:
                with pytest.raises(OperatorError, match=f"in use by the pyvpp with process id {holder.pid};"):
                    lock_runtime_dir(tmp_path)
                holder.communicate("\n")


def test_a_journal_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.write(record)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OperatorError, match="No space left on device; without it a crash would lose"):
        journal.write(msgspec.structs.replace(record, pid=1))
    assert journal.read() == record
    assert [path.name for path in tmp_path.iterdir()] == ["journal.json"]


def test_the_lock_names_who_holds_it(tmp_path: Path) -> None:
    script = "import sys; from pyvpp.linux.journal import lock_runtime_dir; l = lock_runtime_dir(sys.argv[1]); print('held', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(OperatorError, match=f"in use by the pyvpp with process id {other.pid}"):
            lock_runtime_dir(tmp_path)
        with pytest.raises(OperatorError, match="in use"):
            restore(tmp_path)
    finally:
        other.communicate(b"\n")
    with lock_runtime_dir(tmp_path):
        assert holds_lock(tmp_path)
        with pytest.raises(OperatorError, match="this process uses it already"):
            lock_runtime_dir(tmp_path)
    assert not holds_lock(tmp_path)


def test_a_runtime_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        OperatorError, match=r"runtime directory .*/file/run: Not a directory; name another with --runtime-dir"
    ):
        lock_runtime_dir(tmp_path / "file" / "run")


def test_restoring_without_a_journal_does_nothing(tmp_path: Path) -> None:
    assert restore(tmp_path / "nothing") == []
    assert restore(tmp_path) == []
