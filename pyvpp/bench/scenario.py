# SPDX-License-Identifier: Apache-2.0
"""How a package declares what `pyvpp bench` runs. Making one registers nothing: the bench looks for them in modules.

    SCENARIOS = (
        Scenario(
            name="acl-permit",
            summary="100 rules, the last one permits",
            setup=("set interface ip address pg0 10.1.0.1/24", ..., "set acl ..."),
            packet=lambda engine, i, size: ...,      # the i-th packet that arrives on pg0
            expect=lambda engine, packet: ...,       # what must leave pg1 for it
        ),
    )

A node that no scenario reaches can still be measured alone: `Traffic` is a scenario without a model, whose packets may
end anywhere.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pyvpp.loader import modules_of

Maker = Callable[[Any, int, int], bytes]
Model = Callable[[Any, bytes], bytes]

IN_MAC, OUT_MAC = bytes.fromhex("02fe00000001"), bytes.fromhex("02fe00000002")
"""of pg0 and pg1"""

VPP_PROVENANCE = (
    "VPP 26.10: one worker on an AMD EPYC (Zen 4, TSC 2.6 GHz, 2 vCPU, shared), 64-byte UDP packets, vectors of 256, "
    "2 MB hugepages, median of 5 to 7 runs. Another machine than yours: compare clocks, not packets a second."
)


@dataclass(frozen=True)
class VppFigures:
    """What VPP 26.10 takes for the same, in clocks a packet; VPP_PROVENANCE says where that was measured."""

    clocks: float
    without_generation: float
    note: str = ""
    """where its scenario is not quite ours"""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Packets that arrive on pg0 of an engine with the interfaces pg0 and pg1, both up, set up by commands."""

    name: str
    summary: str
    setup: tuple[str, ...] = ()
    packet: Maker
    """the i-th packet, called with the engine, i and the size wanted in bytes; the same in every run"""
    variations: int = 16384
    """how many different packets there are; after the last the first comes again"""
    prepare: Callable[[Any], None] | None = None
    """what commands would be too slow for; called after them with the engine"""
    needs: tuple[str, ...] = ()
    """nodes without which it cannot run, when they may be absent"""
    packet_bytes: int = 64

    def packets(self, engine: Any, size: int | None = None, count: int | None = None) -> list[bytes]:
        """What arrives on pg0: `count` packets, or all variations."""
        return [self.packet(engine, i, size or self.packet_bytes) for i in range(count or self.variations)]


@dataclass(frozen=True, kw_only=True)
class Scenario(Traffic):
    """Traffic of which every packet leaves pg1 as a model says."""

    expect: Model
    masked: tuple[int, ...] = ()
    """bytes of the output that the model leaves open"""
    routes: int = 1
    vpp: VppFigures | None = None
    family: str = ""
    """scenarios of one family differ by their number of routes only"""
    with_routes: "Callable[[int], Scenario] | None" = None
    """the same with so many routes, for the curve over table sizes"""


def declared_in(packages: Iterable[ModuleType]) -> dict[str, Traffic]:
    """All scenarios and traffic that packages declare, by name: first the engine's own stack, in the modules' order.

    A module may hold them one by one or in a tuple. Raises ValueError when a name is declared twice.
    """
    found: dict[str, Traffic] = {}
    for package in packages:
        for module in modules_of(package):
            for value in vars(module).values():
                for each in value if isinstance(value, tuple) else (value,):
                    if isinstance(each, Traffic) and found.setdefault(each.name, each) is not each:
                        raise ValueError(f"scenario {each.name} is declared twice, again in {module.__name__}")
    return found


def scenarios_among(declared: Mapping[str, Traffic]) -> dict[str, Scenario]:
    """Those that have a model, and so a figure of their own."""
    return {name: each for name, each in declared.items() if isinstance(each, Scenario)}
