# SPDX-License-Identifier: Apache-2.0
"""`pyvpp doctor`: what pyvpp needs here, and what could go wrong when an uplink is taken over.

One line a finding: `ok`, `warn` or `fail`, what was looked at, what was found, and what to do about it. Nothing is
changed, unless `--fix` is given: then what is safe and can be undone is done, a line `done` each, and all is looked at
once more. The exit status is 1 when something fails.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pyvpp.errors import OperatorError
from pyvpp.linux import repair
from pyvpp.linux.diagnosis import (
    DONE,
    FAIL,
    OK,
    WARN,
    Finding,
    of_the_hooks,
    of_the_machine,
    of_the_runtime_dir,
    of_the_uplink,
)
from pyvpp.linux.diagnosis import uplinks as default_uplinks


def parser() -> argparse.ArgumentParser:
    """Its options."""
    from pyvpp.options import DEFAULT_HOOKS, DEFAULT_RUNTIME_DIR, Parser

    p = Parser(prog="pyvpp doctor", description="Say what pyvpp needs and what could go wrong here.")
    p.add_argument("--uplink", action="append", default=[], metavar="IF", help="(default: where default routes lead)")
    p.add_argument("--runtime-dir", default=DEFAULT_RUNTIME_DIR, metavar="DIR")
    p.add_argument("--hooks", default=DEFAULT_HOOKS, metavar="DIR", help="programs run before and after")
    p.add_argument("--fix", action="store_true", help="do what is safe and can be undone, and say what was done")
    p.add_argument("--json", action="store_true", help="the findings as JSON")
    return p


def of_the_cache() -> Iterator[Finding]:
    """Whether nodes have to be compiled before packets flow."""
    from pyvpp import cache
    from pyvpp.compile import uncompiled
    from pyvpp.loader import load

    declarations = load()
    todo = uncompiled(declarations.nodes.values(), list(declarations.native))
    if todo:
        yield Finding(
            WARN, "code cache", f"{len(todo)} nodes are not compiled yet in {cache.directory()}",
            "run `pyvpp warmup` (half a minute); otherwise the first start does it, before it touches anything",
            repair.COMPILE.says,
        )  # fmt: skip
    else:
        yield Finding(OK, "code cache", f"warm, in {cache.directory()}")


def findings(options: argparse.Namespace) -> Iterator[Finding]:
    """All of them, the machine's first."""
    yield from of_the_machine()
    yield from of_the_cache()
    yield from of_the_hooks(Path(options.hooks))
    yield from of_the_runtime_dir(Path(options.runtime_dir))
    names = options.uplink or default_uplinks()
    if not names:
        yield Finding(WARN, "uplink", "no default route names one", "name it: pyvpp doctor --uplink IF")
    for name in names:
        yield from of_the_uplink(name)


def fix(found: list[Finding], runtime_dir: Path) -> Iterator[Finding]:
    """Does what is safe about what was found: what was done, or why it could not be."""
    for finding in found:
        if not finding.fix:
            continue
        try:
            yield Finding(DONE, finding.what, repair.REPAIRS[finding.fix].run(runtime_dir))
        except (OSError, OperatorError, subprocess.TimeoutExpired) as error:
            yield Finding(WARN, finding.what, f"--fix {finding.fix}, but: {error}", finding.remedy)


def main(argv: list[str]) -> int:
    """Print the findings; 1 if something would keep pyvpp from running."""
    options = parser().parse_args(argv)
    found = list(findings(options))
    if options.fix:
        done = list(fix(found, Path(options.runtime_dir)))
        found = [*done, *findings(options)] if done else found
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        width = max(len(finding.what) for finding in found)
        for finding in found:
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            remedy += f" (--fix {finding.fix})" if finding.fix else ""
            print(f"{finding.verdict:<4}  {finding.what:<{width}}  {finding.found}{remedy}")
    return 1 if any(finding.verdict == FAIL for finding in found) else 0
