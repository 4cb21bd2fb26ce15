# SPDX-License-Identifier: Apache-2.0
"""`--html`: a run as one page that needs nothing else, to look at, to keep, to send to somebody.

The plots are plotly's (MIT): its script goes into the page once, which makes 5 MB of it, and in return every bar and
point tells its figures under the mouse, without a network. plotly is the optional extra `html`; matplotlib would make a
smaller page of pictures, at the price of three times as many packages to install, half of them native.
"""

from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

from pyvpp.bench.report import AXES, load_line, machine_lines, start_line
from pyvpp.bench.scenario import VPP_PROVENANCE
from pyvpp.errors import OperatorError

GENERATION = "pg-input"
GREY, INK, VPP, ACCENT, SECOND = "#c9ced6", "#1f2933", "#d1495b", "#1f77b4", "#e08e45"
PALETTE = (
    "#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#edc948", "#76b7b2", "#9c755f", "#ff9da7", "#3b5a6f", "#8cd17d",
    "#b6992d", "#2f7f79", "#d37295", "#a0cbe8", "#ffbe7d", "#d4a6c8", "#79706e", "#fabfd2",
)  # fmt: skip
TYPEFACE = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
STYLE = f"""
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 {TYPEFACE}; color: {INK}; background: #fff; }}
body {{ max-width: 1080px; margin: 2.5rem auto; padding: 0 1.5rem; }}
h1 {{ font-size: 1.7rem; margin: 0 0 .3rem; }} h2 {{ font-size: 1.2rem; margin: 2.4rem 0 .3rem; }}
p {{ margin: .3rem 0 .8rem; max-width: 56rem; }} .quiet {{ color: #5b6672; font-size: .88rem; white-space: pre-line; }}
.warning {{ background: #fdf3d7; border-left: 4px solid #e0a800; padding: .5rem .8rem; }}
.error {{ background: #fbe3e4; border-left: 4px solid {VPP}; padding: .5rem .8rem; white-space: pre-wrap; }}
table {{ border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #e4e7eb; }}
th {{ font-weight: 600; color: #5b6672; }} th:first-child, td:first-child, td.words {{ text-align: left; }}
td:first-child {{ white-space: nowrap; }}
td.good {{ color: #2b7a3d; }} td.bad {{ color: {VPP}; }}
"""


def require_plotly() -> None:
    """Asked before anything is measured. Raises OperatorError."""
    try:
        import plotly.graph_objects  # noqa: F401
    except ImportError:
        raise OperatorError("--html needs plotly: pip install 'pyvpp[html]'") from None


def page(run: dict[str, Any]) -> str:
    """The whole page."""
    parts = [heading(run)]
    if run["scenarios"]:
        parts += [summary(run["scenarios"]), nodes_plot(run["scenarios"]), without_generation_plot(run["scenarios"])]
    parts += [curve_plot(curve) for curve in run.get("curves", ())]
    if run.get("kernels"):
        parts.append(kernels_plot(run["kernels"]))
    if run.get("costs"):
        parts.append(costs_table(run["costs"]))
    parts.append(method())
    return whole(parts)


def write_page(run: dict[str, Any], path: Path, as_page: Callable[[dict[str, Any]], str] = page) -> None:
    """Raises OperatorError when plotly is missing or the file cannot be written."""
    require_plotly()
    try:
        path.write_text(as_page(run))
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None


def whole(parts: Iterable[str]) -> str:
    """Parts as a page that needs nothing else."""
    from plotly.offline import get_plotlyjs

    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>pyvpp bench</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{STYLE}</style>\n'
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


