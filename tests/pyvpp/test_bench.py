# SPDX-License-Identifier: Apache-2.0
"""`pyvpp bench`: the figures' structure, and that what they claim was checked. No test looks at a time."""

import dataclasses
import json
from typing import Any

import pytest

from pyvpp import bench
from pyvpp.bench import SCENARIOS, BenchError, main, run_scenario

FIELDS = {
    "name", "packet_bytes", "vector_size", "routes", "packets", "seconds", "mpps", "ns_per_packet", "clocks_per_packet",
    "nodes", "verified",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "ip4-1m"])
def test_every_scenario_is_verified(name: str) -> None:
    result = run_scenario(SCENARIOS[name], 0.02, 64)
    assert set(result) == FIELDS
    assert result["verified"] is True
    assert result["packets"] > 0 and result["packets"] % 64 == 0
    names = {node["name"] for node in result["nodes"]}
    assert {"pg-input", "ethernet-input", "pg1-output", "pg1-tx"} <= names
    assert all(node["vectors_per_call"] == 64 for node in result["nodes"])


def test_json(capsys: Any, tmp_path: Any) -> None:
    assert main(["--scenario", "ip4", "--seconds", "0.02", "--json", "-"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["schema"] == 1
    assert {"cpu", "cpus", "kernel", "python"} <= set(written["machine"])
    (scenario,) = written["scenarios"]
    assert (scenario["name"], scenario["packet_bytes"], scenario["routes"]) == ("ip4", 64, 1)
    assert {"ip4-input", "ip4-lookup", "ip4-rewrite"} <= {node["name"] for node in scenario["nodes"]}
    path = tmp_path / "figures.json"
    assert main(["--scenario", "l2-xconnect", "--seconds", "0.02", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["scenarios"][0]["verified"] is True
    assert "l2-xconnect" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--scenario", "ip9"], ["--vector", "0"], ["--vector", "257"], ["--seconds", "0"]])
def test_wrong_arguments(words: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2
    if "ip9" in words:
        said = capsys.readouterr().err
        assert all(name in said for name in SCENARIOS)


def test_a_packet_that_differs_gives_an_error_instead_of_a_figure(monkeypatch: Any, capsys: Any) -> None:
    def wrong(engine: Any, packet: bytes) -> bytes:
        right = bench.rewritten(engine, packet)
        return right[:22] + bytes([right[22] ^ 1]) + right[23:]

    monkeypatch.setitem(SCENARIOS, "ip4", dataclasses.replace(SCENARIOS["ip4"], expect=wrong))
    assert main(["--scenario", "ip4", "--seconds", "0.02", "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "differs from the model" in captured.err


def test_a_packet_that_is_lost_gives_an_error_and_says_where() -> None:
    lost = dataclasses.replace(SCENARIOS["ip4"], setup=bench.BASE)
    with pytest.raises(BenchError, match=r"2000 packets in, 0 out(.|\n)*ip4-drop"):
        run_scenario(lost, 0.02, 256)
