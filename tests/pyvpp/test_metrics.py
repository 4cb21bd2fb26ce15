# SPDX-License-Identifier: Apache-2.0
"""Metrics as Prometheus' own parser reads them; by HTTP too."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyvpp.errors import OperatorError
from pyvpp.metrics import Metric, address_of, exposition, metric, serve
from pyvpp.node import NodeCounter
from pyvpp.tables import COUNTER


class Counter(NodeCounter):
    SEEN = 0, 'packets "seen"\n'


class Table:
    def __init__(self, array: Any) -> None:
        self.array = array

    def sum(self) -> Any:
        return self.array


def engine_with(*metrics: Metric) -> Any:
    """As much of an engine as metrics read."""
    rx = np.zeros(2, COUNTER)
    rx["packets"][1], rx["bytes"][1] = 7, 700
    rows = {name: np.array([0, 3]) for name in ("calls", "vectors", "clocks")}
    blamed: list[tuple[Any, Exception]] = []
    return SimpleNamespace(
        tables={"interface_rx": Table(rx), "interface_tx": Table(rx), "interface_drops": Table(np.array([0, 5]))},
        interfaces=[SimpleNamespace(name="pg0", sw_if_index=1)],
        graph=[SimpleNamespace(name="a-node", index=1, counter_names=tuple(Counter), counts=lambda: np.array([9]))],
        workers=[SimpleNamespace(index=0, rows=rows)],
        buffers=SimpleNamespace(total=100), free_buffers=90,
        declarations=SimpleNamespace(metrics={each.name: each for each in metrics}),
        is_disabled=lambda function: any(function is other for other, _ in blamed),
        blame=lambda function, error: blamed.append((function, error)) is None, blamed=blamed,
    )  # fmt: skip


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@metric("test_sizes", help="by colour", counter=True, labels=("colour",))
def sizes(engine: Any) -> Any:
    return [(("red",), 1.0), (("green",), 2.0)]


@metric("test_level", help="how high")
def level(engine: Any) -> float:
    return 0.5


def test_the_engines_own_and_plugins():
    found = samples(exposition(engine_with(sizes, level)))
    assert found["pyvpp_interface_rx_packets_total", (("interface", "pg0"),)] == 7
    assert found["pyvpp_interface_tx_bytes_total", (("interface", "pg0"),)] == 700
    assert found["pyvpp_interface_drops_total", (("interface", "pg0"),)] == 5
    assert found["pyvpp_node_clocks_total", (("node", "a-node"), ("worker", "0"))] == 3
    counter = (("node", "a-node"), ("reason", 'packets "seen"\n'), ("severity", "error"))
    assert found["pyvpp_node_counter_total", counter] == 9
    assert (found["pyvpp_buffers", ()], found["pyvpp_buffers_free", ()]) == (100, 90)
    assert found["test_sizes_total", (("colour", "green"),)] == 2
    assert found["test_level", ()] == 0.5


def test_one_that_raises_is_blamed_and_left_out():
    @metric("test_broken", help="raises")
    def broken(engine: Any) -> float:
        raise LookupError("no figure")

    @metric("test_unlabelled", help="has labels nobody declared")
    def unlabelled(engine: Any) -> Any:
        return [(("red",), 1.0)]

    engine = engine_with(broken, unlabelled, level)
    found = samples(exposition(engine))
    assert ("test_level", ()) in found and not any(name.startswith(("test_b", "test_u")) for name, _ in found)
    assert [str(error) for _, error in engine.blamed] == [
        "no figure",
        "metric test_unlabelled: 1 labels (expected none)",
    ]
    exposition(engine)
    assert len(engine.blamed) == 2


def test_a_name_that_prometheus_does_not_take():
    with pytest.raises(ValueError, match="metric test-level: `test-level' is no name for Prometheus"):
        metric("test-level", help="")
    with pytest.raises(ValueError, match="`a b' is no name"):
        metric("test", help="", labels=("a b",))


@pytest.mark.parametrize(("text", "expected"), [("9482", ("127.0.0.1", 9482)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:80", ("::1", 80))])  # fmt: skip
def test_an_address(text, expected):
    assert address_of(text) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "host:", "http"])
def test_an_address_that_is_none(text):
    with pytest.raises(OperatorError, match=r"expected \[ADDRESS:\]PORT"):
        address_of(text)


def test_by_http():
    async def scenario() -> list[bytes]:
        server = await serve(engine_with(level), f"127.0.0.1:{await free_port()}")
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OperatorError, match=f"--metrics {port}: "):
            await serve(engine_with(), str(port))
        answers = []
        for request in (
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /else HTTP/1.1\r\n\r\n",
            b"nonsense\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answers.append(await reader.read())
            writer.close()
            await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answers

    found, missing, nonsense = asyncio.run(scenario())
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain;")
    assert samples(body.decode())["test_level", ()] == 0.5
    assert missing.startswith(b"HTTP/1.0 404") and nonsense.startswith(b"HTTP/1.0 404")


async def free_port() -> int:
    probe = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port: int = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    return port
