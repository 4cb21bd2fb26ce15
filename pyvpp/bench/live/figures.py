# SPDX-License-Identifier: Apache-2.0
"""Figures of the rounds and what they say: medians, ratios to Linux, how far to trust them. All of it is JSON.

A ratio is taken within a round, where both ways had the same minute of the machine, and its median given; the noise of
a figure is how far the middle half of the rounds lies apart, as a part of the median.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from pyvpp.bench.live.labs import LINUX
from pyvpp.bench.live.scenario import LiveScenario, Measured, Metric


class Samples:
    """What the rounds gave, by way; a round in which a way failed has no figure for it."""

    def __init__(self, scenario: LiveScenario) -> None:
        self.scenario = scenario
        self.rounds: list[dict[str, Measured]] = []

    def add(self, number: int, way: str, measured: Measured) -> None:
        """The figures of a round, counted from 0."""
        while len(self.rounds) <= number:
            self.rounds.append({})
        self.rounds[number][way] = measured

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.scenario.name,
            "summary": self.scenario.summary,
            "rounds": len(self.rounds),
            "metrics": [self._metric(metric) for metric in self.scenario.metrics],
        }

    def _metric(self, metric: Metric) -> dict[str, Any]:
        ways = {}
        for way in self.scenario.ways:
            values = [each[way][metric.name] for each in self.rounds if metric.name in each.get(way, {})]
            if values:
                ways[way] = {**summary(values), **self._beside_linux(metric.name, way)}
        return {"name": metric.name, "unit": metric.unit, "better": metric.better, "ways": ways}

    def _beside_linux(self, metric: str, way: str) -> dict[str, Any]:
        pairs = [
            (each[way][metric], each[LINUX][metric])
            for each in self.rounds
            if way != LINUX and metric in each.get(way, {}) and each.get(LINUX, {}).get(metric)
        ]
        if not pairs:
            return {}
        ratios = [value / linux for value, linux in pairs]
        more = statistics.median(value - linux for value, linux in pairs)
        return {
            "ratio": round(statistics.median(ratios), 4), "ratio_least": round(min(ratios), 4),
            "ratio_most": round(max(ratios), 4), "more": round(more, 4),
        }  # fmt: skip


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and noise of a figure's samples, which stay with it in the order of the rounds."""
    return {
        "samples": [round(value, 4) for value in values],
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
        "noise": round(noise(values), 4),
    }


def noise(values: Sequence[float]) -> float:
    """The distance between the quartiles as a part of the median; of two or three values, between the extremes."""
    middle = statistics.median(values)
    if len(values) < 2 or middle == 0:
        return 0.0
    if len(values) < 4:
        return (max(values) - min(values)) / middle
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle
