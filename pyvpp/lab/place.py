# SPDX-License-Identifier: Apache-2.0
"""Where a lab stands: namespaces, processes and files that are gone when it is left, by whatever way."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pyvpp.linux.sandbox import Sandbox


@contextlib.contextmanager
def workplace(name: str) -> Iterator[tuple[Sandbox, Path]]:
    """A sandbox and a directory, which go whatever happens; signals become KeyboardInterrupt inside."""

    def interrupt(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    sandbox = Sandbox(f"{name}-{os.getpid()}")
    try:
        yield sandbox, directory
    finally:
        for number in earlier:
            signal.signal(number, signal.SIG_IGN)
        sandbox.close()
        shutil.rmtree(directory, ignore_errors=True)
        for number, handler in earlier.items():
            signal.signal(number, handler)
