# SPDX-License-Identifier: Apache-2.0
"""A live run as one HTML page: a plot of the ratios to Linux, then every figure."""

from html import escape
from typing import Any

from pyvpp.bench.live.report import METHOD, TITLES, absent_lines, cell, load_line, ratio
from pyvpp.bench.page import ACCENT, SECOND, heading, plot, rows, whole

COLOURS = {"af_packet": ACCENT, "af_xdp": SECOND}


def page(run: dict[str, Any]) -> str:
    live = run["live"]
    parts = [heading(run, load_line), f'<p class="quiet">{escape(conditions(live))}</p>']
    if live["absent"]:
        parts.append(f'<p class="quiet">{escape(absent_lines(live))}</p>')
    parts += [ratio_plot(live, better) for better in ("higher", "lower")]
    parts.append(figures_table(live))
    return whole(parts)


def conditions(live: dict[str, Any]) -> str:
    return f"Live traffic, {live['rounds']} rounds of {live['seconds']:g} s each, TCP by {live['tcp']}. {METHOD}"


def ratio_plot(live: dict[str, Any], better: str) -> str:
    """Bars of what has a ratio and is better when higher, or lower; their ends are the extremes of the rounds."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for way in reversed(live["ways"]):
        found = [
            (f"{scenario['name']}: {metric['name']}", metric["ways"][way])
            for scenario in live["scenarios"]
            for metric in scenario["metrics"]
            if metric["better"] == better and "ratio" in metric["ways"].get(way, {})
        ]
        if found:
            figure.add_bar(
                y=[name for name, _ in found],
                x=[result["ratio"] for _, result in found],
                name=TITLES[way],
                orientation="h",
                marker={"color": COLOURS[way]},
                error_x={
                    "type": "data", "symmetric": False, "thickness": 1, "width": 4,
                    "array": [result["ratio_most"] - result["ratio"] for _, result in found],
                    "arrayminus": [result["ratio"] - result["ratio_least"] for _, result in found],
                },
                hovertemplate="%{y}: %{x:.2f} of Linux<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    if not figure.data:
        return ""
    figure.add_vline(x=1, line={"width": 1, "dash": "dot"})
    figure.update_layout(barmode="group")
    figure.update_yaxes(autorange="reversed", dtick=1)
    figure.update_xaxes(title="Linux is 1", rangemode="tozero")
    bars = sum(len(bar.y) for bar in figure.data)
    title = {"higher": "Rates, as a part of Linux's", "lower": "Times and prices, in multiples of Linux's"}[better]
    text = {"higher": "Longer is better.", "lower": "Shorter is better."}[better]
    return plot(figure, title, f"{text} The thin line goes from the worst round to the best.", 140 + 24 * bars)


def figures_table(live: dict[str, Any]) -> str:
    ways = [way for way in live["ways"] if way != "linux"]
    header = ["scenario", "", "", "unit", "Linux"]
    for way in ways:
        header += [TITLES[way], "to Linux"]
    body = []
    for scenario in live["scenarios"]:
        for k, metric in enumerate(scenario["metrics"]):
            first = (scenario["name"], scenario["summary"]) if k == 0 else ("", "")
            cells = [(first[0], ""), (first[1], "words"), (metric["name"], "words"), (metric["unit"], "words")]
            cells.append((cell(metric["ways"].get("linux")), ""))
            for way in ways:
                result = metric["ways"].get(way)
                cells += [(cell(result), ""), (ratio(result, metric["unit"]), "")]
            body.append(cells)
    return "<h2>Every figure</h2>" + rows(header, body)
