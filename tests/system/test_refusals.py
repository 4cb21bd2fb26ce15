# SPDX-License-Identifier: Apache-2.0
"""What the operator gets wrong, at the command `pyvpp` and over `pyvppctl`: one line, and Linux as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import Pair, differences, environment, run, wait_for_link_local
from tests.system.process import Pyvpp, pyvpp_command, running

AS_NOBODY = """
import os, sys
import pyvpp.cli.server, pyvpp.linux.guardian, pyvpp.linux.restore  # nobody may not read every Python's library
from pyvpp.main import main
from pyvpp.options import parser
parser()
os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""
WITHOUT_TUN = 'mount -t tmpfs tmpfs /dev/net && exec "$@"'


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """What is compiled once is not said again in the tests."""
    command = [str(word) for word in pyvpp_command("warmup")]
    subprocess.run(command, check=True, capture_output=True, timeout=600, env=environment())


def refused(
    pair: Pair, *options: str | Path, prefix: tuple[str, ...] = (), command: tuple[str | Path, ...] = ()
) -> str:
    """The one line with which `pyvpp` ends, without its name; Linux must be untouched and nothing left."""
    before = pair.host.snapshot()
    line = [*prefix, *pair.host.command(*(command or pyvpp_command()), "--runtime-dir", pair.runtime_dir, *options)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode in (1, 2), done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("pyvpp: ")
    assert differences(before, pair.host.snapshot()) == []
    left = {path.name for path in pair.runtime_dir.iterdir()} if pair.runtime_dir.is_dir() else set()
    assert left <= {"pyvpp.lock", "filler", "cli.sock"}
    return done.stderr.removeprefix("pyvpp: ").rstrip("\n")


OPTIONS = {
    ("--uplink", "nope"): "uplink nope: no such interface; there are: eth0",
    ("--uplink", ""): "uplink : no such interface; there are: eth0",
    ("--uplink", "lo"): "uplink lo: the loopback interface cannot be an uplink; name an Ethernet interface",
    ("--uplink", "eth0", "--uplink", "eth0"): "--uplink: the same interface is named twice",
    ("--uplink", "eth0", "--uplink", "nope"): "uplink nope: no such interface; there are: eth0",
    ("--uplink", "02:00:00:00:00:99"): "uplink 02:00:00:00:00:99: no interface has this MAC address; there are: eth0 (",
    ("--uplink", "0000:00:99.0"): "uplink 0000:00:99.0: no interface has this PCI address; there are: none",
    ("--buffers", "0"): "--buffers 0: from 1024 to 2097152",
    ("--buffers", "99999999999"): "--buffers 99999999999: from 1024 to 2097152",
    ("--workers", "65"): "--workers 65: from 1 to 64",
    ("--hugepages", "some"): "--hugepages some: auto, off or a number",
    ("--rx-ring-size", "many"): "argument --rx-ring-size: invalid int value: 'many' (see pyvpp --help)",
    ("--driver", "af-xdp", "--rx-ring-size", "32"): "--rx-ring-size 32: for af-xdp from 64 to 32768",
    ("--driver", "af-xdp", "--tx-ring-size", "65536"): "--tx-ring-size 65536: for af-xdp from 64 to 32768",
    ("--driver", "af-xdp", "--num-rx-queues", "64"): "--num-rx-queues 64: for af-xdp from 1 to 1, eth0's own",
    ("--driver", "af-xdp", "--qdisc-bypass"): "--qdisc-bypass: af-xdp passes no queueing discipline; leave it out or",
    ("--driver", "e1000"): "argument --driver: invalid choice: 'e1000' (choose from",
    ("--buffers", "many"): "argument --buffers: invalid int value: 'many' (see pyvpp --help)",
    ("--frobnicate",): "unrecognized arguments: --frobnicate (see pyvpp --help)",
    ("--exec", "/nowhere"): "failed to open `/nowhere': No such file or directory",
    ("--runtime-dir", "/dev/null/x"): "runtime directory /dev/null/x: Not a directory; name another with",
    ("--runtime-dir", "/tmp/" + "x" * 120): "runtime directory `/tmp/xxx",
}  # fmt: skip


def test_options_that_cannot_be(sandbox: Pair) -> None:
    for options, said in OPTIONS.items():
        uplink = () if "--uplink" in options else ("--uplink", "eth0")
        assert refused(sandbox, *uplink, *options).startswith(said), options


def test_a_script_that_is_wrong_ends_it_and_the_uplink_is_given_back(sandbox: Pair, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("create loopback interface\nset interface state loop7 up\n")
    said = refused(
        sandbox, "--uplink", "eth0", "--exec", script, command=("sh", "-c", '"$@" > /dev/null', "-", *pyvpp_command())
    )
    assert said == f"{script}:2: set interface state: unknown interface `loop7' (did you mean loop0?)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("link", "set", "eth0", "down"), "is down; bring it up first (ip link set eth0 up)"),
        (("addr", "flush", "dev", "eth0", "scope", "global"), "has no address; give it one first (ip addr add "),
        (("link", "add", "vx", "type", "vxlan", "id", "7", "dev", "eth0", "dstport", "4789"), "vx built on it would be lost"),
    ],
)  # fmt: skip
def test_uplinks_that_are_not_ready(sandbox: Pair, change: tuple[str, ...], said: str) -> None:
    """README says so: without an address there is nothing that a tunnel's packets could come from."""
    sandbox.host.ip(*change)
    assert refused(sandbox, "--uplink", "eth0").startswith(f"uplink eth0: {said}")


