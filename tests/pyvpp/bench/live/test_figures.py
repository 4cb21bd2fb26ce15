# SPDX-License-Identifier: Apache-2.0
"""Medians, ratios and noise of the rounds; the tables and the page that show them."""

import json
import re

import pytest

from pyvpp.bench.live import report
from pyvpp.bench.live.figures import Samples, noise, summary
from pyvpp.bench.live.page import page
from pyvpp.bench.live.scenario import LOWER, LiveScenario, Metric

SCENARIO = LiveScenario(
    "tcp", "one stream", "uplink", "uplink", (Metric("rate", "Gbit/s"), Metric("p50", "us", LOWER), Metric("price", "ms")),
    lambda ends, conditions: {},
)  # fmt: skip
ROUNDS = [
    {"linux": {"rate": 10.0, "p50": 20.0}, "af_packet": {"rate": 9.0, "p50": 30.0, "price": 5.0}},
    {"linux": {"rate": 20.0, "p50": 10.0}, "af_packet": {"rate": 10.0, "p50": 15.0, "price": 7.0}},
    {"linux": {"rate": 10.0, "p50": 10.0}, "af_packet": {"rate": 8.0, "p50": 20.0, "price": 6.0}},
]


def a_live_run() -> dict:
    samples = Samples(SCENARIO)
    for number, ways in enumerate(ROUNDS):
        for way, measured in ways.items():
            samples.add(number, way, measured)
    live = {
        "tcp": "Python's sockets", "seconds": 0.5, "rounds": 3, "ways": ["linux", "af_packet"],
        "scenarios": [samples.as_json()], "absent": [{"lab": "uplink", "way": "af_xdp", "reason": "no <driver>"}],
    }  # fmt: skip
    machine = {
        "cpu": "x", "cpus": 4, "tsc_mhz": 2600.0, "kernel": "6", "python": "3", "numba": "0", "numpy": "2", "pyvpp": "0",
    }  # fmt: skip
    return {"schema": 1, "machine": machine, "scenarios": [], "errors": [], "live": live}


def metric(name: str) -> dict:
    (scenario,) = a_live_run()["live"]["scenarios"]
    return next(each for each in scenario["metrics"] if each["name"] == name)["ways"]


def test_a_ratio_is_taken_within_a_round():
    rate = metric("rate")
    assert rate["linux"]["median"] == 10 and rate["af_packet"]["median"] == 9  # whose ratio would be 0.9
    assert (rate["af_packet"]["ratio_least"], rate["af_packet"]["ratio"], rate["af_packet"]["ratio_most"]) == (
        0.5,
        0.8,
        0.9,
    )
    assert metric("p50")["af_packet"]["more"] == 10
    assert "ratio" not in rate["linux"]


def test_what_linux_has_no_figure_for_has_no_ratio():
    assert list(metric("price")) == ["af_packet"]
    assert "ratio" not in metric("price")["af_packet"]
    assert metric("price")["af_packet"]["samples"] == [5, 7, 6]


def test_a_round_that_failed_leaves_the_others():
    samples = Samples(SCENARIO)
    samples.add(0, "linux", {"rate": 10.0})
    samples.add(1, "linux", {"rate": 30.0})
    samples.add(1, "af_packet", {"rate": 15.0})
    found = samples.as_json()
    assert found["rounds"] == 2
    assert found["metrics"][0]["ways"]["af_packet"]["ratio"] == 0.5  # of round 1, not of round 0
    assert found["metrics"][0]["ways"]["linux"]["median"] == 20


@pytest.mark.parametrize(
    ("values", "expected"), [([5], 0), ([0, 0, 0], 0), ([4, 6], 0.4), ([9, 10, 12], 0.3), ([1, 10, 10, 10, 99], 0)]
)
def test_noise(values: list[float], expected: float):
    assert noise(values) == pytest.approx(expected)


def test_summary():
    assert summary([3.0, 1.0, 2.0]) == {"samples": [3, 1, 2], "median": 2, "least": 1, "most": 3, "noise": 1}


@pytest.mark.parametrize(
    ("value", "text"), [(12.345, "12.3"), (0.12345, "0.123"), (1234.5, "1,234"), (99.95, "100"), (0.0, "0")]
)
def test_figure(value: float, text: str):
    assert report.figure(value) == text


def test_the_table_says_it_all(capsys: pytest.CaptureFixture[str]):
    from pyvpp.bench.report import console

    console().print(report.live_table(a_live_run()["live"]))
    shown = capsys.readouterr().out
    assert "3 rounds of 0.5 s each, TCP by Python's sockets" in shown
    assert re.search(r"tcp +rate, Gbit/s +10 ±100% +9 ±22% +0\.80 \(0\.50\.\.0\.90\)", shown), shown
    assert re.search(r"p50, us .* \+10 us \(1\.50\)", shown), shown
    assert report.absent_lines(a_live_run()["live"]) == "pyvpp AF_XDP (uplink): not measured: no <driver>"


def test_one_round_has_no_noise():
    assert report.cell(summary([2.0])) == "2" and report.cell(None) == ""
    assert report.ratio({**summary([2.0]), "ratio": 0.5}, "Mpps") == "0.50" and report.ratio(summary([2.0]), "us") == ""


def test_the_page_shows_every_figure():
    text = page(json.loads(json.dumps(a_live_run())))
    assert text.count("<h2>") == 3 and "no &lt;driver&gt;" in text
    assert '<td class="words">one stream</td>' in text and "0.80 (0.50..0.90)" in text
    assert "pyvpp af_packet" in text and "AF_XDP (uplink): not measured" in text


def test_a_busy_machine_is_told():
    assert report.load_line({}) == ""
    assert (
        report.load_line({"load": 0.5, "others_busy": 0.1}) == "load average 0.5, others took 0.1 processors meanwhile"
    )
    run = a_live_run()
    run["machine"].update(load=9.5, others_busy=3.2, stolen=0.0)
    assert report.load_line(run["machine"]).startswith("the machine was busy: load average 9.5, others took 3.2")
    assert '<p class="warning">The machine was busy' in page(run) and "least of several" not in page(run)
