# SPDX-License-Identifier: Apache-2.0
"""Commands about the process that goes on after this one: upgrade, and what it would be told."""

from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError
from pyvpp.cli.registry import Output, command


@command("upgrade", help="upgrade")
async def upgrade(engine: Any, args: Arguments) -> str:
    """Have a new process, of the pyvpp that is installed by now, go on in place of this one, without a packet lost.

    It gets the sockets, the rings with what is in them, the TAPs and the commands that were given. When it fails on
    the way, this process goes on. Counters begin anew; traces, captures and packet generators end.
    """
    args.end()
    if engine.upgrade is None:
        raise CommandError("there is nobody who could start another process (expected the command pyvpp)")
    return str(await engine.upgrade())


@command("show configuration", help="show configuration")
def show_configuration(engine: Any, args: Arguments) -> Output:
    """The commands that another process would repeat to be as this one: after `upgrade`, or after a crash."""
    args.end()
    entries = engine.configuration.entries
    return Output("\n".join(each.line for each in entries), [each.line for each in entries])
