# SPDX-License-Identifier: Apache-2.0
"""Figures for Prometheus: what `show metrics` prints and `pyvpp --metrics PORT` serves.

The engine's own are packets and bytes of interfaces, calls, vectors and clocks of nodes, their counters, the buffers.
A plugin declares more at module level:

    @metric("pyvpp_census_senders", help="senders heard of in the last 30 seconds")
    def senders(engine: Engine) -> float:
        return engine.stack.senders

    @metric("pyvpp_census_packets", help="packets by sender", counter=True, labels=("sender",))
    def packets(engine: Engine) -> Iterable[tuple[tuple[str, ...], float]]: ...

The function runs on the main thread whenever somebody asks. What it raises disables its plugin.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pyvpp.errors import OperatorError

if TYPE_CHECKING:
    from pyvpp.engine import Engine

Labelled = tuple[tuple[str, ...], float]
Figures = float | Iterable[Labelled]
Family: TypeAlias = Any
"""prometheus_client.core.CounterMetricFamily or GaugeMetricFamily; imported where needed, since it takes long."""
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LONGEST_REQUEST = 1 << 14
REQUEST_SECONDS = 10.0
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Metric:
    """A labelled function: what `metric` makes. It answers a number, or one for each combination of `labels`."""

    name: str
    help: str
    function: "Callable[[Engine], Figures]"
    counter: bool = False
    labels: tuple[str, ...] = ()

    def family(self, figures: Figures) -> Family:
        """As Prometheus' client has it. Raises ValueError for figures without the labels that were declared."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kind: Any = CounterMetricFamily if self.counter else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for values, figure in [((), figures)] if isinstance(figures, int | float) else figures:
            if len(values) != len(self.labels):
                raise ValueError(
                    f"metric {self.name}: {len(values)} labels (expected {', '.join(self.labels) or 'none'})"
                )
            family.add_metric(list(map(str, values)), figure)
        return family


def metric(
    name: str, *, help: str, counter: bool = False, labels: tuple[str, ...] = ()
) -> "Callable[[Callable[[Engine], Figures]], Metric]":
    """Declares the decorated function as a metric. `counter`: it only grows; its name gets `_total` at the end.

    Raises ValueError for a name, or a label, that Prometheus does not take.
    """
    for word in (name, *labels):
        if not NAME.fullmatch(word):
            raise ValueError(f"metric {name}: `{word}' is no name for Prometheus (expected letters, digits and _)")
    return lambda function: Metric(name, help, function, counter, labels)


def _by_interface(table: str, field: str | None = None) -> "Callable[[Engine], Iterator[Labelled]]":
    def figures(engine: "Engine") -> "Iterator[Labelled]":
        total = engine.tables[table].sum()
        for interface in engine.interfaces:
            row = total[interface.sw_if_index]
            yield (interface.name,), float(row[field] if field else row)

    return figures


def _by_node(column: str) -> "Callable[[Engine], Iterator[Labelled]]":
    def figures(engine: "Engine") -> "Iterator[Labelled]":
        for worker in engine.workers:
            for node in engine.graph:
                if count := int(worker.rows[column][node.index]):
                    yield (node.name, str(worker.index)), float(count)

    return figures


def _counters(engine: "Engine") -> "Iterator[Labelled]":
    for node in engine.graph:
        for counter, count in zip(node.counter_names, node.counts(), strict=False):
            yield (node.name, counter.text, counter.severity.value), float(count)


def _buffers(engine: Any) -> float:
    return float(engine.buffers.total)


def _free_buffers(engine: Any) -> float:
    return float(engine.free_buffers)


def _interface(name: str, help: str, table: str, field: str | None = None) -> Metric:
    return Metric(f"pyvpp_interface_{name}", help, _by_interface(table, field), True, ("interface",))


OWN = (
    _interface("rx_packets", "packets an interface has received", "interface_rx", "packets"),
    _interface("rx_bytes", "bytes an interface has received", "interface_rx", "bytes"),
    _interface("tx_packets", "packets an interface has sent", "interface_tx", "packets"),
    _interface("tx_bytes", "bytes an interface has sent", "interface_tx", "bytes"),
    _interface("drops", "packets dropped that an interface has received", "interface_drops"),
    Metric("pyvpp_node_calls", "calls of a node on a worker", _by_node("calls"), True, ("node", "worker")),
    Metric("pyvpp_node_vectors", "packets a node has had", _by_node("vectors"), True, ("node", "worker")),
    Metric("pyvpp_node_clocks", "clocks a node has taken", _by_node("clocks"), True, ("node", "worker")),
    Metric("pyvpp_node_counter", "what nodes count, see show errors", _counters, True, ("node", "reason", "severity")),
    Metric("pyvpp_buffers", "buffers there are", _buffers),
    Metric("pyvpp_buffers_free", "buffers that hold no packet", _free_buffers),
)


class _Collector:
    """What a registry asks: every metric, one after the other."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def collect(self) -> Iterator[Family]:
        engine = self._engine
        for each in (*OWN, *engine.declarations.metrics.values()):
            if engine.is_disabled(each.function):
                continue
            try:
                family = each.family(each.function(engine))
            except Exception as error:
                if not engine.blame(each.function, error):
                    raise
            else:
                yield family


def exposition(engine: "Engine") -> str:
    """All metrics in Prometheus' text format."""
    from prometheus_client.exposition import generate_latest
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(_Collector(engine))
    return generate_latest(registry).decode()


def address_of(text: str) -> tuple[str, int]:
    """Host and port of `--metrics [ADDRESS:]PORT`. Raises OperatorError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise OperatorError(f"--metrics {text}: `{port}' is no port (expected [ADDRESS:]PORT)")
    return host.strip("[]") or HOST, int(port)


async def serve(engine: "Engine", text: str) -> asyncio.Server:
    """Listens for Prometheus, on the loopback address unless another is named. Raises OperatorError."""
    host, port = address_of(text)
    try:
        return await asyncio.start_server(lambda r, w: _answer(engine, r, w), host, port, limit=LONGEST_REQUEST)
    except OSError as error:
        raise OperatorError(f"--metrics {text}: {error.strerror}") from None


async def _answer(engine: "Engine", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of HTTP/1.0, whatever comes: GET /metrics, and 404 for anything else."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            request = await reader.readuntil(b"\r\n\r\n")
            method, _, rest = request.decode("latin-1").partition(" ")
            found = method == "GET" and rest.split(" ")[0].partition("?")[0] == "/metrics"
            status, body = ("200 OK", exposition(engine)) if found else ("404 Not Found", "see /metrics\n")
            from prometheus_client.exposition import CONTENT_TYPE_LATEST

            head = f"HTTP/1.0 {status}\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\nConnection: close\r\n\r\n"
            writer.write((head + body).encode())
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # it went away, or is none we could answer
    finally:
        writer.close()
