# SPDX-License-Identifier: Apache-2.0
"""Errors that are the operator's to mend, and how the others are told."""

import traceback
from pathlib import Path


class OperatorError(Exception):
    """Something the operator asked for cannot be done.

    The message is one line that stands on its own: it names the key (an option, an interface, a file), the value it had
    and what would be accepted instead. Commands print it as it is, without a traceback, and exit with its `status`.
    """

    status = 1


def in_one_line(error: BaseException, below: Path | None = None) -> str:
    """An exception that nobody expected: what it says and where it was raised, for the log.

    `below` a file or folder, whose author is told: where his own code was, if it was on the way.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [(trace.f_code.co_filename, line) for trace, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in frames if below is not None and Path(file).is_relative_to(below)]
    where = "".join(f" ({file}:{line})" for file, line in (own or frames)[-1:])
    return " ".join(f"{type(error).__name__}: {error}".split()) + where
