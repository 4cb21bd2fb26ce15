# SPDX-License-Identifier: Apache-2.0
"""The lists, the sets and where lists are applied: what operators change, and its projection into the tables."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import numpy as np

from pyvpp.errors import OperatorError
from pyvpp_acl.compile import compile_lists
from pyvpp_acl.rules import Action, Network, Rule, Sets, names_in, rows_of
from pyvpp_acl.sessions import EVERY_INTERFACE, TCP_IDLE, TCP_TRANSIENT, UDP_IDLE, forget
from pyvpp_acl.tables import ACL_APPLIED, ACL_HITS, ACL_SESSIONS, ACL_SESSIONS6, ACL_TIMEOUTS
from pyvpp_nodes.kit.hash_table import in_use, living, put_back, seed

log = logging.getLogger(__name__)

INPUT, OUTPUT = "input", "output"
FEATURES = {
    (INPUT, 4): ("ip4-unicast", "acl-plugin-in-ip4-fa"),
    (INPUT, 6): ("ip6-unicast", "acl-plugin-in-ip6-fa"),
    (OUTPUT, 4): ("ip4-output", "acl-plugin-out-ip4-fa"),
    (OUTPUT, 6): ("ip6-output", "acl-plugin-out-ip6-fa"),
}
FIELDS = {(INPUT, 4): "in4", (INPUT, 6): "in6", (OUTPUT, 4): "out4", (OUTPUT, 6): "out6"}
SECOND = 1_000_000_000
TIMEOUTS = {UDP_IDLE: 600, TCP_TRANSIENT: 120, TCP_IDLE: 86400}
"""Seconds, VPP's."""
ANY = "any"
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
TABLES = {4: ACL_SESSIONS, 6: ACL_SESSIONS6}


@dataclass(frozen=True, eq=False)
class Acl:
    """A list of rules; what it was replaced by is another object."""

    index: int
    tag: str
    rules: tuple[Rule, ...]


@dataclass
class State:
    """Everything operators change."""

    acls: dict[int, Acl] = field(default_factory=dict)
    sets: Sets = field(default_factory=lambda: Sets({ANY: EVERYTHING}))
    applied: dict[tuple[int, str], tuple[int, ...]] = field(default_factory=dict)
    """(sw_if_index, INPUT or OUTPUT): the lists, in the order they are looked through"""

    def copy(self) -> "State":
        sets = Sets(dict(self.sets.addresses), dict(self.sets.ports))
        return State(dict(self.acls), sets, dict(self.applied))

    def rules(self) -> list[tuple[Acl, int]]:
        """Every rule there is, by which hits are numbered."""
        return [(acl, position) for acl in self.acls.values() for position in range(len(acl.rules))]

    def numbered(self, acls: Sequence[int], numbers: Mapping[tuple[Acl, int], int]) -> list[tuple[int, Rule]]:
        """The rules of some lists, one behind the other, with the numbers of their hits."""
        return [
            (numbers[self.acls[k], position], rule) for k in acls for position, rule in enumerate(self.acls[k].rules)
        ]


