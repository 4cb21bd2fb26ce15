# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from pyvpp.bench import report
from pyvpp.bench.cost import Cost
from pyvpp.bench.machine import Neighbours, machine, resident_bytes, warning
from tests.pyvpp.bench.runs import a_cost, a_curve, a_kernel, a_node, a_run, a_scenario


def shown(what: Any) -> str:
    console = report.console()
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_scenarios_nodes_and_their_sum():
    nodes = [a_node("ip4-lookup", 12.34, 12.34, 13.57, share=2.0), a_node("pg-input", 11.0)]
    text = shown(report.scenario_table(a_scenario("ip4", 54.4, nodes=nodes)))
    assert ["ip4-lookup", "12.3", "10.0%", "256.0", "200%"] in rows(text)
    assert ["all", "54.4", "1.0%"] in rows(text)
    assert ["all", "without", "pg-input", "44.4"] in rows(text)
    assert "64 bytes, vectors of 256, 1 route" in text and "VPP 132 / 66" in text and "output verified" in text
    assert "output not verified" in shown(report.scenario_table(a_scenario("ip4", 54.4, verified=False)))


def test_a_line_a_scenario_beside_vpp():
    text = shown(report.summary_table([a_scenario("ip4", 54.4), a_scenario("odd", 30.0, vpp=None)]))
    assert ["ip4", "54.4", "44.4", "1.0%", "55.4", "47.79", "132", "/", "66"] in rows(text)
    assert ["odd", "30.0", "20.0", "1.0%", "31.0", "86.67"] in rows(text)
    assert "VPP 26.10: one worker" in text


def test_curves_kernels_and_costs():
    text = shown(report.curve_table(a_curve("routes", (1, 54.4), (1_000_000, 90.0))))
    assert ["1,000,000", "90.0", "80.0", "1.0%", "28.89"] in rows(text)
    text = shown(report.kernel_table([a_kernel("ip4-lookup", 9.0), a_kernel("few", 9.0) | {"vectors": [
        {"vector_size": 1, "clocks_per_packet": 50.0}, {"vector_size": 117, "clocks_per_packet": 9.0},
    ]}], ["tap-tx"]))  # fmt: skip
    assert ["ip4-lookup", "2304.0", "9.0", "1.0%", "ip4"] in rows(text)
    assert ["few", "50.0", "9.0", "(117)", "1.0%", "ip4"] in rows(text)
    assert "not measured: tap-tx." in " ".join(text.split())
    text = shown(report.cost_table([a_cost("trace", 1800.0), a_cost("off", 0.1), a_cost("fixed", 0.7, 0)], "ip4"))
    assert ["trace", "+1800.0", "1850.0", "50.0", "1.0%"] in rows(text)
    assert ["off", "+0.1,", "within", "noise", "50.1", "50.0", "1.0%"] in rows(text)
    assert ["fixed", "+0.7", "50.7", "50.0"] in rows(text)


def test_where_the_packets_of_a_capture_went():
    fate = {
        "arrived": 1200,
        "sent": {"pg1": 1100},
        "dropped": 90,
        "slow_path": 10,
        "held": 0,
        "counters": {"n: no": 90},
    }
    text = report.fate_lines({"fate": fate, "capture_packets": 1000, "pg0_mac": "02:00:00:00:00:01"})
    assert (
        "1,000 packets in the capture; of 1,200 that arrived: sent 1,100 by pg1; dropped 90; to nodes in Python 10"
        in text
    )
    assert "02:00:00:00:00:01" in text and "n: no: 90" in text and "held" not in text
    assert "3 buffers are still held" in report.fate_lines({"fate": fate | {"held": 3}, "capture_packets": 1})


def test_the_reader_is_warned_of_neighbours():
    assert "others took 0.05 processors" in report.load_line(a_run()["machine"])
    busy = a_run()["machine"] | {"others_busy": 1.5}
    assert report.load_line(busy).startswith("the machine was busy: others took 1.5 processors")
    assert warning({"others_busy": 0.0, "stolen": 0.2})
    assert report.load_line({"cpu": "x"}) == ""


@pytest.mark.parametrize(("more", "noise", "measurable"), [(5, 0.01, True), (5, 0.11, False), (0.4, 0.0, False)])
def test_a_cost_is_one_when_it_is_more_than_the_noise(more: float, noise: float, measurable: bool):
    cost = Cost("x", 50.0, 50.0 + more, noise)
    assert cost.measurable is measurable
    assert cost.as_json()["more"] == pytest.approx(more)


@pytest.mark.slow  # the cycle counter is read compiled only
def test_what_is_said_of_the_machine():
    found = machine("off")
    assert found["pages"] == "ordinary pages" and found["cpus"] >= 1 and found["tsc_mhz"] > 100
    assert report.machine_lines(found).count("\n") == 1
    assert resident_bytes() > 10 << 20
    shares = Neighbours().shares()
    assert set(shares) == {"load", "others_busy", "stolen"} and min(shares.values()) >= 0
