# SPDX-License-Identifier: Apache-2.0
"""What is attached to an uplink and hard to keep: BPF programs of tc filters, programs attached by tcx, temporary addresses."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvpp.device.bpf import Register, assemble, create_link, leave, load_program, set_to
from pyvpp.linux import rtnetlink
from pyvpp.linux.programs import BPF_FD
from pyvpp.linux.rtnetlink import Netlink, Request
from tests.system.conftest import Namespace, Pair, run, wait_for_addresses
from tests.system.process import Pyvpp, eventually, ping, running
from tests.system.test_doctor import doctor
from tests.system.test_takeover import assert_same, guardian_of, pyvpp_restore, start, stop, wait_until_restored

SCHED_CLS, TCX_INGRESS = 3, 46
PASS, DROP = 0, 2
CLSACT_INGRESS = 0xFFFFFFF2


def program(verdict: int) -> int:
    """A program that says the same of every packet, as a file descriptor."""
    return load_program(assemble(set_to(Register.R0, verdict), leave()), SCHED_CLS, 0, b"test")


def attach_filter(namespace: Namespace, verdict: int, priority: int) -> None:
    """A direct-action filter of clsact's ingress; afterwards the filter alone keeps the program."""
    descriptor = program(verdict)

    def body() -> list[rtnetlink.Refusal]:
        index = socket.if_nametoindex("eth0")
        options = rtnetlink.attribute(BPF_FD, struct.pack("=I", descriptor))
        options += rtnetlink.attribute(7, b"test:[it]\0") + rtnetlink.attribute(8, struct.pack("=I", 1))
        message = struct.pack("=BxxxiIII", 0, index, 1, CLSACT_INGRESS, priority << 16 | 0x0300)
        message += rtnetlink.attribute(1, b"bpf\0") + rtnetlink.attribute(2, options)
        with Netlink() as netlink:
            return netlink.ask([Request(44, rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL, message)])

    try:
        assert namespace.inside(body) == [rtnetlink.Refusal(0)]
    finally:
        os.close(descriptor)


def filters(namespace: Namespace) -> str:
    """As tc shows them, with the programs' numbers."""
    show = (
        run("tc", "-n", namespace.name, "filter", "show", "dev", "eth0", side).stdout for side in ("ingress", "egress")
    )
    return "".join(show)


@pytest.fixture
def filtered(sandbox: Pair) -> Iterator[Pair]:
    """A host whose packets a classic filter lets pass, and one of eBPF behind it, and none after that."""
    tc = ("tc", "-n", sandbox.host.name)
    run(*tc, "qdisc", "add", "dev", "eth0", "clsact")
    run(*tc, "filter", "add", "dev", "eth0", "egress", "prio", "3", "bpf", "bytecode", "1,6 0 0 0", "flowid", "1:1")
    attach_filter(sandbox.host, PASS, 5)
    attach_filter(sandbox.host, PASS, 7)
    assert filters(sandbox.host).count("direct-action") == 2
    yield sandbox


def test_filters_with_programs_are_on_the_tap_and_on_the_nic_again(filtered: Pair) -> None:
    before, shown = filtered.host.snapshot(), filters(filtered.host)
    process = start(filtered)
    assert filters(filtered.host) == shown
    stop(process)
    assert filters(filtered.host) == shown
    assert_same(before, filtered)


@pytest.mark.parametrize("guarded", [True, False])
def test_their_programs_survive_a_kill(filtered: Pair, guarded: bool) -> None:
    """The TAP goes with the process that is killed, and with it the filters there; the namespace keeps the programs."""
    before, shown = filtered.host.snapshot(), filters(filtered.host)
    process = start(filtered)
    if not guarded:
        os.kill(guardian_of(filtered), signal.SIGKILL)
    process.kill()
    process.wait()
    if guarded:
        wait_until_restored(filtered)
    else:
        pyvpp_restore(filtered)
    assert filters(filtered.host) == shown
    assert_same(before, filtered)


def test_a_filter_that_drops_drops_on_the_tap(sandbox: Pair) -> None:
    run("tc", "-n", sandbox.host.name, "qdisc", "add", "dev", "eth0", "clsact")
    attach_filter(sandbox.host, DROP, 1)
    with running(sandbox, sandbox.host, "--uplink", "eth0"):
        assert ping(sandbox.peer, "10.77.0.1") == 0
        run("tc", "-n", sandbox.host.name, "filter", "del", "dev", "eth0", "ingress")
        assert ping(sandbox.peer, "10.77.0.1") == 1


def test_what_cannot_be_kept_is_said_in_a_line_each(sandbox: Pair) -> None:
    """By the take-over, by doctor and by the plan, in the same words."""
    host = sandbox.host
    host.inside(lambda: Path("/proc/sys/net/ipv6/conf/eth0/use_tempaddr").write_text("2"))
    host.ip("addr", "add", "2001:db8:99::1/64", "dev", "eth0", "mngtmpaddr", "nodad", "valid_lft", "5000", "preferred_lft", "4000")  # fmt: skip
    eventually(lambda: "temporary" in host.ip("addr", "show", "eth0"), "a temporary address")
    wait_for_addresses(host)
    (temporary,) = [line.split()[3].split("/")[0] for line in host.ip("-o", "addr").splitlines() if "temporary" in line]
    descriptor = program(PASS)
    link = host.inside(lambda: create_link(descriptor, socket.if_nametoindex("eth0"), TCX_INGRESS))
    try:
        expected = [
            f"temporary addresses stay as ordinary ones until they expire ({temporary}); "
            "Linux makes new ones with the next router advertisement",
            "BPF programs attached by tcx (ingress) stay on the NIC, where the host's packets are not",
        ]
        _, found = doctor(sandbox, "--uplink", "eth0")
        assert [each["found"] for each in found["uplink eth0"] if each["verdict"] == "warn"] == expected
        pyvpp = Pyvpp(sandbox, host, "--uplink", "eth0")
        pyvpp.wait_until_ready()
        assert temporary in host.ip("addr", "show", "eth0")
        pyvpp.process.terminate()
        _, errors = pyvpp.process.communicate(timeout=20)
        assert [line.partition(" pyvpp WARNING eth0: ")[2] for line in errors.splitlines()] == expected
        assert temporary in host.ip("addr", "show", "eth0")
    finally:
        os.close(link)
        os.close(descriptor)
