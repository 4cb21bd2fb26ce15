# SPDX-License-Identifier: Apache-2.0
"""Events of the control plane: who changes something fires, who cares has subscribed by name."""

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Events:
    """`on(name, function)` subscribes; `fire(name, ...)` calls all subscribers in the order they came."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[Callable[..., None]]] = defaultdict(list)

    def on(self, name: str, function: Callable[..., None]) -> None:
        self._subscribers[name].append(function)

    def off(self, name: str, function: Callable[..., None]) -> None:
        self._subscribers[name].remove(function)

    def fire(self, name: str, *args: Any) -> None:
        for function in list(self._subscribers[name]):
            function(*args)
