# SPDX-License-Identifier: Apache-2.0
"""Numbers for table slots: lowest first, reused only when no worker can still hold them."""

from collections.abc import Callable


class Pool:
    """Blocks of `size` consecutive slots. What is freed rests until `synchronize()` has seen every worker pass.

    `grow(needed)` must make room for at least `needed` slots and return the new capacity.
    """

    REST = 256

    def __init__(
        self,
        capacity: int,
        grow: Callable[[int], int],
        synchronize: Callable[[], None] | None = None,
        reserved: int = 1,
    ) -> None:
        self.capacity = capacity
        self.in_use = 0
        self._grow = grow
        self._synchronize = synchronize
        self._next = reserved
        self._free: dict[int, list[int]] = {}
        self._resting: list[tuple[int, int]] = []

    def allocate(self, size: int = 1) -> int:
        self.in_use += size
        free = self._free.get(size)
        if free:
            return free.pop()
        if len(self._resting) >= self.REST:
            self._wake()
            free = self._free.get(size)
            if free:
                return free.pop()
        first = -(-self._next // size) * size
        if first + size > self.capacity:
            self.capacity = self._grow(first + size)
        self._next = first + size
        return first

    def free(self, index: int, size: int = 1) -> None:
        """Give back what a worker may still be reading."""
        self.in_use -= size
        self._resting.append((index, size))

    def unused(self, index: int) -> None:
        """Give back a single slot that was never published."""
        self.in_use -= 1
        self._free.setdefault(1, []).append(index)

    def _wake(self) -> None:
        if self._synchronize is not None:
            self._synchronize()
        for index, size in reversed(self._resting):
            self._free.setdefault(size, []).append(index)
        self._resting.clear()
