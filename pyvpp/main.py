# SPDX-License-Identifier: Apache-2.0
"""`pyvpp`: takes uplinks over and runs until told to stop; and its subcommands."""

import argparse
import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from pyvpp.cli.logbuffer import log_buffer
from pyvpp.daemon import HandedOver, run_first, run_on
from pyvpp.errors import OperatorError
from pyvpp.options import DEFAULT_HOOKS, DEFAULT_RUNTIME_DIR, HANDOVER, SUBCOMMANDS, Parser, check, parser
from pyvpp.plugin.find import give_path, given_paths
from pyvpp.service import is_managed

if TYPE_CHECKING:
    from pyvpp.heir import Heir


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status; an operator's mistake is one line on standard error."""
    argv = sys.argv[1:] if argv is None else argv
    heir = None
    try:
        if argv and argv[0] in SUBCOMMANDS:
            return subcommand(argv[0], argv[1:])
        if HANDOVER in os.environ:
            from pyvpp.heir import Heir

            heir = Heir.by_environment()
        return run(read_options(argv), heir)
    except OperatorError as error:
        if heir is not None and not heir.goes_on:
            heir.give_up(str(error))
        print(f"pyvpp: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130


def read_options(argv: list[str]) -> argparse.Namespace:
    """The command line, and before it what the file of `--config` says. Raises OperatorError."""
    options = parser().parse_args(argv)
    options.settings = {}
    if options.config is not None:
        from pyvpp.config import as_arguments, read_file

        said, plugins = read_file(options.config)
        options = parser().parse_args([*as_arguments(options.config, said, parser()), *argv])
        options.settings = plugins
    return options


def subcommand(name: str, argv: list[str]) -> int:
    if name == "restore":
        p = Parser(prog="pyvpp restore", description="Give Linux its NIC back from the journal.")
        p.add_argument("--runtime-dir", default=DEFAULT_RUNTIME_DIR)
        p.add_argument("--hooks", default=DEFAULT_HOOKS, metavar="DIR", help="programs to run when it is done")
        options = p.parse_args(argv)
        from pyvpp.linux.hooks import Hooks
        from pyvpp.linux.restore_hooked import restore_hooked

        problems, failures = restore_hooked(options.runtime_dir, Hooks(options.hooks), "crash")
        for problem in (*problems, *failures):
            print(f"pyvpp restore: {problem}", file=sys.stderr)
        return 1 if problems else 0
    return int(importlib.import_module(f"pyvpp.{name}").main(argv))


def ended(status: int) -> int:
    """The exit status, for the interpreter to end with. A worker that hangs goes on while that takes everything apart,
    and would meet memory that is gone: where there is one, the process ends here."""
    from pyvpp.worker import is_any_left

    if is_any_left():
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
    return status


def run(options: argparse.Namespace, heir: "Heir | None" = None) -> int:
    """The main job, in the order that keeps the gap short: guardian, compile, look, take over, serve, restore.

    An heir finds all that done, and goes on with it.
    """
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger().addHandler(log_buffer)  # what `show logging` shows
    check(options)
    for path in options.plugin:
        give_path(path)
    if options.watch and not given_paths():
        raise OperatorError("--watch: there is no plugin to watch (expected --plugin PATH)")
    script = None
    if options.script:
        from pyvpp.cli.builtin import read_script

        script = read_script(options.script)
    if options.dry_run:
        from pyvpp.dry_run import told

        print(told(options), end="")
        return 0
    from pyvpp.linux import privileges, runtime_dir

    runtime_dir.provide(options.runtime_dir, options.group)
    os.umask(runtime_dir.UMASK)
    if os.geteuid() == 0:
        privileges.reduce()
    try:
        return ended(run_first(options, script) if heir is None else run_on(options, heir))
    except HandedOver as handed:
        successor = handed.successor
    from pyvpp.linux.keeper import REPLACED, become_keeper, is_kept

    if is_kept():
        return REPLACED
    if not is_managed():
        become_keeper(options.runtime_dir, successor.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
