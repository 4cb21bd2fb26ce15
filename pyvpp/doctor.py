# SPDX-License-Identifier: Apache-2.0
"""`pyvpp doctor`: what pyvpp needs here, and what could go wrong when an uplink is taken over.

One line a finding: `ok`, `warn` or `fail`, what was looked at, what was found, and what to do about it. Nothing is
changed. The exit status is 1 when something fails.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pyvpp.linux.diagnosis import FAIL, OK, WARN, Finding, of_the_machine, of_the_runtime_dir, of_the_uplink, uplinks


def parser() -> argparse.ArgumentParser:
    """Its options."""
    from pyvpp.main import DEFAULT_RUNTIME_DIR, Parser

    p = Parser(prog="pyvpp doctor", description="Say what pyvpp needs and what could go wrong here; change nothing.")
    p.add_argument("--uplink", action="append", default=[], metavar="IF", help="(default: where default routes lead)")
    p.add_argument("--runtime-dir", default=DEFAULT_RUNTIME_DIR, metavar="DIR")
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
        )  # fmt: skip
    else:
        yield Finding(OK, "code cache", f"warm, in {cache.directory()}")


def findings(options: argparse.Namespace) -> Iterator[Finding]:
    """All of them, the machine's first."""
    yield from of_the_machine()
    yield from of_the_cache()
    yield from of_the_runtime_dir(Path(options.runtime_dir))
    names = options.uplink or uplinks()
    if not names:
        yield Finding(WARN, "uplink", "no default route names one", "name it: pyvpp doctor --uplink IF")
    for name in names:
        yield from of_the_uplink(name)


def main(argv: list[str]) -> int:
    """Print the findings; 1 if something would keep pyvpp from running."""
    options = parser().parse_args(argv)
    found = list(findings(options))
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        width = max(len(finding.what) for finding in found)
        for finding in found:
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            print(f"{finding.verdict:<4}  {finding.what:<{width}}  {finding.found}{remedy}")
    return 1 if any(finding.verdict == FAIL for finding in found) else 0
