# SPDX-License-Identifier: Apache-2.0
"""Events of the control plane: who changes something fires, who cares has subscribed by name."""

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Events:
    """`on(name, function)` subscribes; `fire(name, ...)` calls all subscribers in the order they came.

    What one raises is raised by `fire`, unless `blame` answers that it was a plugin's, which is disabled now.
    """

    def __init__(self, blame: Callable[[Callable[..., Any], Exception], bool] = lambda function, error: False) -> None:
        self._blame = blame
        self._subscribers: dict[str, list[Callable[..., None]]] = defaultdict(list)

    def on(self, name: str, function: Callable[..., None]) -> None:
        """Has a function called whenever the event fires."""
        self._subscribers[name].append(function)

    def off(self, name: str, function: Callable[..., None]) -> None:
        """Ends that. Raises ValueError when it was not."""
        self._subscribers[name].remove(function)

    def forget(self, unwanted: Callable[[Callable[..., Any]], bool]) -> None:
        """Ends every subscription of functions that `unwanted` says True of."""
        for functions in self._subscribers.values():
            functions[:] = [function for function in functions if not unwanted(function)]

    def copy(self) -> dict[str, list[Callable[..., None]]]:
        """Who has subscribed, for `restore`."""
        return {name: list(functions) for name, functions in self._subscribers.items()}

    def restore(self, subscribers: dict[str, list[Callable[..., None]]]) -> None:
        """What `copy` answered."""
        self._subscribers = defaultdict(list, subscribers)

    def fire(self, name: str, *args: Any) -> None:
        """Calls all subscribers with these arguments."""
        for function in list(self._subscribers[name]):
            try:
                function(*args)
            except Exception as error:
                if not self._blame(function, error):
                    raise
