# SPDX-License-Identifier: Apache-2.0
"""Repairs of `pyvpp doctor --fix` that need no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyvpp import doctor
from pyvpp.linux import diagnosis, repair
from pyvpp.linux.diagnosis import FAIL, Finding

ROOT = Path(__file__).resolve().parents[3]


def settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_udev_is_told_once_and_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is the file of packaging/, and it is what doctor looks for."""
    monkeypatch.setattr(repair, "LINK_FILE", tmp_path / "network" / "10-pyvpp-tap.link")
    monkeypatch.setattr(repair, "_command", lambda *words: " ".join(words))
    monkeypatch.setattr(diagnosis, "_LINK_FILES", (str(tmp_path / "network"),))
    monkeypatch.setattr(diagnosis, "_processes", lambda: iter([(1, "systemd-udevd")]))
    assert diagnosis._udev().fix == repair.UDEV.says
    said = repair.leave_taps_alone(tmp_path)
    assert said == f"wrote {repair.LINK_FILE} (undo: rm it); tell udev: udevadm control --reload"
    packaged = (ROOT / "packaging/systemd/10-pyvpp-tap.link").read_text()
    assert settings(repair.LINK_FILE.read_text()) == settings(packaged)
    assert repair.LINK_FILE.stat().st_mode & 0o777 == 0o644
    assert diagnosis._udev().verdict == "ok"
    repair.LINK_FILE.write_text("the operator's")
    with pytest.raises(FileExistsError):
        repair.leave_taps_alone(tmp_path)
    assert repair.LINK_FILE.read_text() == "the operator's"


def test_nodes_are_compiled_where_they_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr("pyvpp.warmup.warm_up", lambda: compiled.append(True))
    monkeypatch.setattr("pyvpp.compile.uncompiled", lambda nodes, native: ["one"])
    (finding,) = doctor.of_the_cache()
    (done,) = doctor.fix([finding], tmp_path)
    assert compiled == [True]
    assert (done.verdict, done.what) == ("done", "code cache") and done.found.startswith(
        "compiled the nodes (undo: rm "
    )


def test_what_has_no_fix_is_left_alone_and_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(runtime_dir: Path) -> str:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setitem(repair.REPAIRS, repair.TUN.says, repair.Repair(repair.TUN.says, refuse))
    found = [Finding(FAIL, "rights", "none", "be root"), Finding(FAIL, "tun", "none", "get one", repair.TUN.says)]
    (told,) = doctor.fix(found, tmp_path)
    assert (told.verdict, told.what, told.remedy) == ("warn", "tun", "get one")
    assert told.found == "--fix loads the tun module or makes the device, but: [Errno 1] Operation not permitted"
