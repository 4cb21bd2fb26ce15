# SPDX-License-Identifier: Apache-2.0
"""The page is whole, says what it should, and asks nobody else for anything."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pyvpp.bench.page import most_grown, page, path_order, write_page
from pyvpp.errors import OperatorError
from tests.pyvpp.bench.runs import a_cost, a_curve, a_kernel, a_node, a_run, a_scenario

RUN = a_run(
    a_scenario("ip4", 54.0),
    a_scenario("odd", 80.0, vpp=None),
    curves=[
        a_curve("vector_size", (1, 800.0), (256, 54.0)),
        a_curve("packet_bytes", (64, 54.0), (1500, 90.0)),
        a_curve("routes", (1, 54.0), (10_000, 60.0), vpp=[{"x": 1, "clocks_per_packet": 132, "clocks_without_generation": 66}]),
    ],
    kernels=[a_kernel("ip4-lookup", 9.0)],
    costs={"scenario": "ip4", "rows": [a_cost("trace of every packet", 1800.0), a_cost("trace off again", 0.1)]},
    start={"scenario": "ip4", "first_packet_seconds": 1.5, "resident_bytes": 205_000_000, "buffers": 16384},
    errors=[{"name": "ip6", "error": "2 packets in, 1 out\n  a: <1>"}],
)  # fmt: skip


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text.append(data.strip())


@pytest.fixture(scope="module")
def outline() -> Outline:
    made = Outline()
    made.feed(page(RUN))
    made.close()
    return made


def test_it_is_well_formed_and_needs_nothing_from_elsewhere(outline: Outline):
    assert outline.open == []
    assert outline.sources == []


def test_it_says_everything(outline: Outline):
    text = "\n".join(outline.text)
    for said in (
        "A processor", "ordinary pages", "1.50 s to the first packet", "ip6", "a: <1>", "a scenario <of a test>",
        "VPP 26.10: one worker on an AMD EPYC", "What vectors buy (ip4)", "Packet size (ip4)",
        "Size of the routing table (ip4)", "Each kernel alone", "+1800.0", "+0.1 (noise)",
    ):  # fmt: skip
        assert said in text


def test_every_figure_is_in_a_plot():
    plots = re.findall(r"Plotly\.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{\"template\"", page(RUN), re.DOTALL)
    traces = [trace for plot in plots for trace in json.loads(plot)]
    assert len(plots) == 6
    names = [trace.get("name") for trace in traces]
    assert names[:3] == ["pg-input", "other", "VPP 26.10, all nodes"]
    assert names.count("VPP 26.10, all nodes") == 2  # beside the paths, and in the curve over routes
    assert {"pyvpp", "VPP 26.10", "all nodes", "without pg-input"} <= set(names)


def test_a_run_of_kernels_only():
    assert "Each kernel alone" in page(a_run(kernels=[a_kernel("ip4-lookup", 9.0)]))


def test_nodes_come_in_the_order_of_the_paths():
    short = a_scenario("a", 50, path=["in", "l2", "out"])
    long = a_scenario("b", 50, path=["in", "ip4", "l2", "out"])
    back = a_scenario("c", 50, path=["out", "in"])
    assert path_order([short, long]) == ["in", "ip4", "l2", "out"]
    assert sorted(path_order([short, long, back])) == ["in", "ip4", "l2", "out"]


def test_a_curve_names_the_node_that_makes_the_difference_if_one_does():
    def points(*nodes: dict[str, float]) -> list[dict[str, Any]]:
        return [
            a_scenario("p", sum(each.values()), nodes=[a_node(name, clocks) for name, clocks in each.items()])
            for each in nodes
        ]

    assert most_grown(points({"pg-input": 10, "a": 10, "b": 10}, {"pg-input": 90, "a": 60, "b": 12})) == "a"
    assert most_grown(points({"pg-input": 10, "a": 10}, {"pg-input": 90, "a": 12})) is None


def test_without_plotly_there_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(OperatorError, match=r"--html needs plotly: pip install 'pyvpp\[html\]'"):
        write_page(RUN, tmp_path / "page.html")


def test_a_page_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(OperatorError, match="Is a directory"):
        write_page(RUN, tmp_path)
