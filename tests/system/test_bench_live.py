# SPDX-License-Identifier: Apache-2.0
"""`pyvpp bench --live` as a command: its figures add up, and it leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import environment
from tests.system.process import eventually

SHORT = ("--seconds", "0.2", "--repeat", "2")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short name: the path of a socket may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pvl-") as made:
        yield Path(made)


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pyvpp.main", "bench", "--live", *options],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**environment(), "TMPDIR": str(directory)},
    )  # fmt: skip


def left_by(pid: int, directory: Path) -> list[str]:
    """Namespaces, files and processes of a bench that was this process."""
    namespaces = [path.name for path in Path("/run/netns").glob(f"pyvpp-live-{pid}-*")]
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if any(str(directory) in word for word in words):
            processes.append(" ".join(words))
    return [*namespaces, *(str(path) for path in directory.glob("pyvpp-live-*")), *processes]


def test_figures_add_up_and_nothing_is_left(directory: Path) -> None:
    scenarios = ("tcp-mtu", "latency", "forward")
    options = [word for name in scenarios for word in ("--scenario", name)]
    bench = start(directory, *options, *SHORT, "--json", str(directory / "run.json"))
    output, errors = bench.communicate(timeout=270)  # the first run compiles
    assert bench.returncode == 0, errors
    run = json.loads((directory / "run.json").read_text())
    live = run["live"]
    assert run["errors"] == [] and live["rounds"] == 2 and {"linux", "af_packet"} <= set(live["ways"])
    assert tuple(each["name"] for each in live["scenarios"]) == scenarios
    for scenario in live["scenarios"]:
        assert scenario["name"] in output
        for metric in scenario["metrics"]:
            assert metric["ways"], (scenario["name"], metric["name"])
            for way, found in metric["ways"].items():
                samples = found["samples"]
                assert len(samples) == 2 and found["least"] <= found["median"] <= found["most"]
                assert found["median"] == pytest.approx(statistics.median(samples), abs=1e-3)
                if way != "linux" and "linux" in metric["ways"]:
                    ratios = [
                        ours / theirs for ours, theirs in zip(samples, metric["ways"]["linux"]["samples"], strict=True)
                    ]
                    assert found["ratio"] == pytest.approx(statistics.median(ratios), rel=0.01)
    forward = {metric["name"]: metric["ways"]["af_packet"]["median"] for metric in live["scenarios"][2]["metrics"]}
    assert forward["delivered"] > 0 and forward["pyvpp CPU"] > 0
    assert 0 < forward["delivered/offered"] < 100.1  # nobody else sends there, nothing comes twice
    assert left_by(bench.pid, directory) == []


def test_interrupted_it_cleans_up(directory: Path) -> None:
    bench = start(directory, "--scenario", "tcp-1", *SHORT)
    eventually(lambda: list(directory.glob("pyvpp-live-*/*/cli.sock")), "a pyvpp of the lab", 60)
    assert len(left_by(bench.pid, directory)) > 5
    bench.send_signal(signal.SIGINT)
    _, errors = bench.communicate(timeout=30)
    assert bench.returncode == 130 and "interrupted" in errors
    assert left_by(bench.pid, directory) == []


def test_not_root(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from pyvpp.main import main

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["bench", "--live"]) == 1
    assert capsys.readouterr().err == (
        "pyvpp: bench --live needs root: it builds network namespaces and takes NICs over in them\n"
    )