# ---- words and tables -----------------------------------------------------------------------------------------------
def heading(run: dict[str, Any], load_line: Callable[[dict[str, Any]], str] = load_line) -> str:
    machine = run["machine"]
    load = load_line(machine)
    busy = load.startswith("the machine was busy")
    lines = [f'<h1>pyvpp bench</h1><p class="quiet">{escape(machine_lines(machine))}</p>']
    if load:
        lines.append(f'<p class="{"warning" if busy else "quiet"}">{escape(load[0].upper() + load[1:])}.</p>')
    if run.get("start"):
        lines.append(f'<p class="quiet">{escape(start_line(run["start"]))}</p>')
    for failed in run.get("errors", ()):
        lines.append(f'<p class="error"><b>{escape(failed["name"])}</b>: {escape(failed["error"])}</p>')
    for absent in run.get("absent", ()):
        lines.append(f'<p class="quiet">{escape(absent["name"])}: {escape(absent["reason"])}</p>')
    return "\n".join(lines)


def rows(header: Iterable[str], body: Iterable[Iterable[tuple[str, str]]]) -> str:
    """A table; a cell is its text and its class."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = [
        "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for text, kind in cells) + "</tr>" for cells in body
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def summary(results: list[dict[str, Any]]) -> str:
    body = []
    for result in results:
        vpp = result.get("vpp")
        ours, without = result["clocks_per_packet"], result["clocks_without_generation"]
        body.append(
            [
                (result["name"], ""),
                (result.get("summary", ""), "words"),
                (f"{ours:.1f}", _better(ours, vpp and vpp["clocks_per_packet"])),
                (f"{vpp['clocks_per_packet']:g}" if vpp else "", ""),
                (f"{without:.1f}", _better(without, vpp and vpp["clocks_without_generation"])),
                (f"{vpp['clocks_without_generation']:g}" if vpp else "", ""),
                (f"{result['mpps']:.1f}", ""),
                (f"{100 * result['noise']:.1f}%", ""),
            ]
        )
    header = ("scenario", "", "clocks/packet", "VPP", "without generation", "VPP", "Mpps", "noise")
    return rows(header, body) + f'<p class="quiet">{escape(VPP_PROVENANCE)}</p>'


def _better(ours: float, theirs: float | None) -> str:
    return "" if theirs is None else "good" if ours < theirs else "bad"


def costs_table(costs: dict[str, Any]) -> str:
    body = []
    for cost in costs["rows"]:
        noise = f"{100 * cost['noise']:.1f}%" if cost["noise"] else ""
        more = f"{cost['more']:+.1f}" + ("" if cost["measurable"] or not noise else " (noise)")
        body.append([(cost["name"], ""), (more, ""), (noise, ""), (cost["note"], "words")])
    title = (
        f"<h2>What it costs while it is on</h2><p>On the path of {escape(costs['scenario'])}, clocks a packet more.</p>"
    )
    return title + rows(("on", "more clocks/packet", "noise", ""), body)


def method() -> str:
    return (
        "<h2>How it was measured</h2><p>Clocks are those of the cycle counter, from the generator's first byte to the "
        "buffer's return to the pool, checksums verified on input, counters on. A figure is the least of many short "
        "runs; noise is how far the least of five groups of them lie apart, which the bars of the curves show too. "
        "Packets caught at random moments of the run were compared byte by byte with a model in plain Python.</p>"
    )


# ---- plots ----------------------------------------------------------------------------------------------------------
def plot(figure: Any, title: str, text: str, height: int) -> str:
    """A plot below its title, with what it says."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 20, "t": 20, "b": 10},
        font={"family": TYPEFACE, "size": 13, "color": INK},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16 * 420 / height, "x": 0, "traceorder": "normal"},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(automargin=True, gridcolor="#e8ebef")
    figure.update_yaxes(automargin=True, gridcolor="#e8ebef")
    made: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return f"<h2>{escape(title)}</h2><p>{escape(text)}</p>{made}"


def share_of(node: dict[str, Any]) -> float:
    """A node's clocks for a packet of the whole path: not every packet comes to it, or it comes twice."""
    return float(node["clocks_per_packet"]) * float(node.get("share", 1))


