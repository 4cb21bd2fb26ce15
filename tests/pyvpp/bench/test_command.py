# SPDX-License-Identifier: Apache-2.0
"""The command line of `pyvpp bench`: what it runs, writes and says, and its exit status."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pyvpp.bench import command, cost, kernels, path, session, sweep
from pyvpp.bench.start import measure_start
from pyvpp.errors import OperatorError
from pyvpp.main import main as pyvpp
from tests.pyvpp.bench.runs import a_run, a_scenario
from tests.pyvpp.bench.stands import SCENARIOS

SHORT = ["--seconds", "0.01"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few runs, nothing compiled ahead, no child process."""
    monkeypatch.setattr(path, "RUNS", 3)
    monkeypatch.setattr(path.figures_of, "__defaults__", (3,))
    monkeypatch.setattr(sweep, "RUNS", 3)
    monkeypatch.setattr(cost, "PAIRS", 1)
    monkeypatch.setattr(cost.measure_costs, "__defaults__", ("auto", 1))
    monkeypatch.setattr(kernels.measure_nodes, "__defaults__", ("auto", 4, lambda name: None))
    monkeypatch.setattr(session, "warm_up", lambda declarations: None)
    monkeypatch.setattr(
        session, "measure_start", lambda name: {"scenario": name, "first_packet_seconds": 1.0, "resident_bytes": 2, "buffers": 3}
    )  # fmt: skip


