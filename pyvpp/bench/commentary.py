# SPDX-License-Identifier: Apache-2.0
"""What a bench says on the way: its parts as they are done, and what is under way meanwhile."""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text


class Commentary:
    """The voice of a session; `console` is where tables go."""

    console: Console

    def show(self, what: Any) -> None:
        """A part that is done."""
        self.told("")
        self.console.print(Text(what) if isinstance(what, str) else what)

    def told(self, what: str) -> None:
        """What is under way: one line that the next one replaces, on a terminal only."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{what}{' ...' if what else ''}", end="", file=sys.stderr, flush=True)

    def complain(self, what: str, error: Exception) -> None:
        """What could not be measured, and why."""
        self.told("")
        print(f"pyvpp bench: {what}: {error}", file=sys.stderr, flush=True)
