# SPDX-License-Identifier: Apache-2.0
"""`confirm`: what was taken over with --confirm may stay."""

from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError
from pyvpp.cli.registry import Output, command


@command("confirm", help="confirm", lasting=False)
def confirm(engine: Any, args: Arguments) -> str:
    """Everything stays as it is, although pyvpp was started with --confirm SECONDS."""
    args.end()
    if engine.configuration.frozen:  # the time is on its way to another process, which would not hear of it
        raise CommandError(engine.configuration.frozen)
    if engine.confirmation is None:
        raise CommandError("there is nothing that could be given back (expected the command pyvpp)")
    return str(engine.confirmation.confirm())


@command("show confirm", help="show confirm")
def show_confirm(engine: Any, args: Arguments) -> Output:
    """Whether something waits to be confirmed, and for how long it will."""
    args.end()
    left = None if engine.confirmation is None else engine.confirmation.left
    text = "nothing waits to be confirmed" if left is None else engine.confirmation.told
    return Output(text, {"seconds_left": None if left is None else round(left, 1)})
