# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from pyvpp.bench import report
from pyvpp.bench.compare import Change, change_table, changes, differences_of_machines, read_run
from pyvpp.errors import OperatorError
from tests.pyvpp.bench.runs import a_curve, a_kernel, a_node, a_run, a_scenario


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((100, 101, 102), (80, 82, 84), "faster"),
        ((80, 82, 84), (100, 101, 102), "slower"),
        ((100, 101, 130), (120, 121, 122), "within noise"),  # one group of the first was as slow
        ((100, 101, 102), (102, 103, 104), ""),  # less than the floor
        ((100, 100, 100), (103.1, 104, 104), "slower"),
        ((1.0, 1.0, 1.0), (1.4, 1.4, 1.4), ""),  # less than half a clock
        ((10.0, 10.0, 10.0), (10.6, 10.6, 10.6), "slower"),
        ((100, 110, 120), (120, 130, 140), "within noise"),  # they touch
    ],
)
def test_a_change_is_one_when_no_group_of_one_lies_within_the_other(before, after, verdict):
    assert Change("ip4", "", min(before), min(after), before, after).verdict == verdict


def test_what_only_one_run_has():
    assert Change("ip4", "x", None, 5.0).verdict == "new"
    assert Change("ip4", "x", 5.0, None).verdict == "gone"


def test_scenarios_nodes_curves_and_kernels_of_both_runs_are_compared_in_their_order():
    before = a_run(
        a_scenario("ip4", 90, nodes=[a_node("pg-input", 10), a_node("old", 80)]),
        a_scenario("only-before", 50),
        curves=[a_curve("vector_size", (1, 800.0), (256, 90.0))],
        kernels=[a_kernel("k", 20)],
    )
    after = a_run(
        a_scenario("only-now", 50),
        a_scenario("ip4", 60, nodes=[a_node("new", 50), a_node("pg-input", 10)]),
        curves=[a_curve("vector_size", (1, 400.0))],
        kernels=[a_kernel("k", 10)],
    )
    found = [(each.scenario, each.node, each.before, each.after) for each in changes(before, after)]
    assert found == [
        ("ip4", "", 90, 60),
        ("ip4", "pg-input", 10, 10),
        ("ip4", "old", 80, None),
        ("ip4", "new", None, 50),
        ("ip4, 1 packets a vector", "", 800, 400),
        ("k alone", "", 20, 10),
    ]


def test_the_table_shows_every_path_and_the_nodes_that_changed():
    before = a_run(a_scenario("ip4", 90, nodes=[a_node("pg-input", 10), a_node("lookup", 80)]))
    after = a_run(a_scenario("ip4", 60, nodes=[a_node("pg-input", 10), a_node("lookup", 50)]))
    console = report.console()
    with console.capture() as captured:
        console.print(change_table(changes(before, after), ("a.json", "now")))
    text = captured.get()
    assert "a.json" in text and "-33.3%" in text and "faster" in text
    assert "lookup" in text and "-37.5%" in text
    assert "pg-input" not in text


def test_other_reasons_for_a_change_are_named():
    before, after = a_run(a_scenario("ip4", 90)), a_run(a_scenario("ip4", 90, vector_size=64))
    after["machine"] |= {"cpu": "Another", "pages": "2 MB hugepages"}
    assert differences_of_machines(before, after) == [
        "cpu: A processor before, Another now",
        "pages: ordinary pages before, 2 MB hugepages now",
        "ip4: vector size 256 before, 64 now",
    ]
    assert differences_of_machines(before, before) == []


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2, "scenarios": []}', '{"schema": 1}'])
def test_a_file_that_is_no_run(tmp_path: Path, text: str):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(OperatorError, match=r"run\.json: no"):
        read_run(path)


def test_a_file_that_is_a_run_or_not_there(tmp_path: Path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(a_run()))
    assert read_run(path)["schema"] == 1
    with pytest.raises(OperatorError, match="No such file"):
        read_run(tmp_path / "other.json")
