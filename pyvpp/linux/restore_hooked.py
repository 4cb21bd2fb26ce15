# SPDX-License-Identifier: Apache-2.0
"""`restore`, and the hooks that run after it: whoever gives back does it by this."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pyvpp.errors import OperatorError
from pyvpp.linux.hooks import AFTER_RESTORE, Hooks, facts_of
from pyvpp.linux.journal import Journal, Record
from pyvpp.linux.restore import restore


def restore_hooked(
    runtime_dir: str | Path,
    hooks: Hooks,
    reason: str,
    *,
    wait_for_lock: float = 0,
    gaps: dict[str, float] | None = None,
) -> tuple[list[str], list[str]]:
    """What could not be restored, and which hooks failed. The hooks hear of the uplinks that the journal had and has
    no more. `reason` is why: stop, unconfirmed, failure or crash. Raises OperatorError as `restore` does."""
    before = _look(runtime_dir)
    problems = restore(runtime_dir, wait_for_lock=wait_for_lock, gaps=gaps)
    left = {entry.uplink.name for entry in record.entries} if (record := _look(runtime_dir)) else set()
    given = [entry.uplink for entry in before.entries if entry.uplink.name not in left] if before else []
    return problems, hooks.run(AFTER_RESTORE, *(facts_of(state, runtime_dir, reason=reason) for state in given))


def _look(runtime_dir: str | Path) -> Record | None:
    """None where there is no record that can be read, which `restore` says."""
    with contextlib.suppress(OperatorError, OSError):
        return Journal(runtime_dir).look()
    return None
