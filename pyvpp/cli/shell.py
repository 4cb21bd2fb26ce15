# SPDX-License-Identifier: Apache-2.0
"""pyvppctl without a command: a shell with completion and history, or commands from a pipe, line by line."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from pyvpp.cli.client import Client, NoServerError, show, tell

PROMPT = "pyvpp# "
LEAVE = ("quit", "exit", "q")


class ServerCompleter(Completer):
    """Asks the server, which knows the interfaces' names too."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        typed = line.rpartition(" ")[2]
        try:
            found = self._client.complete(line)
        except NoServerError:
            return
        for word, text in found:
            yield Completion(word + " ", start_position=-len(typed), display=word, display_meta=text)


def interact(client: Client, as_json: bool = False) -> int:
    """Read and run commands until the operator leaves."""
    session: PromptSession[str] = PromptSession(
        PROMPT, history=_history(), completer=ServerCompleter(client), complete_while_typing=False
    )
    while True:
        try:
            line = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return 0
        if line.strip() in LEAVE:
            return 0
        if line.strip():
            show(client.command(line, as_json, tell))


def read_lines(client: Client, as_json: bool = False) -> int:
    """Run commands from standard input. One that fails does not stop the rest, but makes the exit status 1."""
    status = 0
    for number, line in _statements(sys.stdin):
        if line.strip() in LEAVE:
            break
        status |= show(client.command(line, as_json, tell), prefix=f"line {number}: ")
    return status


def _statements(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """As in a script, a command goes on while a brace is open; but each runs as soon as it has arrived."""
    pending = ""
    first = 0
    for number, line in enumerate(lines, 1):
        if not pending:
            first = number
        pending += line
        if pending.count("{") <= pending.count("}") or pending.lstrip().startswith("#"):
            if pending.strip():
                yield first, pending.strip()
            pending = ""
    if pending.strip():
        yield first, pending.strip()


def _history() -> History:
    """The history file, or none where it cannot be written."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / "pyvpp" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(os.fspath(path))
