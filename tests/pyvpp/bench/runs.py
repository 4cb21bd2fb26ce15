# SPDX-License-Identifier: Apache-2.0
"""Runs made up for tests of what is shown and compared."""

from typing import Any


def a_node(name: str, clocks: float, *groups: float, share: float = 1.0) -> dict[str, Any]:
    return {
        "name": name,
        "clocks_per_packet": clocks,
        "vectors_per_call": 256.0,
        "share": share,
        "groups": list(groups) or [clocks],
    }


def a_scenario(name: str, clocks: float, *groups: float, nodes: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "packet_bytes": 64,
        "vector_size": 256,
        "routes": 1,
        "packets": 1000,
        "seconds": 0.1,
        "mpps": 2600 / clocks,
        "ns_per_packet": clocks / 2.6,
        "clocks_per_packet": clocks,
        "clocks_without_generation": clocks - 10,
        "clocks_median": clocks + 1,
        "runs": 50,
        "groups": list(groups) or [clocks],
        "noise": 0.01,
        "nodes": list(nodes) or [a_node("pg-input", 10.0), a_node("other", clocks - 10)],
        "verified": True,
        "summary": "a scenario <of a test>",
        "vpp": {"clocks_per_packet": 132.0, "clocks_without_generation": 66.0, "note": ""},
        **more,
    }


def a_curve(over: str, *points: tuple[int, float], **more: Any) -> dict[str, Any]:
    made = [{"x": x, **a_scenario("p", clocks)} for x, clocks in points]
    return {"name": "ip4", "over": over, "points": made, **more}


def a_kernel(name: str, clocks: float, *groups: float) -> dict[str, Any]:
    return {
        "name": name,
        "traffic": "ip4",
        "clocks_per_packet": clocks,
        "noise": 0.01,
        "groups": list(groups) or [clocks],
        "vectors": [{"vector_size": n, "clocks_per_packet": clocks * 256 / n} for n in (1, 256)],
    }


def a_cost(name: str, more: float, noise: float = 0.01) -> dict[str, Any]:
    return {
        "name": name,
        "clocks_per_packet": 50 + more,
        "clocks_without": 50.0,
        "more": more,
        "noise": noise,
        "measurable": abs(more) > 50 * noise,
        "note": "",
    }


def a_run(*scenarios: dict[str, Any], **more: Any) -> dict[str, Any]:
    machine = {
        "cpu": "A processor", "cpus": 4, "tsc_mhz": 2600.0, "kernel": "6.1", "python": "3.11.7", "numba": "0.68",
        "numpy": "2.4", "pyvpp": "0.1.0", "pages": "ordinary pages", "load": 0.1, "others_busy": 0.05, "stolen": 0.0,
    }  # fmt: skip
    return {"schema": 1, "machine": machine, "scenarios": list(scenarios), "absent": [], "errors": [], **more}
