# SPDX-License-Identifier: Apache-2.0
"""Queueing disciplines that somebody set on a link, with their classes and filters (tc(8)).

They go when a NIC leaves its namespace, so they are kept as netlink's own bytes and set again: on the TAP, where they
shape and filter what the host sends and receives, and on the NIC when it is back. A filter's BPF program is found by
its number (see `pyvpp.linux.programs`). What Linux does not take again as it told it is reported and left out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct

import msgspec

from pyvpp.linux import programs, rtnetlink
from pyvpp.linux.rtnetlink import Attributes, Netlink, Refusal, Request

_QDISC, _CLASS, _FILTER = 36, 40, 44  # RTM_NEW...; RTM_GET... is two more
_MESSAGE = struct.Struct("=BBHiIII")  # family, -, -, interface, handle, parent, info
_KIND, _OPTIONS, _RATE, _STAB, _CHAIN = 1, 2, 5, 8, 11
_KEPT = (_KIND, _OPTIONS, _RATE, _STAB, _CHAIN)
_CLASSES_MADE_BY_HAND = ("htb", "hfsc", "drr", "qfq")  # the others make theirs themselves
_INGRESS_PARENT = 0xFFFFFFF1
_CLSACT_BLOCKS = (0xFFFFFFF2, 0xFFFFFFF3)  # where the filters of ingress and egress hang
_SIDES = {_CLSACT_BLOCKS[0]: "ingress", _CLSACT_BLOCKS[1]: "egress", 0xFFFF0000: "ingress"}
_HARDWARE_FLAGS = {"u32": 11, "flower": 22, "matchall": 3, "bpf": 9}  # the attribute of each kind
_TOLD_BY_LINUX = 0xC  # in hardware or not
_HTB_INIT = 2
_HTB_VERSION_SHIFT = 16  # Linux tells version 3.17 and takes only 3


class Discipline(msgspec.Struct, frozen=True):
    """A discipline, class or filter: `message` is RTM_NEWQDISC, RTM_NEWTCLASS or RTM_NEWTFILTER."""

    message: int
    handle: int
    parent: int
    info: int
    attributes: Attributes

    @property
    def kind(self) -> str:
        """`htb`, `u32`, ..."""
        return (rtnetlink.value_of(self.attributes, _KIND) or b"").rstrip(b"\0").decode()

    @property
    def program(self) -> int:
        """The number of a filter's BPF program, 0 without one."""
        options = (rtnetlink.value_of(self.attributes, _OPTIONS) or b"") if self.kind == "bpf" else b""
        for kind, value in rtnetlink.attributes(options):
            if kind == programs.BPF_ID:
                return int(struct.unpack("=I", value)[0])
        return 0

    def __str__(self) -> str:
        if self.message == _FILTER:  # its handle is one within its priority
            program = f" (program {self.program})" if self.program else ""
            return (
                f"filter {self.kind} {self.info >> 16}{program} of {_SIDES.get(self.parent) or _numbers(self.parent)}"
            )
        what = {_QDISC: "qdisc", _CLASS: "class"}[self.message]
        return f"{what} {self.kind} {_numbers(self.handle)}"

    def body(self, ifindex: int) -> bytes:
        """As Linux takes it, for this link."""
        return _MESSAGE.pack(0, 0, 0, ifindex, self.handle, self.parent, self.info) + rtnetlink.encoded(self.attributes)


def _numbers(handle: int) -> str:
    return f"{handle >> 16:x}:{handle & 0xFFFF:x}"


def _dump(netlink: Netlink, kind: int, ifindex: int, parent: int = 0) -> list[Discipline]:
    found = []
    for message in netlink.dump(kind + 2, _MESSAGE.pack(0, 0, 0, ifindex, 0, parent, 0)):
        _, _, _, index, handle, above, info = _MESSAGE.unpack_from(message)
        if index == ifindex:
            told = rtnetlink.kept(message[_MESSAGE.size :])
            attributes = tuple((key, value) for key, value in told if key & rtnetlink.TYPE_MASK in _KEPT)
            found.append(Discipline(kind, handle, above, info, attributes))
    return found


def read_disciplines(ifindex: int) -> tuple[Discipline, ...]:
    """What was set on a link, in an order in which it can be set again. Linux's own defaults have no handle."""
    with Netlink() as netlink:
        qdiscs = [qdisc for qdisc in _dump(netlink, _QDISC, ifindex) if qdisc.handle]
        if not qdiscs:
            return ()
        by_hand = {qdisc.handle >> 16 for qdisc in qdiscs if qdisc.kind in _CLASSES_MADE_BY_HAND}
        classes = [each for each in _dump(netlink, _CLASS, ifindex) if each.handle >> 16 in by_hand]
        parents = [each.handle for each in (*qdiscs, *classes)]
        if any(qdisc.kind == "clsact" for qdisc in qdiscs):
            parents += _CLSACT_BLOCKS
        filters = [each for parent in parents for each in _dump(netlink, _FILTER, ifindex, parent)]
    made = [each for each in filters if each.handle and not _is_made_by_itself(each)]
    return tuple(_as_taken(each) for each in (*qdiscs, *_parents_first(classes), *made))


