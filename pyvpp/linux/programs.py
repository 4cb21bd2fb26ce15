# SPDX-License-Identifier: Apache-2.0
"""BPF programs that somebody else attached to a link.

One in a tc filter ends with the filter, which goes when the NIC leaves its namespace. So that it can be attached again,
`hold` attaches it to the loopback of the namespace that the NIC goes to, where no packet ever is: whoever restores
finds it by its number (bpf(2), BPF_PROG_GET_FD_BY_ID), though everything else was killed. Programs attached by tcx and
XDP stay on the NIC wherever that is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from pyvpp.device.bpf import bpf
from pyvpp.linux import rtnetlink
from pyvpp.linux.rtnetlink import Netlink, Request

_PROG_GET_FD_BY_ID, _PROG_QUERY = 13, 16
_TCX_SIDES = {46: "ingress", 47: "egress"}  # BPF_TCX_INGRESS, BPF_TCX_EGRESS
_MOST_PROGRAMS = 64
_LOOPBACK = 1  # its index in every namespace
_NEWQDISC, _NEWTFILTER = 36, 44
_MESSAGE = struct.Struct("=BxxxiIII")  # family, interface, handle, parent, priority and protocol: struct tcmsg
_CLSACT_HANDLE, _CLSACT, _CLSACT_EGRESS = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF3
_KIND, _OPTIONS = 1, 2
BPF_FD, BPF_TAG, BPF_ID = 6, 10, 11  # TCA_BPF_: told are tag and number, taken is a file descriptor
_ALL_PROTOCOLS = 0x0300  # ETH_P_ALL in network order


def open_by_id(number: int) -> int:
    """A program as a file descriptor. Raises OSError: it is gone, or not for us."""
    return bpf(_PROG_GET_FD_BY_ID, struct.pack("III", number, 0, 0))


def attached_by_tcx(ifindex: int) -> list[str]:
    """Sides of a link on which programs are attached by tcx; none where Linux has no such thing (before 6.6)."""
    return [side for kind, side in _TCX_SIDES.items() if _has_programs(ifindex, kind)]


def _has_programs(ifindex: int, kind: int) -> bool:
    numbers = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    request = struct.pack("4IQI", ifindex, kind, 0, 0, ctypes.addressof(numbers), _MOST_PROGRAMS)
    try:
        bpf(_PROG_QUERY, request)
    except OSError as error:
        return error.errno == errno.ENOSPC
    return numbers[0] != 0


def hold(numbers: tuple[int, ...]) -> list[str]:
    """Keeps programs from ending as long as the caller's namespace exists; those of which that cannot be had."""
    failures: list[str] = []
    clsact = _MESSAGE.pack(0, _LOOPBACK, _CLSACT_HANDLE, _CLSACT, 0) + rtnetlink.attribute(_KIND, b"clsact\0")
    requests = [Request(_NEWQDISC, rtnetlink.NLM_F_CREATE, clsact)]
    descriptors: list[int] = []
    for priority, number in enumerate(numbers, 1):
        try:
            descriptors.append(open_by_id(number))
        except OSError as error:
            failures.append(f"BPF program {number}: {error.strerror}")
            continue
        body = _MESSAGE.pack(0, _LOOPBACK, 1, _CLSACT_EGRESS, priority << 16 | _ALL_PROTOCOLS)
        options = rtnetlink.attribute(BPF_FD, struct.pack("=I", descriptors[-1]))
        body += rtnetlink.attribute(_KIND, b"bpf\0") + rtnetlink.attribute(_OPTIONS, options)
        requests.append(Request(_NEWTFILTER, rtnetlink.NLM_F_CREATE, body))
    try:
        with Netlink() as netlink:
            refusals = netlink.ask(requests)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return failures + [f"BPF programs of filters: {refusal}" for refusal in refusals if refusal.errno]
