# SPDX-License-Identifier: Apache-2.0
"""Errors that are the operator's to mend, and how the others are told."""


class OperatorError(Exception):
    """Something the operator asked for cannot be done.

    The message is one line that stands on its own: it names the key (an option, an interface, a file), the value it had
    and what would be accepted instead. Commands print it as it is, without a traceback, and exit with its `status`.
    """

    status = 1


def in_one_line(error: BaseException) -> str:
    """An exception that nobody expected: what it says and where it was raised, for the log."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + where
