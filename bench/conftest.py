# SPDX-License-Identifier: Apache-2.0
"""Benches are timed by `bench.harness.CLOCK`, a packet at a time; `make bench` turns the timing on.

Without --benchmark-enable each runs once: `make test` does that, so that none rots.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness import CLOCK, VECTORS, close_stands
from tests.conftest import use_cache_of_these_sources

HERE = Path(__file__).resolve().parent

use_cache_of_these_sources()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases of a module that names some: each node at some vector sizes, and its reference."""
    cases = getattr(metafunc.module, "CASES", ())
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", cases, ids=[case.node for case in cases])
        if "vector" in metafunc.fixturenames:
            metafunc.parametrize("vector", VECTORS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        group = parameters["case"].node if "case" in parameters else item.path.stem.removeprefix("bench_")
        item.add_marker(pytest.mark.benchmark(timer=CLOCK, group=group))


@pytest.fixture(scope="session", autouse=True)
def stands() -> Iterator[None]:
    yield
    close_stands()
