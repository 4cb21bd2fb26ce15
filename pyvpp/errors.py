# SPDX-License-Identifier: Apache-2.0
"""Errors that are the operator's to mend."""


class OperatorError(Exception):
    """Something the operator asked for cannot be done.

    The message is one line that stands on its own: it names the key (an option, an interface, a file), the value it had
    and what would be accepted instead. Commands print it as it is, without a traceback, and exit with status 1.
    """
