# SPDX-License-Identifier: Apache-2.0
"""Kernels with bounds checks while packets flow: what a kernel raises is told by its node, its packets are dropped.

`pyvpp --check NAME` and `plugin reload NAME check` put a plugin's kernels in place compiled so. Without, an index
beside an array reads or writes whatever lies there. A kernel that raises has done with some packets of its frame, which
go on; the others lead to no node, and end in error-drop.
"""

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyvpp import dispatch as d

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)


class BoundsReports:
    """What kernels have raised: `counts` by node and text. The first of each is logged.

    The code that calls a kernel can only hand its exception to `sys.unraisablehook`, in the worker's thread.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._before: Callable[[Any], Any] | None = None
        self.counts: Counter[tuple[str, str]] = Counter()

    def listen(self) -> None:
        if self._before is None:
            self._before = sys.unraisablehook
            sys.unraisablehook = self._raised

    def close(self) -> None:
        if self._before is not None:
            sys.unraisablehook = self._before
            self._before = None

    def _raised(self, raised: Any) -> None:
        if "CPUContext" not in str(raised.object):
            if self._before is not None:
                self._before(raised)
            return
        thread = threading.current_thread()
        worker = next((each for each in self._engine.workers if each.thread is thread), self._engine.workers[0])
        node = self._engine.graph.name_of(int(worker.control[d.AT_NODE]))
        text = f"{type(raised.exc_value).__name__}: {raised.exc_value}"
        self.counts[node, text] += 1
        if self.counts[node, text] == 1:
            log.error("node %s raised %s; its packets were dropped, and will be without another word", node, text)