class AclPlugin:
    """`engine.stack.acl`. Every change is made to a copy, compiled, and takes effect in one moment, or not at all."""

    def __init__(self, engine: Any, before: Any = None) -> None:
        """`before` is what another version of this module had; sessions and hits are in tables, which stayed."""
        self._engine = engine
        self.state = State()
        self.numbers: dict[tuple[Acl, int], int] = {}
        engine.events.on("interface-deleted", self._forget_interface)
        engine.events.on("last-hand-over", self._hand_over_sessions)
        engine.events.on("last-take-on", self._take_on_sessions)
        if before is not None:
            self._succeed(before)
            return
        for table in TABLES.values():
            seed(engine.tables[f"{table.name}_index"], random.SystemRandom())
        for kind, seconds in TIMEOUTS.items():
            self.set_timeout(kind, seconds)

    def _succeed(self, before: Any) -> None:
        """Its lists in this module's classes, whose enums are others than its."""
        old: State = before.state
        self.state.sets = Sets(dict(old.sets.addresses), dict(old.sets.ports))
        self.state.applied = dict(old.applied)
        for index, acl in old.acls.items():
            rules = (
                Rule(
                    Action(int(rule.action)), rule.source, rule.destination, rule.protocol, rule.source_ports,
                    rule.destination_ports, rule.tcp_flags, rule.tcp_mask,
                )
                for rule in acl.rules
            )  # fmt: skip
            self.state.acls[index] = made = Acl(index, acl.tag, tuple(rules))
            self.numbers |= {(made, k): before.numbers[acl, k] for k in range(len(acl.rules))}
        self._become(self.state)

    # ---- changes ----------------------------------------------------------------------------------------------------
    def set_acl(self, index: int | None, rules: Sequence[Rule], tag: str = "") -> int:
        """A new list, or another one in the place of one that is there; answers its index. Raises OperatorError."""
        new = self.state.copy()
        if index is None:
            index = next(k for k in range(len(new.acls) + 1) if k not in new.acls)
        for rule in rules:
            for fields, sets, what in (
                ((rule.source, rule.destination), new.sets.addresses, "addresses"),
                ((rule.source_ports, rule.destination_ports), new.sets.ports, "ports"),
            ):
                for each in fields:
                    if isinstance(each, str) and each not in sets:
                        raise OperatorError(f"no set @{each} of {what}")
        new.acls[index] = Acl(index, tag, tuple(rules))
        self._become(new)
        return index

    def delete_acl(self, index: int) -> None:
        """Raises OperatorError while it is applied somewhere."""
        self._require(index)
        users = [self._name(at) for (at, _), acls in self.state.applied.items() if index in acls]
        if users:
            raise OperatorError(f"acl {index} is applied to {users[0]} (expected to be taken off there first)")
        new = self.state.copy()
        del new.acls[index]
        self._become(new)

    def apply(self, sw_if_index: int, way: str, index: int, on: bool = True) -> None:
        """Applies a list behind those that are applied, or takes it off. Raises OperatorError."""
        self._require(index)
        acls = self.state.applied.get((sw_if_index, way), ())
        if on == (index in acls):
            state = "already" if on else "not"
            raise OperatorError(f"acl {index} is {state} applied to {way} of {self._name(sw_if_index)}")
        self.set_applied(sw_if_index, way, (*acls, index) if on else tuple(k for k in acls if k != index))

    def set_applied(self, sw_if_index: int, way: str, acls: tuple[int, ...]) -> None:
        """These lists, in this order, and no others."""
        new = self.state.copy()
        new.applied.pop((sw_if_index, way), None)
        if acls:
            new.applied[sw_if_index, way] = acls
        self._become(new)

    def set_addresses(self, name: str, members: Sequence[Network]) -> None:
        """What a set of addresses holds from now on."""
        if name in self.state.sets.ports:
            raise OperatorError(f"set @{name} is one of ports")
        new = self.state.copy()
        new.sets.addresses[name] = tuple(dict.fromkeys(members))
        self._become(new)

    def set_ports(self, name: str, members: Sequence[tuple[int, int]]) -> None:
        """What a set of ports holds from now on."""
        if name in self.state.sets.addresses:
            raise OperatorError(f"set @{name} is one of addresses")
        new = self.state.copy()
        new.sets.ports[name] = tuple(dict.fromkeys(members))
        self._become(new)

    def delete_set(self, name: str) -> None:
        """Raises OperatorError while a rule names it."""
        for acl in self.state.acls.values():
            if any(name in names_in(rule) for rule in acl.rules):
                raise OperatorError(f"set @{name} is named by a rule of acl {acl.index}")
        new = self.state.copy()
        if new.sets.addresses.pop(name, None) is None and new.sets.ports.pop(name, None) is None:
            raise OperatorError(f"no set @{name}")
        if ANY not in new.sets.addresses:
            raise OperatorError(f"set @{ANY} is pyvpp's own")
        self.state = new

    def set_timeout(self, kind: int, seconds: int) -> None:
        """For sessions of a kind, from their next packet on."""
        self._engine.tables[ACL_TIMEOUTS.name].array[kind] = seconds * SECOND

    # ---- projection -------------------------------------------------------------------------------------------------
    def _become(self, new: State) -> None:
        numbers = {rule: number for number, rule in enumerate(new.rules())}
        wanted = [(acls, version) for acls in sorted(set(new.applied.values())) for version in (4, 6)]
        lists = [(rows_of(new.numbered(acls, numbers), new.sets, version), version) for acls, version in wanted]
        found, compiled = compile_lists(lists)
        contexts = dict(zip(wanted, found, strict=True))
        tables = self._engine.tables
        arrays = {}
        for name, values in compiled.items():
            arrays[name] = tables[name].zeros(len(values))
            arrays[name][:] = values
        tables[ACL_HITS.name].grow(len(numbers))
        with self._engine.barrier():
            for name, array in arrays.items():
                tables[name].swap(array)
            self._renumber_hits(numbers)
            self._apply(new, contexts)
            self.state, self.numbers = new, numbers

    def _renumber_hits(self, numbers: Mapping[tuple[Acl, int], int]) -> None:
        """Lists that stay keep their hits."""
        kept = [(self.numbers[rule], number) for rule, number in numbers.items() if rule in self.numbers]
        for array in self._engine.tables[ACL_HITS.name].arrays:
            before = array.copy()
            array[:] = np.zeros((), array.dtype)
            if kept:
                old, now = (list(side) for side in zip(*kept, strict=True))
                array[now] = before[old]

    def _apply(self, new: State, contexts: Mapping[tuple[tuple[int, ...], int], int]) -> None:
        """What each interface is judged by, and whether its nodes see its packets at all."""
        table = self._engine.tables[ACL_APPLIED.name].array
        for sw_if_index, way in {*self.state.applied, *new.applied}:
            acls = new.applied.get((sw_if_index, way), ())
            for version in (4, 6):
                table[FIELDS[way, version]][sw_if_index] = contexts.get((acls, version), 0)
                arc, node = FEATURES[way, version]
                self._engine.features.enable(arc, node, sw_if_index, bool(acls))
            lists = (k for side in (INPUT, OUTPUT) for k in new.applied.get((sw_if_index, side), ()))
            table["reflects"][sw_if_index] = any(
                rule.action is Action.REFLECT for k in lists for rule in new.acls[k].rules
            )  # fmt: skip

    def _forget_interface(self, interface: Any) -> None:
        """Its number is another's soon."""
        at = interface.sw_if_index
        new = replace(self.state, applied={k: acls for k, acls in self.state.applied.items() if k[0] != at})
        if new.applied != self.state.applied:
            self._engine.tables[ACL_APPLIED.name].array[at] = np.zeros((), ACL_APPLIED.dtype)
            self.state = new
            self.clear_sessions(at)

    # ---- what is seen -----------------------------------------------------------------------------------------------
    def hits(self, acl: Acl) -> list[tuple[int, int]]:
        """Packets and bytes that each rule of a list decided about."""
        total = self._engine.tables[ACL_HITS.name].sum()
        rows = (total[self.numbers[acl, position]] for position in range(len(acl.rules)))
        return [(int(row["packets"]), int(row["bytes"])) for row in rows]

    def sessions(self, version: int, most: int) -> tuple[int, list[Any]]:
        """How many sessions live, of all workers, and the entries of some: there may be a million."""
        name, count = TABLES[version].name, 0
        found: list[Any] = []
        for worker in self._engine.workers:
            index = self._engine.tables[f"{name}_index"].worker(worker.index)
            entries = self._engine.tables[name].worker(worker.index)
            alive = living(index, entries, worker.now)
            count += len(alive)
            found += [entries[i] for i in alive[: most - len(found)]]
        return count, found

    def told(self, session: Any, version: int) -> dict[str, Any]:
        """A session in words."""
        words = [int(word) for word in session["key"]]
        if version == 4:
            low, high = IPv4Address(words[0] >> 32), IPv4Address(words[0] & 0xFFFFFFFF)
        else:
            low, high = IPv6Address(words[0] << 64 | words[1]), IPv6Address(words[2] << 64 | words[3])  # type: ignore[assignment]
        last = words[-1]
        return {
            "interface": self._name(last & 0xFFFFFF),
            "low": f"{low} {last >> 48}", "high": f"{high} {last >> 32 & 0xFFFF}",
            "protocol": last >> 24 & 0xFF, "packets": int(session["packets"]), "bytes": int(session["bytes"]),
        }  # fmt: skip

    def clear_sessions(self, sw_if_index: int = EVERY_INTERFACE) -> int:
        """Ends sessions; answers how many."""
        ended = 0
        with self._engine.barrier():
            for table in TABLES.values():
                pairs = (self._engine.tables[f"{table.name}_index"].arrays, self._engine.tables[table.name].arrays)
                for index, entries in zip(*pairs, strict=True):
                    ended += int(forget(index, entries, sw_if_index))
        return ended

    # ---- another process goes on ------------------------------------------------------------------------------------
    def _hand_over_sessions(self, keepsakes: Any) -> None:
        for worker in self._engine.workers:
            keepsakes.add(f"acl clock {worker.index}", np.array([worker.now]))
            for table in TABLES.values():
                parts = in_use(*self._arrays_of(table.name, worker.index))
                for name, part in zip((f"{table.name}_index", table.name), parts, strict=True):
                    keepsakes.add(f"{name} {worker.index}", part)

    def _take_on_sessions(self, keepsakes: Any) -> None:
        """Each worker's own, who sees the same flows as its predecessor: queues and their order stay."""
        for worker in self._engine.workers:
            clock = keepsakes.take(f"acl clock {worker.index}", np.int64)
            for table in TABLES.values():
                index, entries = self._arrays_of(table.name, worker.index)
                kept_index = keepsakes.take(f"{table.name}_index {worker.index}", index.dtype)
                kept = keepsakes.take(f"{table.name} {worker.index}", entries.dtype)
                if clock is None or kept_index is None or kept is None:
                    log.warning("acl: sessions in %s are not those of this version; they begin anew", table.name)
                elif not put_back(index, entries, kept_index, kept, worker.now - int(clock[0])):
                    log.warning("acl: no room for the sessions in %s; they begin anew", table.name)

    def _arrays_of(self, name: str, worker: int) -> tuple[Any, Any]:
        return self._engine.tables[f"{name}_index"].worker(worker), self._engine.tables[name].worker(worker)

    def _require(self, index: int) -> None:
        if index not in self.state.acls:
            raise OperatorError(f"no acl {index}")

    def _name(self, sw_if_index: int) -> str:
        return str(next((i.name for i in self._engine.interfaces if i.sw_if_index == sw_if_index), sw_if_index))