def test_a_bridge_s_member(sandbox: Pair) -> None:
    sandbox.host.ip("link", "add", "br0", "type", "bridge")
    sandbox.host.ip("link", "set", "eth0", "master", "br0")
    assert refused(sandbox, "--uplink", "eth0").startswith("uplink eth0: is a member of br0; take br0 over, or")


def test_an_uplink_or_a_runtime_directory_that_another_pyvpp_has(sandbox: Pair) -> None:
    first = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
    first.wait_until_ready()
    wait_for_link_local(sandbox.host)
    pid = first.process.pid
    assert refused(sandbox, "--uplink", "eth0").startswith(
        f"uplink eth0: already taken over by the pyvpp with process id {pid};"
    )
    for options in ((), ("--uplink", "eth0")):
        assert refused(sandbox, "--runtime-dir", first.runtime_dir, *options).startswith(
            f"runtime directory {first.runtime_dir}: in use by the pyvpp with process id {pid};"
        )
    first.stop()


def test_something_else_where_the_socket_goes(sandbox: Pair) -> None:
    sandbox.runtime_dir.mkdir()
    (sandbox.runtime_dir / "cli.sock").write_text("precious")
    assert "cli.sock exists and is no socket" in refused(sandbox, "--uplink", "eth0")
    assert (sandbox.runtime_dir / "cli.sock").read_text() == "precious"


def test_nobody_may_not(sandbox: Pair) -> None:
    command = (sys.executable, "-c", AS_NOBODY)
    assert refused(sandbox, "--uplink", "eth0", command=command) == "taking an uplink over needs root"
    assert "Permission denied" in refused(sandbox, "--runtime-dir", "/run/pyvpp-test", command=command)


def test_root_that_may_not_change_the_network(sandbox: Pair) -> None:
    said = refused(sandbox, "--uplink", "eth0", prefix=("setpriv", "--bounding-set", "-net_admin"))
    assert said == "uplink eth0: cannot be taken over: [Errno 1] Operation not permitted; Linux is left as it was"


def test_without_the_tun_device(sandbox: Pair) -> None:
    said = refused(sandbox, "--uplink", "eth0", prefix=("unshare", "--mount", "sh", "-c", WITHOUT_TUN, "-"))
    assert said.startswith("/dev/net/tun: No such file or directory: ")