def path_order(results: list[dict[str, Any]]) -> list[str]:
    """Nodes in the order packets meet them, over all paths: each as late as any path has it."""
    after: dict[str, set[str]] = {}
    for result in results:
        path = result.get("path") or [node["name"] for node in result["nodes"]]
        for k, name in enumerate(path):
            after.setdefault(name, set()).update(path[:k])
    order: list[str] = []
    waiting = list(after)
    while waiting:
        ready = [name for name in waiting if after[name] <= set(order)] or waiting[
            :1
        ]  # paths may contradict each other
        order.append(ready[0])
        waiting.remove(ready[0])
    return order


def nodes_plot(results: list[dict[str, Any]]) -> str:
    import plotly.graph_objects as go

    figure = go.Figure()
    names = [result["name"] for result in results]
    order = path_order(results)
    colours = dict(zip([name for name in order if name != GENERATION], PALETTE * 3, strict=False))
    for node in order:
        values = [next((share_of(n) for n in result["nodes"] if n["name"] == node), None) for result in results]
        figure.add_bar(
            y=names,
            x=values,
            name=node,
            orientation="h",
            marker={"color": colours.get(node, GREY), "line": {"color": "white", "width": 0.6}},
            hovertemplate="%{fullData.name}: %{x:.1f} clocks/packet<extra>%{y}</extra>",
        )
    with_vpp = [result for result in results if result.get("vpp")]
    figure.add_scatter(
        y=[result["name"] for result in with_vpp],
        x=[result["vpp"]["clocks_per_packet"] for result in with_vpp],
        name="VPP 26.10, all nodes",
        mode="markers",
        marker={"symbol": "diamond", "size": 11, "color": VPP, "line": {"color": "white", "width": 1}},
        hovertemplate="VPP 26.10: %{x:.0f} clocks/packet<extra>%{y}</extra>",
    )
    for result in results:
        figure.add_annotation(
            y=result["name"],
            x=sum(share_of(node) for node in result["nodes"]),
            text=f"{result['clocks_per_packet']:.0f}",
            showarrow=False,
            xanchor="left",
            xshift=4,
        )
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="clocks per packet", rangemode="tozero")
    text = (
        "Where the clocks of a packet go, node by node in the order of the path; the diamond is VPP's whole path. "
        "What is fused counts at the node that received the frame."
    )
    return plot(figure, "Clocks per packet, by node", text, 190 + 34 * len(results) + 18 * (len(order) // 6))


def without_generation_plot(results: list[dict[str, Any]]) -> str:
    import plotly.graph_objects as go

    with_vpp = [result for result in results if result.get("vpp")]
    if not with_vpp:
        return ""
    names = [result["name"] for result in with_vpp]
    figure = go.Figure()
    for name, colour, values in (
        ("pyvpp", ACCENT, [result["clocks_without_generation"] for result in with_vpp]),
        ("VPP 26.10", VPP, [result["vpp"]["clocks_without_generation"] for result in with_vpp]),
    ):
        figure.add_bar(
            x=names,
            y=values,
            name=name,
            marker={"color": colour},
            text=[f"{value:.0f}" for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{fullData.name}: %{y:.1f} clocks/packet<extra>%{x}</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_yaxes(title="clocks per packet", rangemode="tozero")
    notes = [f"{result['name']}: VPP's is {result['vpp']['note']}" for result in with_vpp if result["vpp"].get("note")]
    text = "The same without the packet generator's own clocks, which weigh more in VPP." + "".join(
        f" {note}." for note in notes
    )
    return plot(figure, "Without packet generation", text, 400)


TITLES = {
    "vector_size": (
        "What vectors buy",
        "The same packets, so many at a time. The fixed price of a call is shared by more.",
    ),
    "packet_bytes": (
        "Packet size",
        "Ethernet header included. Only headers are touched by nodes; the generator copies the whole packet.",
    ),
    "routes": (
        "Size of the routing table",
        "Routes like the public Internet's; destinations at random inside routes drawn at random.",
    ),
}


def curve_plot(curve: dict[str, Any]) -> str:
    import plotly.graph_objects as go

    figure = go.Figure()
    points = curve["points"]
    xs = [point["x"] for point in points]
    lines = [
        ("all nodes", ACCENT, [point["clocks_per_packet"] for point in points], "solid"),
        ("without pg-input", SECOND, [point["clocks_without_generation"] for point in points], "solid"),
    ]
    grown = most_grown(points)
    if grown:
        by_point = [{node["name"]: share_of(node) for node in point["nodes"]} for point in points]
        lines.append((grown, PALETTE[2], [nodes.get(grown, 0.0) for nodes in by_point], "dot"))
    for name, colour, values, dash in lines:
        figure.add_scatter(
            x=xs,
            y=values,
            name=name,
            mode="lines+markers+text",
            text=[f"{value:.0f}" if name == "all nodes" else "" for value in values],
            textposition="top right",
            cliponaxis=False,
            line={"color": colour, "width": 2.5, "dash": dash},
            marker={"size": 7},
            error_y=spread_of(points) if name == "all nodes" else None,
            hovertemplate="%{fullData.name}: %{y:.1f} clocks/packet<extra>%{x:,}</extra>",
        )
    for name, key, symbol in (
        ("VPP 26.10, all nodes", "clocks_per_packet", "diamond"),
        ("VPP 26.10 without pg-input", "clocks_without_generation", "diamond-open"),
    ):
        if curve.get("vpp"):
            figure.add_scatter(
                x=[each["x"] for each in curve["vpp"]],
                y=[each[key] for each in curve["vpp"]],
                name=name,
                mode="markers",
                marker={"symbol": symbol, "size": 11, "color": VPP, "line": {"width": 1.5, "color": VPP}},
                hovertemplate="%{fullData.name}: %{y:.0f} clocks/packet<extra>%{x:,}</extra>",
            )
    figure.update_xaxes(type="log", tickvals=xs, ticktext=[f"{x:,}" for x in xs], title=AXES[curve["over"]])
    figure.update_yaxes(title="clocks per packet", rangemode="tozero")
    title, text = TITLES[curve["over"]]
    return plot(figure, f"{title} ({curve['name']})", text, 420)


def spread_of(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Bars from the least up to the worst group of runs: the figure is the least, so noise is above it only."""
    above = [max(point["groups"]) - point["clocks_per_packet"] for point in points]
    none = [0.0] * len(points)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": none, "thickness": 1, "width": 4}


def most_grown(points: list[dict[str, Any]]) -> str | None:
    """The node, other than the generator, that takes most of the difference between the curve's ends; None: no one."""
    first, last = ({node["name"]: share_of(node) for node in point["nodes"]} for point in (points[0], points[-1]))
    growth = {name: abs(last.get(name, 0.0) - first.get(name, 0.0)) for name in (*first, *last) if name != GENERATION}
    most = max(growth, key=growth.__getitem__, default=None)
    whole = abs(points[-1]["clocks_per_packet"] - points[0]["clocks_per_packet"])
    return most if most and growth[most] > whole / 4 else None


def kernels_plot(kernels: list[dict[str, Any]]) -> str:
    import plotly.graph_objects as go

    ordered = sorted(kernels, key=lambda kernel: -kernel["clocks_per_packet"])
    figure = go.Figure()
    figure.add_bar(
        y=[kernel["name"] for kernel in ordered],
        x=[kernel["clocks_per_packet"] for kernel in ordered],
        orientation="h",
        marker={"color": ACCENT},
        text=[f"{kernel['clocks_per_packet']:.1f}" for kernel in ordered],
        textposition="outside",
        cliponaxis=False,
        customdata=[
            ", ".join(f"{point['vector_size']}: {point['clocks_per_packet']:.1f}" for point in kernel["vectors"])
            for kernel in ordered
        ],
        hovertemplate="%{y}<br>clocks/packet by vector size: %{customdata}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", dtick=1)
    figure.update_xaxes(title="clocks per packet")
    text = "On frames as they reach the node, their memory in the caches; under the mouse, the other vector sizes."
    return plot(figure, "Each kernel alone", text, 120 + 24 * len(ordered))
