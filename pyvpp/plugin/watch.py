# SPDX-License-Identifier: Apache-2.0
"""Reloads plugins when their sources change: `pyvpp --watch`, `plugin watch NAME`.

Files are looked at a few times a second rather than watched by inotify: editors replace them, folders come and go, and
a handful of `stat` calls cost less than what that takes. A change is taken once two looks in a row see the same.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyvpp.errors import OperatorError
from pyvpp.plugin import snapshot

if TYPE_CHECKING:
    from pyvpp.plugin.reload import Reloader

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2

Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(path: Path) -> Stamp:
    """What changes with a file, or with the files of a folder; empty when it cannot be read at this moment."""
    found = []
    try:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if "__pycache__" not in file.parts and file.is_file():
                status = file.stat()
                found.append((str(file), status.st_mtime_ns, status.st_size, status.st_ino))
    except OSError:
        return ()
    return tuple(found)


class Watcher:
    """Watches plugins by name, in a task of the running event loop; `tell` is given each version put into place."""

    def __init__(self, reloader: "Reloader", tell: Callable[[str], Any]) -> None:
        self._reloader = reloader
        self._tell = tell
        self._seen: dict[str, Stamp] = {}
        self._done: dict[str, Stamp] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        return list(self._done)

    def watch(self, name: str) -> None:
        """Reloads a plugin from now on when its sources change. Raises OperatorError."""
        plugin = self._reloader.plugin(name)
        self._done[name] = self._seen[name] = stamp(snapshot.origin(plugin))
        self._reloader.prepare()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self, name: str) -> None:
        """Ends `watch`."""
        self._done.pop(name, None)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name in list(self._done):
                try:
                    await self._look(name)
                except OperatorError as error:
                    log.debug("%s", error)  # told by whoever refused it
                except Exception:
                    log.exception("watching plugin %s", name)

    async def _look(self, name: str) -> None:
        plugin = self._reloader.plugin(name)
        now = stamp(snapshot.origin(plugin))
        seen, self._seen[name] = self._seen[name], now
        if not now or now != seen or now == self._done[name]:
            return
        self._done[name] = now
        self._tell(str(await self._reloader.reload(name, plugin.checked)))