def test_a_full_disk_has_no_room_for_the_journal(sandbox: Pair) -> None:
    sandbox.runtime_dir.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16k,mode=750", "tmpfs", sandbox.runtime_dir)
    try:
        with (
            pytest.raises(OSError, match="No space"),
            (sandbox.runtime_dir / "filler").open("wb", buffering=0) as filler,
        ):
            while True:
                filler.write(bytes(4096))
        said = refused(sandbox, "--uplink", "eth0")
        assert said.startswith(f"journal {sandbox.runtime_dir}/journal.json: No space left on device; without it")
    finally:
        run("umount", "-l", sandbox.runtime_dir)


# ---- commands


@pytest.fixture
def pyvpp(sandbox: Pair) -> Iterator[Pyvpp]:
    with running(sandbox, sandbox.host) as pyvpp:
        yield pyvpp


def said_by_ctl(pyvpp: Pyvpp, line: str) -> str:
    """What `pyvppctl` writes to standard error, its exit status being 1."""
    command = (sys.executable, "-m", "pyvpp.cli.client", "--runtime-dir", pyvpp.runtime_dir, *line.split())
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


REFUSED = {
    "frobnicate": "unknown input `frobnicate' (expected clear, ",
    "show interfaze": "show: unknown input `interfaze' (did you mean interface?)",
    "show interface eth9": "show interface: unknown interface `eth9' (expected ",
    "set interface state loop0 sideways": "set interface state: unknown flags `sideways' (expected up or down)",
    "set interface mtu 10 loop0": "set interface mtu: 10 out of range (expected an MTU from 68 to 65535)",
    "set interface ip address loop0 10.0.0.1/33": "set interface ip address: invalid prefix length `33' in `10.0.0.1/33'",
    "set interface ip address loop0 10.0.0.300/24": "set interface ip address: invalid address `10.0.0.300' in",
    "set interface ip address loop0 224.0.0.1/24": "set interface ip address: 224.0.0.1/24 on loop0: an interface's",
    "set interface ip address loop0 10.5.0.1/24": "set interface ip address: failed to add 10.5.0.1/24 on loop0 which",
    "set interface ip address del loop0 10.6.0.1/24": "set interface ip address: 10.6.0.1/24 not found for interface loop0",
    "set interface l2 xconnect loop0 tap7": "set interface l2 xconnect: loop0 cannot be cross-connected (expected",
    "set ip neighbor del loop0 10.5.0.9": "set ip neighbor: no such neighbor 10.5.0.9 on loop0",
    "ip route add 10.0.0.0/99 via loop0": "ip route: invalid prefix length `99' in `10.0.0.0/99' (expected 0 to 32)",
    "ip route add 10.0.0.0/8 via nowhere": "ip route: unknown next hop `nowhere' (expected an IP address, drop, ",
    "ip route add 10.0.0.0/8": "ip route: expected paths.",
    "ip route del 10.99.0.0/16": "ip route: no such route 10.99.0.0/16",
    "ip route del 10.5.0.0/24": "ip route: route 10.5.0.0/24 is not of the command line (expected one that",
    "ip table del 6": "ip table: no such table 6",
    "show ip fib table 6": "show ip fib: Nonexistent table id 6",
    "create loopback interface instance 0": "create loopback interface: instance 0: interface loop0 exists already",
    "delete loopback interface intfc tap7": "delete loopback interface: tap7 is no loopback interface (it is tap)",
    "create ipip tunnel src 10.5.0.1 dst 10.5.0.2": "create ipip tunnel: IPIP tunnel already exists... (ipip0)",
    "create ipip tunnel src 10.5.0.1": "create ipip tunnel: mandatory argument(s) missing: dst",
    "delete ipip tunnel loop0": "delete ipip tunnel: loop0 is no IPIP tunnel (it is loopback)",
    "create vxlan tunnel src 10.5.0.1 dst 10.5.0.2 vni 0": "create vxlan tunnel: vni 0 out of range (expected 1 to ",
    "create vxlan tunnel src 10.5.0.1 dst 10.5.0.2 vni 7": "create vxlan tunnel: tunnel already exists... (vxlan_tunnel0)",
    "create vxlan tunnel src 10.5.0.1 dst 10.5.0.3 vni 7 del": "create vxlan tunnel: tunnel does not exist...",
    "create tap host-if-name pod7": "create tap: interface pod7 exists already: choose another name",
    "create tap host-if-name eth0": "create tap: interface eth0 exists already or is no name for one",
    "create tap host-if-name x host-ns nowhere": "create tap: no network namespace nowhere (No such file or directory): give",
    "create tap host-if-name x host-ns /etc/passwd": "create tap: /etc/passwd is no network namespace: give a name of",
    "create tap host-if-name x host-mtu-size 65535": "create tap: host-mtu-size 65535 out of range (expected at most 65521",
    "create tap host-if-name x host-ip4-addr 10.0.0.1": "create tap: expected IP4 address/length, got `10.0.0.1'",
    "create tap id 7 host-if-name x": "create tap: instance 7: interface tap7 exists already",
    "delete tap tap8": "delete tap: unknown interface `tap8' (did you mean tap7?)",
    "delete tap loop0": "delete tap: loop0 is no tap (it is loopback)",
    "create host-interface name nope": "create host-interface: Linux interface nope: No such device",
    "delete host-interface name nope": "delete host-interface: no host-interface on `nope'",
    "trace add ip4-lookup": "trace add: unexpected end of input (expected a number of packets)",
    "trace add ip4-lokup 5": "trace add: unknown node `ip4-lokup' (did you mean ip4-lookup?)",
    "pcap trace rx file /nowhere/x": "pcap trace: file /nowhere/x: No such file or directory",
    "ping 10.0.0.300": "ping: invalid address `10.0.0.300' (expected an IP4/IP6 address)",
    "exec /nowhere": "exec: failed to open `/nowhere': No such file or directory",
}  # fmt: skip


