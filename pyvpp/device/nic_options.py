# SPDX-License-Identifier: Apache-2.0
"""What the command line says of the NICs that are taken over: their receive queues, ring sizes, queueing discipline.

They mean what they mean in `create host-interface`; AF_XDP takes the first three as well, within its own limits.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvpp.errors import OperatorError

MOST_QUEUES = 64
LEAST_SLOTS, MOST_SLOTS = 16, 1 << 16  # of a ring, a power of two: then whole pages are full of slots, too


@dataclass(frozen=True)
class NicOptions:
    """None: nothing was said. Sizes are packets a ring holds."""

    num_rx_queues: int | None = None
    rx_ring_size: int | None = None
    tx_ring_size: int | None = None
    qdisc_bypass: bool = False

    def check(self) -> None:
        """Raises OperatorError where no driver could do it."""
        if self.num_rx_queues is not None and not 1 <= self.num_rx_queues <= MOST_QUEUES:
            raise OperatorError(f"--num-rx-queues {self.num_rx_queues}: from 1 to {MOST_QUEUES}")
        for option, size in self.sizes():
            if not LEAST_SLOTS <= size <= MOST_SLOTS or size & (size - 1):
                raise OperatorError(f"{option} {size}: a power of two from {LEAST_SLOTS} to {MOST_SLOTS}")

    def sizes(self) -> list[tuple[str, int]]:
        """The ring sizes that were given, each with its option."""
        both = (("--rx-ring-size", self.rx_ring_size), ("--tx-ring-size", self.tx_ring_size))
        return [(option, size) for option, size in both if size is not None]

    def told(self, workers: int) -> str:
        """What AF_PACKET makes of it, for the plan of a take-over."""
        received = f"receive rings: {self.num_rx_queues or workers}{_of(self.rx_ring_size)}"
        sent = f"transmit rings: {workers}{_of(self.tx_ring_size)}"
        return f"{received}, {sent}{', past the queueing discipline' if self.qdisc_bypass else ''}"


AS_USUAL = NicOptions()


def _of(size: int | None) -> str:
    return f" of {size} packets" if size else ""