def _parents_first(classes: list[Discipline]) -> list[Discipline]:
    """Linux puts a class whose parent it does not know at the root without a word."""
    handles = {each.handle for each in classes}
    ordered: list[Discipline] = []
    placed: set[int] = set()
    while len(ordered) < len(classes):
        ready = [
            each
            for each in classes
            if each.handle not in placed and (each.parent in placed or each.parent not in handles)
        ]
        if not ready:
            return classes
        ordered += ready
        placed.update(each.handle for each in ready)
    return ordered


def _is_made_by_itself(each: Discipline) -> bool:
    """The first hash table of u32, which comes with the first filter."""
    return each.kind == "u32" and each.handle & 0xFFFFF == 0


def _as_taken(each: Discipline) -> Discipline:
    """What Linux tells but does not take: a class's leaf, htb's minor version, whether hardware does it."""
    options = rtnetlink.value_of(each.attributes, _OPTIONS)
    if each.message != _FILTER:
        each = msgspec.structs.replace(each, info=0)
    if options is None:
        return each
    body = b""
    if each.message == _QDISC and each.kind == "htb":
        for kind, value in rtnetlink.attributes(options):
            if kind == _HTB_INIT:
                version = struct.unpack_from("=I", value)[0]
                value = struct.pack("=I", version >> _HTB_VERSION_SHIFT or version) + value[4:]
            body += rtnetlink.attribute(kind, value)
    elif each.message == _FILTER and each.kind in _HARDWARE_FLAGS:
        for kind, value in rtnetlink.attributes(options):
            if kind == _HARDWARE_FLAGS[each.kind]:
                value = struct.pack("=I", struct.unpack_from("=I", value)[0] & ~_TOLD_BY_LINUX)
            body += rtnetlink.attribute(kind, value)
    else:
        return each
    return _with_options(each, body)


def apply_disciplines(ifindex: int, wanted: tuple[Discipline, ...]) -> list[str]:
    """Set what is not there yet; returns what Linux did not take, with its reason."""
    if not wanted:
        return []
    present = set(map(_identity, read_disciplines(ifindex)))
    missing = [each for each in wanted if _identity(each) not in present]
    failures: list[str] = []
    with Netlink() as netlink:
        for _ in range(len(missing)):  # a class may be told before the one it hangs on
            flags = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL
            refusals = []
            for each in missing:
                with contextlib.ExitStack() as stack:
                    try:
                        body = _with_program(each, stack).body(ifindex)
                    except OSError as error:
                        refusals.append(Refusal(error.errno or errno.EIO, f"its program is gone: {error.strerror}"))
                        continue
                    kind = _replacing(each) if each.message == _QDISC else flags
                    refusals += netlink.ask([Request(each.message, kind, body)])
            left = [
                (each, refusal)
                for each, refusal in zip(missing, refusals, strict=True)
                if refusal.errno not in (0, errno.EEXIST)
            ]
            failures = [f"{each}: {refusal}" for each, refusal in left]
            if not left or len(left) == len(missing):
                break
            missing = [each for each, _ in left]
    return failures


def _with_program(each: Discipline, stack: contextlib.ExitStack) -> Discipline:
    """With a BPF program as Linux takes it, open as long as the stack. Raises OSError."""
    if not each.program:
        return each
    descriptor = programs.open_by_id(each.program)
    stack.callback(os.close, descriptor)
    options = rtnetlink.value_of(each.attributes, _OPTIONS) or b""
    taken = b"".join(
        rtnetlink.attribute(kind, value)
        for kind, value in rtnetlink.attributes(options)
        if kind not in (programs.BPF_TAG, programs.BPF_ID)
    ) + rtnetlink.attribute(programs.BPF_FD, struct.pack("=I", descriptor))
    return _with_options(each, taken)


def _with_options(each: Discipline, options: bytes) -> Discipline:
    attributes = tuple(
        (key, options.hex() if key & rtnetlink.TYPE_MASK == _OPTIONS else value) for key, value in each.attributes
    )
    return msgspec.structs.replace(each, attributes=attributes)


def _identity(each: Discipline) -> tuple[int, int, int, int]:
    return each.message, each.handle, each.parent, each.info


def _replacing(each: Discipline) -> int:
    """A root discipline takes the place of Linux's default."""
    exclusive = rtnetlink.NLM_F_EXCL if each.parent == _INGRESS_PARENT else rtnetlink.NLM_F_REPLACE
    return rtnetlink.NLM_F_CREATE | exclusive