def test_commands_that_are_wrong(sandbox: Pair, pyvpp: Pyvpp) -> None:
    """One line that names the word; no command changes anything, here or in Linux."""
    for line in (
        "create loopback interface",
        "set interface ip address loop0 10.5.0.1/24",
        "set interface state loop0 up",
        "create ipip tunnel src 10.5.0.1 dst 10.5.0.2",
        "create vxlan tunnel src 10.5.0.1 dst 10.5.0.2 vni 7",
        "create tap id 7 host-if-name pod7",
    ):
        pyvpp.ctl(line)

    def state() -> list[str]:
        return [pyvpp.ctl(f"show {what}") for what in ("ip fib summary", "interface address", "ip neighbors", "adj")]

    interfaces, linux = [each["name"] for each in pyvpp.data("show interface")], sandbox.host.ip("-br", "link")
    before = state()
    for line, said in REFUSED.items():
        assert pyvpp.refusal(line).startswith(said), line
        assert "\n" not in pyvpp.refusal(line)
    assert state() == before
    assert [each["name"] for each in pyvpp.data("show interface")] == interfaces
    assert sandbox.host.ip("-br", "link") == linux
    for line in ("frobnicate", "ip route del 10.99.0.0/16"):
        assert said_by_ctl(pyvpp, line).startswith(REFUSED[line])


def test_a_pod_that_has_a_default_route_is_left_as_it_is(sandbox: Pair, pyvpp: Pyvpp) -> None:
    pod = sandbox.namespace("pod")
    pod.ip("route", "add", "default", "dev", "lo")
    before = pod.snapshot(sysctls_of="lo")
    said = pyvpp.refusal(f"create tap tun host-ns {pod.path} host-if-name eth0 host-ip4-addr 10.80.1.2/32")
    assert said == f"create tap: host-if-name eth0 in {pod.path}: File exists"
    assert pod.snapshot(sysctls_of="lo") == before
    assert "tun0" not in pyvpp.ctl("show interface")
