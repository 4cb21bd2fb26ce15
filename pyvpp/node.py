# SPDX-License-Identifier: Apache-2.0
"""How a node is declared. `@node(...)` labels a kernel and registers nothing; the plugin loader collects the labels.

A kernel fills `nexts[i]` for each packet of its frame: with a member of its `Next`, with `TO_NODE | index` of any node
(an adjacency holds such values), with FREE when the packet is done, or with HELD when the kernel keeps the buffer.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

from numba import uint64

from pyvpp.features import Feature
from pyvpp.jit import outline, plain, rare_case
from pyvpp.typing import U64, Record

TO_NODE = 0x8000
FREE = 0xFFFF
HELD = 0xFFFE
FRAME_SIZE = 256


class Severity(Enum):
    """How much a counter should worry its reader."""

    ERROR = "error"
    WARNING = "warn"
    INFO = "info"


class NodeCounter(IntEnum):
    """A node's own counters: `BAD = 0, "bad ip4 checksum", Severity.ERROR`. Numbered from 0 without gaps."""

    text: str
    severity: Severity

    def __new__(cls, value: int, text: str = "", severity: Severity = Severity.ERROR) -> "NodeCounter":
        if not isinstance(value, int) or not isinstance(text, str) or not text or not isinstance(severity, Severity):
            raise ValueError(
                f'a counter is a number and a text, such as BAD = 0, "bad checksum", not {value!r} {text!r}'
            )
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        member.severity = severity
        return member


class Kind(Enum):
    """What a node's function is. INTERNAL and INPUT are compiled and run by workers; the others are slow, in Python,
    on the main thread, where the command line and timers wait for them.

    INTERNAL  a kernel over a frame
    INPUT     a kernel that makes frames: it fills `frame` and `nexts`, and returns how many packets there are
    SLOW      declared like a kernel, but not compiled: NumPy or a loop in Python over a frame of the packets that wait
    PYTHON    a function of `(engine, packet)`, where packets end: it gets their bytes, their buffers are free
    PROCESS   an async function of `(engine)` that gets no packets: it begins with the engine, and ends with it
    """

    INTERNAL = "internal"
    INPUT = "input"
    SLOW = "slow"
    PYTHON = "python"
    PROCESS = "process"

    @property
    def compiled(self) -> bool:
        """Whether it is a kernel, which numba compiles and workers run."""
        return self in (Kind.INTERNAL, Kind.INPUT)


@dataclass(frozen=True, eq=False)
class Node:
    """A declared node. Called, it is its kernel."""

    name: str
    kernel: Callable[..., Any]
    next: Mapping[int, str] = field(default_factory=dict)
    counters: tuple[NodeCounter, ...] = ()
    kind: Kind = Kind.INTERNAL
    template: bool = False
    features: tuple[Feature, ...] = ()
    trace: Callable[[Any], list[str]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.kernel(*args, **kwargs)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names the kernel's parameters are bound by."""
        return tuple(inspect.signature(plain(self.kernel)).parameters)

    @property
    def module(self) -> str:
        """The full name of the module that declares it."""
        return plain(self.kernel).__module__

    @property
    def manual(self) -> str:
        """The manual page: the docstring of the node's module."""
        module = sys.modules.get(plain(self.kernel).__module__)
        return inspect.cleandoc((module.__doc__ if module else None) or "")


def node(
    name: str,
    next: Mapping[Any, str] | None = None,
    counters: type[NodeCounter] | None = None,
    kind: Kind = Kind.INTERNAL,
    template: bool = False,
    features: tuple[Feature, ...] = (),
    trace: Callable[[Any], list[str]] | None = None,
) -> Callable[[Callable[..., Any]], Node]:
    """Declares the decorated kernel as a node; see the contract of kernels in HACKING.md.

    Raises ValueError when an argument is of another kind than that, or when the nexts or the counters are not numbered
    from 0 without gaps.
    """
    _check(name, next, counters, kind, features, trace)
    slots = {int(slot): target for slot, target in (next or {}).items()}
    members = tuple(counters or ())
    for what, numbers in (("nexts", sorted(slots)), ("counters", sorted(int(c) for c in members))):
        if numbers != list(range(len(numbers))):
            raise ValueError(f"node {name}: its {what} must be numbered from 0 without gaps, not {numbers}")

    def declare(kernel: Callable[..., Any]) -> Node:
        return Node(name, kernel, slots, members, kind, template, features, trace)

    return declare


def _check(name: Any, next: Any, counters: Any, kind: Any, features: Any, trace: Any) -> None:
    """What every reader of a declaration relies on. Raises ValueError."""
    wrong = ""
    if not isinstance(name, str):
        wrong = f"its name is {name!r} (expected a text)"
    elif next is not None and not (isinstance(next, Mapping) and all(isinstance(each, str) for each in next.values())):
        wrong = f'next={next!r} (expected names of nodes by number, such as {{Next.DROP: "error-drop"}})'
    elif counters is not None and not (isinstance(counters, type) and issubclass(counters, NodeCounter)):
        wrong = f"counters={counters!r} (expected a class that derives from NodeCounter)"
    elif not isinstance(kind, Kind):
        wrong = f"kind={kind!r} (expected Kind.INTERNAL, ...)"
    elif not isinstance(features, tuple) or not all(isinstance(feature, Feature) for feature in features):
        wrong = f'features={features!r} (expected a tuple such as (Feature("ip4-unicast"),))'
    elif trace is not None and not callable(trace):
        wrong = f"trace={trace!r} (expected a function of a TraceRecord)"
    if wrong:
        raise ValueError(f"node {name}: {wrong}")


@outline
def set_error(m: Record, counters: U64, error_base: int, error: int, next_: int) -> int:
    """Counts why a packet is dropped or leaves the usual way, and notes it in the packet; answers `next_`."""
    rare_case()
    counters[error] += uint64(1)
    m.error = error_base + error
    return next_