def written(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
def test_a_scenario_as_json_on_standard_output(quick: None, capsys: Any):
    assert pyvpp(["bench", "--scenario", "ip4", *SHORT, "--json", "-"]) == 0
    captured = capsys.readouterr()
    run = json.loads(captured.out)
    assert run["schema"] == 1
    assert {"cpu", "cpus", "tsc_mhz", "pages", "kernel", "python", "numba", "load", "others_busy"} <= set(
        run["machine"]
    )
    (scenario,) = run["scenarios"]
    assert (scenario["name"], scenario["packet_bytes"], scenario["verified"]) == ("ip4", 64, True)
    assert {"pg-input", "ethernet-input", "pg1-output"} <= {node["name"] for node in scenario["nodes"]}
    assert run["start"]["scenario"] == "ip4" and run["errors"] == run["absent"] == []
    assert "ethernet-input" in captured.err and "clocks/packet" in captured.err  # the tables go beside


@pytest.mark.slow
def test_several_scenarios_in_turn_one_wrong_one_absent(
    quick: None, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    wrong = dataclasses.replace(SCENARIOS["ip4"], name="wrong", expect=lambda engine, packet: b"")
    absent = dataclasses.replace(SCENARIOS["ip4"], name="absent", needs=("ip9-input",))
    monkeypatch.setattr(
        command,
        "declared_in",
        lambda packages: {"wrong": wrong, "absent": absent, "l2-xconnect": SCENARIOS["l2-xconnect"]},
    )
    file = tmp_path / "run.json"
    assert pyvpp(["bench", *SHORT, "--repeat", "2", "--json", str(file)]) == 1
    run = written(file)
    (scenario,) = run["scenarios"]
    assert scenario["name"] == "l2-xconnect" and scenario["runs"] == 6
    assert [each["name"] for each in run["errors"]] == ["wrong"]
    assert run["absent"] == [{"name": "absent", "reason": "needs ip9-input, which no package declares"}]
    captured = capsys.readouterr()
    assert "pyvpp bench: wrong: a packet differs from the model" in captured.err
    assert "absent: not measured: needs ip9-input" in captured.out
    assert "l2-xconnect: 64 bytes" in captured.out


@pytest.mark.slow
def test_only_absent_scenarios_are_no_success(quick: None, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    absent = dataclasses.replace(SCENARIOS["ip4"], needs=("ip9-input",))
    monkeypatch.setattr(command, "declared_in", lambda packages: {"ip4": absent})
    assert pyvpp(["bench", *SHORT]) == 1


@pytest.mark.slow
def test_curves_kernels_costs_and_a_page(quick: None, tmp_path: Path, capsys: Any):
    file, page = tmp_path / "run.json", tmp_path / "run.html"
    words = ["--scenario", "ip4", "--vectors", "1,256", "--sizes", "64,1500", "--routes", "1,100", "--nodes", "--cost"]
    assert pyvpp(["bench", *SHORT, *words, "--json", str(file), "--html", str(page)]) == 0
    run = written(file)
    assert [each["name"] for each in run["scenarios"]] == ["ip4"]
    assert [(each["name"], each["over"]) for each in run["curves"]] == [
        ("ip4", "vector_size"), ("ip4", "packet_bytes"), ("ip4-1m", "routes"),
    ]  # fmt: skip
    assert [[point["x"] for point in curve["points"]] for curve in run["curves"]] == [[1, 256], [64, 1500], [1, 100]]
    assert [each["x"] for each in run["curves"][2]["vpp"]] == [1, 10_000, 1_000_000]
    assert {"ip4-lookup", "pg-input"} <= {kernel["name"] for kernel in run["kernels"]}
    assert run["costs"]["scenario"] == "ip4" and run["costs"]["rows"]
    text = page.read_text()
    assert all(said in text for said in ("Packet size (ip4)", "Each kernel alone", "What it costs while it is on"))
    shown = capsys.readouterr().out
    assert "ip4 by bytes a packet" in shown and "Cost of what is on" in shown


@pytest.mark.slow
def test_curves_alone_run_no_scenario(quick: None, tmp_path: Path, capsys: Any):
    file = tmp_path / "run.json"
    assert pyvpp(["bench", *SHORT, "--vectors", "4,8", "--json", str(file)]) == 0
    run = written(file)
    assert run["scenarios"] == [] and len(run["curves"]) == 1
    assert [point["nodes"][0]["vectors_per_call"] for point in run["curves"][0]["points"]] == [4, 8]


@pytest.mark.slow
def test_workers_alone_run_no_scenario(quick: None, tmp_path: Path, capsys: Any):
    file = tmp_path / "run.json"
    assert pyvpp(["bench", *SHORT, "--workers", "2", "--scenario", "l2-xconnect", "--json", str(file)]) == 0
    run = written(file)
    assert run["schema"] == 1 and run["scenarios"] == []
    assert [(each["name"], each["workers"]) for each in run["workers"]] == [("l2-xconnect", 2)]
    assert "l2-xconnect on 2 workers" in capsys.readouterr().out


@pytest.mark.slow
def test_beside_an_earlier_run_its_scenarios_are_run_again(quick: None, tmp_path: Path, capsys: Any):
    file = tmp_path / "before.json"
    file.write_text(json.dumps(a_run(a_scenario("l2-xconnect", 1e6), a_scenario("of another version", 50.0))))
    assert pyvpp(["bench", *SHORT, "--compare", str(file), "--json", str(tmp_path / "now.json")]) == 0
    assert [each["name"] for each in written(tmp_path / "now.json")["scenarios"]] == ["l2-xconnect"]
    shown = capsys.readouterr().out
    assert "before.json" in shown and "faster" in shown and "cpu: A processor before" in shown


def test_two_files_side_by_side_without_a_run(tmp_path: Path, capsys: Any):
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(json.dumps(a_run(a_scenario("ip4", 100.0))))
    other.write_text(json.dumps(a_run(a_scenario("ip4", 50.0))))
    assert pyvpp(["bench", "--compare", str(one), "--with", str(other)]) == 0
    shown = capsys.readouterr().out
    assert "-50.0%" in shown and "one.json" in shown and "other.json" in shown


def test_the_scenarios_are_listed(capsys: Any):
    assert pyvpp(["bench", "--list"]) == 0
    shown = capsys.readouterr().out
    fixed = ["ip4", "ip4-10k", "ip4-1m", "ip6", "vxlan-encap", "vxlan-decap", "ipip-encap", "ipip-decap", "l2-xconnect"]
    assert set(fixed) <= {line.split()[0] for line in shown.splitlines() if line.strip()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenario", "ip9"], "unknown scenario ip9 (available: "),
        (["--vector", "0"], "--vector 0: must be from 1 to 256"),
        (["--vector", "257"], "must be from 1 to 256"),
        (["--vectors", "1,300"], "must be from 1 to 256"),
        (["--vectors", "1,x"], "invalid numbers value"),
        (["--vectors", "0"], "invalid numbers value"),
        (["--sizes", "60,64"], "from 64 to 1500"),
        (["--sizes", "64,1501"], "from 64 to 1500"),
        (["--seconds", "0"], "--seconds must be more than 0"),
        (["--workers", "1"], "--workers 1: must be from 2 to 64"),
        (["--workers", "65"], "must be from 2 to 64"),
        (["--repeat", "0"], "--repeat must be at least 1"),
        (["--hugepages", "some"], "auto, off or a number"),
        (["--exec", "x"], "--exec goes with --pcap"),
        (["--with", "x"], "--with goes with --compare"),
    ],
)
def test_wrong_arguments(words: list[str], said: str, capsys: Any):
    with pytest.raises(SystemExit) as error:
        pyvpp(["bench", *words])
    assert error.value.code == 2
    assert said in capsys.readouterr().err


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path, capsys: Any):
    assert pyvpp(["bench", "--compare", str(tmp_path / "nothing")]) == 1
    assert capsys.readouterr().err.endswith("nothing: No such file or directory\n")
    with pytest.raises(OperatorError, match="Is a directory"):
        command.written(a_run(), command.parser().parse_args(["--json", str(tmp_path)]))


@pytest.mark.slow
def test_a_new_process_to_its_first_packet():
    found = measure_start("l2-xconnect")
    assert found["scenario"] == "l2-xconnect" and found["buffers"] == 16384
    assert 0 < found["first_packet_seconds"] < 300 and found["resident_bytes"] > 10 << 20
