# SPDX-License-Identifier: Apache-2.0
import pytest

from pyvpp.bench.measure import Figures, NodeShare, Run, as_json, noise


def a_run(clocks: float) -> Run:
    nodes = {"pg-input": NodeShare(10.0, 256.0, 1000), "twice": NodeShare((clocks - 10) / 2, 128.0, 2000)}
    return Run(1000, 50_000, clocks, nodes)


FIGURES = Figures([a_run(clocks) for clocks in (70, 60, 90, 52, 61, 50, 55, 80, 58, 57)])


def test_the_best_run_is_the_figure_and_groups_are_neighbours_in_time():
    assert FIGURES.best.clocks == 50
    assert FIGURES.median == 59
    assert FIGURES.without_generation == 40
    assert FIGURES.groups == [60, 52, 50, 55, 57]
    assert FIGURES.groups_of("twice") == [25, 21, 20, 22.5, 23.5]
    assert FIGURES.groups_of("nowhere") == []


def test_noise_is_how_far_groups_lie_apart():
    assert noise([50, 60, 55]) == pytest.approx(0.2)
    assert noise([50]) == noise([]) == noise([0.0, 0.0]) == 0


def test_fewer_runs_than_groups():
    assert Figures([a_run(70), a_run(60)]).groups == [70, 60]


def test_json_adds_up_to_the_whole():
    found = as_json(FIGURES)
    assert found["clocks_per_packet"] == 50 and found["clocks_without_generation"] == 40
    assert found["runs"] == 10 and found["noise"] == 0.2
    assert found["mpps"] == 20 and found["ns_per_packet"] == 50 and found["packets"] == 1000
    assert sum(node["clocks_per_packet"] * node["share"] for node in found["nodes"]) == pytest.approx(50)
    assert [node["name"] for node in found["nodes"]] == ["twice", "pg-input"]  # the dearest first
