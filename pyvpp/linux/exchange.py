# SPDX-License-Identifier: Apache-2.0
"""The NIC comes home and takes the place of the TAP that stood in for it: the core of giving back.

A TAP's name and index are free long before Linux is done with it: what is left is to wait until every CPU has seen that
(an RCU barrier, some 15 ms), without the lock that the NIC's way needs. So the NIC comes meanwhile. Name and index
cannot be had before, and without the index sockets bound to the device would not find it again.

The NIC's way has such a barrier too. Linux runs one at a time, and one that begins serves all who wait by then. So that
the TAP's does not begin before the NIC waits, it is kept waiting itself, by the barrier of a decoy: another TAP, whose
end comes a little earlier, while packets still flow. Where the moment is missed, the two follow each other as they
would without it. In turn, on four processors with seven times as much to do, medians of 14: 51 ms in all, without 66.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from pathlib import Path

from pyvpp.linux import netns, rtnetlink
from pyvpp.linux.rtnetlink import Netlink, Refusal, Request
from pyvpp.linux.stand_in import close_tap, open_tap

_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_MESSAGE = struct.Struct("=BxHiII")  # family, type, interface, flags, which of them: struct ifinfomsg
_IFLA_NET_NS_FD = 28
_DECOY, _LEAD = "decoy", 0.008  # seconds; half of a barrier, so that its end comes after the NIC has begun to wait
_PAUSE = 0.0005  # seconds; an attempt takes the lock that the end of the TAP needs as well


class Exchange:
    """Prepared while packets flow: `path` is where the NIC's namespace is kept, `tap_ifindex` the TAP's, if any.

    To be made, used and closed in the namespace that the NIC comes to. Raises OSError.
    """

    def __init__(self, path: Path, name: str, tap_ifindex: int | None) -> None:
        self._tap_ifindex = tap_ifindex
        self._removed: Refusal | None = None
        with contextlib.ExitStack() as undo:
            self._home = netns.open_current()
            undo.callback(os.close, self._home)
            self._here = undo.enter_context(Netlink())
            self._away: Netlink | None = None
            self._ifindex = 0
            self._decoy: list[int] = []
            if netns.is_kept(path):
                inside = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                undo.callback(os.close, inside)
                self._ifindex = netns.run_in(inside, lambda: _index_of(name))
                if self._ifindex:
                    self._away = undo.enter_context(netns.run_in(inside, Netlink))
                    if tap_ifindex is not None:
                        with contextlib.suppress(OSError):
                            self._decoy, _ = netns.run_in(inside, lambda: open_tap(_DECOY))
            self._undo = undo.pop_all()
        self._remover = threading.Thread(target=self._remove_tap, name="tap-removal", daemon=True)

    @property
    def nic_ifindex(self) -> int:
        """The NIC's index where it is, which it keeps unless another interface has it here. 0: it is not away."""
        return self._ifindex

    @property
    def nic_comes(self) -> bool:
        """Whether the NIC is away, and not here already."""
        return self._away is not None

    def prepare(self) -> None:
        """To be called right before `run`."""
        if self._decoy:
            threading.Thread(target=close_tap, args=(self._decoy,), name="decoy-removal", daemon=True).start()
            time.sleep(_LEAD)

    def run(self) -> None:
        """Returns when the NIC is here; the TAP may still be on its way out."""
        self._remover.start()
        if self._away is None:
            self._remover.join()
        else:
            self._fetch_nic(self._away)
        self._raise_unless_removed()

    def _remove_tap(self) -> None:
        if self._tap_ifindex is None:
            self._removed = Refusal(0)
            return
        request = Request(_RTM_DELLINK, 0, _MESSAGE.pack(0, 0, self._tap_ifindex, 0, 0))
        (self._removed,) = self._here.ask([request])

    def _fetch_nic(self, away: Netlink) -> None:
        body = _MESSAGE.pack(0, 0, self._ifindex, 0, 0)
        body += rtnetlink.attribute(_IFLA_NET_NS_FD, struct.pack("=I", self._home))
        while True:
            last = not self._remover.is_alive()
            (refusal,) = away.ask([Request(_RTM_NEWLINK, 0, body)])
            if refusal.errno != errno.EEXIST or last:
                break
            time.sleep(_PAUSE)  # the TAP has its name yet
        if refusal.errno:
            self._remover.join()
            self._raise_unless_removed()
            raise OSError(refusal.errno, str(refusal))

    def _raise_unless_removed(self) -> None:
        removed = self._removed
        if removed is not None and removed.errno not in (0, errno.ENODEV):
            raise OSError(removed.errno, f"the TAP cannot be removed: {removed}")

    def close(self) -> None:
        """Waits until the TAP is gone for good."""
        if self._remover.ident is not None:
            self._remover.join()
        self._undo.close()


def _index_of(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
