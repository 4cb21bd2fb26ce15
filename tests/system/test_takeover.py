# SPDX-License-Identifier: Apache-2.0
"""Taking an uplink over and giving it back, in real namespaces."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pyvpp.linux import ethtool
from pyvpp.linux.ethtool import Offload
from tests.system.conftest import Namespace, Pair, differences, run, tap_view, wait_for_link_local

# A process that takes eth0 over, passes every frame on between wire and TAP, and restores on SIGTERM.
FORWARDER = """
import os, select, signal, socket, sys
from pyvpp.linux.guardian import start_guardian
from pyvpp.errors import OperatorError
runtime_dir = sys.argv[1]
guardian = start_guardian(runtime_dir)
from pyvpp.linux import netns
from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.journal import lock_runtime_dir
from pyvpp.linux.restore import restore
from pyvpp.linux.takeover import take_over
VNET = 15
def nic_socket():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(263, VNET, 1)
    s.setsockopt(263, 23, 1)
    s.bind((taken.nic_name, 3))
    return s
try:
    lock = lock_runtime_dir(runtime_dir)
    state = inspect_uplink("eth0")
    taken = take_over(state, runtime_dir)
except OperatorError as error:
    guardian.done()
    print(error, flush=True)
    sys.exit(1)
assert not taken.warnings, taken.warnings
nic, tap = netns.run_in(taken.netns, nic_socket), taken.tap_fds[0]
stop = []
reader, writer = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
print("ready", flush=True)
while not stop:
    ready = select.select([nic, tap, reader], [], [])[0]
    if nic in ready:
        frame = nic.recv(70000)
        try:
            os.write(tap, frame)
        except OSError:
            pass
    if tap in ready:
        try:
            nic.send(os.read(tap, 70000))
        except OSError:
            pass
problems = restore(runtime_dir)
guardian.done()
assert not problems, problems
print("restored", flush=True)
"""

SERVER = """
import socket, sys
s = socket.create_server((sys.argv[1], 7000), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("listening", flush=True)
c, _ = s.accept()
while data := c.recv(65536):
    c.sendall(data)
"""

CLIENT = """
import socket, sys
c = socket.create_connection((sys.argv[1], 7000), timeout=10)
print("connected", flush=True)
payload = bytes(range(256)) * 800
for line in sys.stdin:
    c.sendall(payload)
    left = len(payload)
    while left:
        got = c.recv(left)
        assert got
        left -= len(got)
    print("echoed", flush=True)
"""


def configure_richly(host: Namespace) -> None:
    """Everything that a careless restore would lose."""
    ip = host.ip
    ip("link", "set", "eth0", "mtu", "1400", "alias", "the uplink", "txqueuelen", "500", "group", "7")
    ip("link", "property", "add", "dev", "eth0", "altname", "enp0s3", "altname", "wan")
    ip("addr", "add", "10.77.0.9/24", "label", "eth0:second", "dev", "eth0")
    ip("addr", "add", "10.78.0.1/16", "metric", "50", "dev", "eth0", "noprefixroute")
    ip("addr", "add", "10.79.0.1", "peer", "10.79.0.2/32", "dev", "eth0", "scope", "link")
    ip("addr", "add", "10.80.0.1/24", "metric", "77", "dev", "eth0", "valid_lft", "5000", "preferred_lft", "4000")
    ip("addr", "add", "2001:db8:78::1/64", "dev", "eth0", "nodad", "noprefixroute")
    ip("addr", "add", "2001:db8:79::1/64", "dev", "eth0", "valid_lft", "5000", "preferred_lft", "4000")
    ip("addr", "add", "2001:db8:79::2/64", "dev", "eth0")
    ip("route", "add", "default", "via", "10.77.0.2", "metric", "100")
    ip("route", "add", "192.0.2.0/24", "via", "10.77.0.3", "src", "10.77.0.9", "mtu", "lock", "1300", "advmss", "1000")
    ip(
        "route",
        "add",
        "198.51.100.0/24",
        "via",
        "10.99.0.1",
        "dev",
        "eth0",
        "onlink",
        "proto",
        "186",
        "metric",
        "20",
        "table",
        "100",
    )
    ip("route", "add", "198.51.100.0/24", "via", "10.77.0.4", "dev", "eth0", "metric", "30", "table", "100")
    ip("route", "add", "203.0.113.0/24", "tos", "0x10", "via", "10.77.0.2", "table", "4000")
    ip("route", "add", "10.100.0.0/16", "nexthop", "via", "10.77.0.3", "weight", "3", "nexthop", "via", "10.77.0.4")
    ip("route", "add", "10.101.0.0/16", "via", "inet6", "fe80::2", "dev", "eth0")
    ip("route", "add", "local", "10.102.0.0/24", "dev", "eth0")
    ip("route", "add", "blackhole", "10.103.0.0/16")
    ip("link", "add", "other", "type", "veth", "peer", "name", "other-end")
    ip("link", "set", "other-end", "up")
    ip("link", "set", "other", "up")
    ip("addr", "add", "10.104.0.1/24", "dev", "other")
    ip("route", "add", "10.105.0.0/16", "dev", "other", "src", "10.77.0.9")
    ip("route", "add", "10.106.0.0/16", "nexthop", "via", "10.77.0.3", "nexthop", "via", "10.104.0.7")
    ip("-6", "route", "add", "default", "via", "fe80::2", "dev", "eth0", "metric", "300", "pref", "high")
    ip("-6", "route", "add", "2001:db8:100::/48", "via", "2001:db8:77::2", "mtu", "1300")
    ip(
        "-6",
        "route",
        "add",
        "2001:db8:101::/48",
        "nexthop",
        "via",
        "2001:db8:77::3",
        "weight",
        "2",
        "nexthop",
        "via",
        "2001:db8:77::4",
    )
    ip("-6", "route", "add", "2001:db8:102::/48", "via", "2001:db8:77::2", "table", "100", "expires", "900")
    ip(
        "-6",
        "route",
        "add",
        "2001:db8:103::/48",
        "nexthop",
        "via",
        "2001:db8:77::3",
        "nexthop",
        "via",
        "fe80::7",
        "dev",
        "other",
    )
    ip("neigh", "add", "10.77.0.50", "lladdr", "02:00:00:00:00:50", "dev", "eth0", "nud", "permanent")
    ip("neigh", "add", "2001:db8:77::50", "lladdr", "02:00:00:00:00:50", "dev", "eth0", "nud", "permanent")
    ip("neigh", "add", "proxy", "10.77.0.60", "dev", "eth0")
    host.run(
        "sh",
        "-c",
        "echo 2 > /proc/sys/net/ipv4/conf/eth0/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp; echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra; echo 99 > /proc/sys/net/ipv4/neigh/eth0/gc_stale_time",
    )
    wait_for_link_local(host)


def start(sandbox: Pair, script: str = FORWARDER) -> subprocess.Popen[str]:
    process = sandbox.start(sandbox.host, sys.executable, "-c", script, sandbox.runtime_dir)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", line + process.communicate()[1]
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and output == "restored\n", output + errors


def assert_same(before: dict[str, Any], sandbox: Pair) -> None:
    found = differences(before, sandbox.host.snapshot())
    assert not found, "\n".join(found)


def assert_nothing_left(sandbox: Pair) -> None:
    left = sorted(path.name for path in sandbox.runtime_dir.iterdir()) if sandbox.runtime_dir.exists() else []
    assert left in ([], ["pyvpp.lock"]), left
    assert str(sandbox.runtime_dir) not in Path("/proc/self/mountinfo").read_text()


def wait_until_restored(sandbox: Pair, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while (sandbox.runtime_dir / "journal.json").exists() or any(sandbox.runtime_dir.glob("netns-*")):
        assert time.monotonic() < deadline, "the guardian did not restore"
        time.sleep(0.02)


def guardian_of(sandbox: Pair) -> int:
    for pid in run("ip", "netns", "pids", sandbox.host.name).stdout.split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if b"-m\0pyvpp.linux.guardian" in Path("/proc", pid, "cmdline").read_bytes():
                return int(pid)
    raise AssertionError("no guardian")


@pytest.mark.parametrize("rich", [False, True])
def test_take_over_and_restore_give_the_same_configuration(sandbox: Pair, rich: bool) -> None:
    if rich:
        configure_richly(sandbox.host)
    before = sandbox.host.snapshot()
    process = start(sandbox)
    wait_for_link_local(sandbox.host)
    during = sandbox.host.snapshot()
    assert "tun" in sandbox.host.ip("-d", "link", "show", "eth0")
    assert not (found := differences(tap_view(before), tap_view(during))), "\n".join(found)
    stop(process)
    assert_same(before, sandbox)
    assert_nothing_left(sandbox)


@pytest.mark.parametrize("on", [False, True])
def test_the_nic_coalesces_while_it_is_taken_and_then_as_before(sandbox: Pair, on: bool) -> None:
    sandbox.host.inside(lambda: ethtool.switch("eth0", Offload.GRO, on))
    process = start(sandbox)
    taken = Namespace("taken")
    taken.path = sandbox.runtime_dir / "netns-eth0"
    assert taken.gro("eth0")
    process.kill()
    process.wait()
    wait_until_restored(sandbox)
    assert sandbox.host.gro("eth0") == on


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_stays_open_through_take_over_restore_and_kill(sandbox: Pair, family: int) -> None:
    before = sandbox.host.snapshot()
    address = "10.77.0.1" if family == 4 else "2001:db8:77::1"
    server = sandbox.start(sandbox.host, sys.executable, "-c", SERVER, address)
    assert server.stdout is not None and server.stdout.readline() == "listening\n"
    client = subprocess.Popen(
        sandbox.peer.command(sys.executable, "-c", CLIENT, address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None and client.stdout is not None
    try:

        def echo() -> None:
            client.stdin.write("\n")
            client.stdin.flush()
            assert client.stdout.readline() == "echoed\n"

        assert client.stdout.readline() == "connected\n"
        echo()
        process = start(sandbox)
        echo()
        stop(process)
        echo()
        process = start(sandbox)
        echo()
        process.kill()
        process.wait()
        wait_until_restored(sandbox)
        echo()
        client.stdin.close()
        assert client.wait(timeout=10) == 0
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
        client.stdin.close()
    assert_same(before, sandbox)
    assert_nothing_left(sandbox)


def test_the_guardian_restores_after_a_kill(sandbox: Pair) -> None:
    configure_richly(sandbox.host)
    before = sandbox.host.snapshot()
    process = start(sandbox)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_restored(sandbox)
    assert_same(before, sandbox)
    assert_nothing_left(sandbox)


def pyvpp_restore(sandbox: Pair) -> None:
    script = "import sys; from pyvpp.linux.restore import restore; print(restore(sys.argv[1]))"
    assert sandbox.host.run(sys.executable, "-c", script, sandbox.runtime_dir).stdout == "[]\n"


def test_restore_from_the_journal_when_the_guardian_is_dead_too(sandbox: Pair) -> None:
    configure_richly(sandbox.host)
    before = sandbox.host.snapshot()
    process = start(sandbox)
    os.kill(guardian_of(sandbox), signal.SIGKILL)
    process.kill()
    process.wait()
    assert "eth0" not in sandbox.host.ip("link"), "the veth is kept by the mounted namespace"
    for _ in range(2):
        pyvpp_restore(sandbox)
        assert_same(before, sandbox)
    assert_nothing_left(sandbox)


def test_a_name_that_somebody_else_took_is_waited_for(sandbox: Pair) -> None:
    """Neither the NIC nor what bears its name is lost: restore says what is in the way, and works when that is gone."""
    before = sandbox.host.snapshot()
    process = start(sandbox)
    os.kill(guardian_of(sandbox), signal.SIGKILL)
    process.kill()
    process.wait()
    sandbox.host.ip("link", "add", "eth0", "type", "veth", "peer", "name", "other")
    script = "import sys; from pyvpp.linux.restore import restore; print(*restore(sys.argv[1]))"
    said = sandbox.host.run(sys.executable, "-c", script, sandbox.runtime_dir).stdout
    assert said.startswith("eth0: cannot be restored yet: [Errno 17] ") and said.count("\n") == 1, said
    sandbox.host.ip("link", "del", "eth0")
    pyvpp_restore(sandbox)
    assert_same(before, sandbox)
    assert_nothing_left(sandbox)


TWO_UPLINKS = """
import sys, time
from pyvpp.linux.guardian import start_guardian
guardian = start_guardian(sys.argv[1])
from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.journal import lock_runtime_dir
from pyvpp.linux.restore import restore
from pyvpp.linux.takeover import take_over
lock = lock_runtime_dir(sys.argv[1])
taken = [take_over(inspect_uplink(name), sys.argv[1]) for name in ("eth0", "eth1")]
assert not any(uplink.warnings for uplink in taken)
print("ready", flush=True)
if sys.argv[2] == "kill":
    time.sleep(60)
assert restore(sys.argv[1]) == []
for uplink in taken:
    uplink.close()
again = take_over(inspect_uplink("eth0"), sys.argv[1])
assert restore(sys.argv[1]) == []
guardian.done()
print("restored")
"""


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_two_uplinks_with_routes_over_both(sandbox: Pair, end: str) -> None:
    host = sandbox.host
    sandbox.join(host, "eth1", sandbox.peer, "eth1")
    host.ip("addr", "add", "10.88.0.1/24", "dev", "eth1")
    host.ip("addr", "add", "2001:db8:88::1/64", "dev", "eth1", "nodad")
    host.ip("route", "add", "default", "nexthop", "via", "10.77.0.2", "nexthop", "via", "10.88.0.2", "weight", "2")
    host.ip("-6", "route", "add", "default", "nexthop", "via", "2001:db8:77::2", "nexthop", "via", "2001:db8:88::2")
    wait_for_link_local(host)
    before = host.snapshot()
    process = sandbox.start(host, sys.executable, "-c", TWO_UPLINKS, sandbox.runtime_dir, end)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    if end == "kill":
        process.kill()
        process.wait()
        wait_until_restored(sandbox)
    else:
        output, errors = process.communicate(timeout=20)
        assert output == "restored\n", errors
    after = host.snapshot()
    for snapshot in (before, after):  # equal routes of both uplinks: the one restored last stands last
        snapshot["link"].sort(key=str)
        snapshot["addr"].sort(key=str)
        snapshot["route6"].sort(key=str)
    found = differences(before, after)
    assert not found, "\n".join(found)
    assert_nothing_left(sandbox)


def test_signals_to_the_guardian_are_ignored(sandbox: Pair) -> None:
    before = sandbox.host.snapshot()
    process = start(sandbox)
    guardian = guardian_of(sandbox)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guardian, number)
    assert not any("net/tun" in os.readlink(link) for link in Path(f"/proc/{guardian}/fd").iterdir())
    process.kill()
    process.wait()
    wait_until_restored(sandbox)
    assert_same(before, sandbox)


def test_what_the_host_changed_meanwhile_is_kept(sandbox: Pair) -> None:
    process = start(sandbox)
    sandbox.host.ip("addr", "add", "10.90.0.1/24", "dev", "eth0")
    sandbox.host.ip("route", "add", "10.91.0.0/16", "via", "10.90.0.2")
    changed = sandbox.host.snapshot()
    stop(process)
    assert differences({"route": changed["route"]}, sandbox.host.snapshot()) == []


@pytest.mark.parametrize(
    "step", ["rehearse", "bring_nic_up", "apply.apply_state", "apply.apply_routes", "apply.apply_neighbors"]
)
def test_a_failure_half_way_leaves_linux_as_it_was(sandbox: Pair, step: str) -> None:
    configure_richly(sandbox.host)
    before = sandbox.host.snapshot()
    broken = FORWARDER.replace(
        "VNET = 15",
        f"""
from pyvpp.linux import takeover
from pyvpp.linux import apply
original = {step if step.startswith("apply") else "takeover." + step}
def fail(*arguments, **options):
    {step if step.startswith("apply") else "takeover." + step} = original
    raise OSError(5, "injected")
{step if step.startswith("apply") else "takeover." + step} = fail
VNET = 15
""",
    )
    done = sandbox.host.run(sys.executable, "-c", broken, sandbox.runtime_dir, check=False)
    assert done.returncode == 1 and done.stderr == "", done.stderr
    assert done.stdout == "uplink eth0: cannot be taken over: [Errno 5] injected; Linux is left as it was\n"
    assert_same(before, sandbox)
    assert_nothing_left(sandbox)


def refused(sandbox: Pair, prefix: list[str] | None = None) -> str:
    """The one line with which taking over ends; Linux must be untouched."""
    before = sandbox.host.snapshot()
    done = run(
        *(prefix or []), *sandbox.host.command(sys.executable, "-c", FORWARDER, sandbox.runtime_dir), check=False
    )
    assert done.returncode == 1 and done.stderr == "", done.stdout + done.stderr
    assert done.stdout.count("\n") == 1
    assert_same(before, sandbox)
    return done.stdout


def test_bad_uplinks_are_refused_with_one_line(sandbox: Pair) -> None:
    host = sandbox.host
    own_mac = ("address", "02:00:00:00:00:77")
    host.ip("link", "add", "link", "eth0", "name", "vlan7", *own_mac, "type", "vlan", "id", "7", check=False)
    if "vlan7" in host.ip("link"):  # not every kernel has VLANs
        assert "its VLAN vlan7 has a MAC address of its own" in refused(sandbox)
        host.ip("link", "del", "vlan7")
    host.ip("link", "add", "vx", "type", "vxlan", "id", "7", "dev", "eth0", "dstport", "4789")
    assert "vx built on it" in refused(sandbox)
    host.ip("link", "del", "vx")
    host.ip("link", "set", "eth0", "down")
    assert refused(sandbox) == "uplink eth0: is down; bring it up first (ip link set eth0 up)\n"
    host.ip("link", "set", "eth0", "up")
    wait_for_link_local(host)
    host.ip("addr", "flush", "dev", "eth0", "scope", "global")
    assert refused(sandbox).startswith("uplink eth0: has no address; ")
    host.ip("link", "set", "eth0", "name", "eth1")
    host.ip("link", "add", "eth2", "type", "veth", "peer", "name", "eth3")
    done = host.run(sys.executable, "-c", FORWARDER, sandbox.runtime_dir, check=False)
    assert done.stdout == "uplink eth0: no such interface; there are: eth1, eth2, eth3\n"


def test_taken_uplink_and_used_runtime_directory_are_refused(sandbox: Pair) -> None:
    process = start(sandbox)
    first = int(
        run("pgrep", "-f", "--ns", str(process.pid), "--nslist", "net", "start_guardian", check=False).stdout.split()[0]
    )
    done = sandbox.host.run(sys.executable, "-c", FORWARDER, sandbox.runtime_dir, check=False)
    assert done.stdout.startswith(
        f"runtime directory {sandbox.runtime_dir}: in use by the pyvpp with process id {first};"
    )
    done = sandbox.host.run(sys.executable, "-c", FORWARDER, sandbox.directory / "second", check=False)
    assert done.stdout.startswith(f"uplink eth0: already taken over by the pyvpp with process id {first};")
    stop(process)


def test_no_root_no_tun_device_and_a_full_disk_are_refused(sandbox: Pair, tmp_path: Path) -> None:
    drop = "import os\nimport pyvpp.linux.capture as c\nos.geteuid = lambda: 1000\n"
    done = sandbox.host.run(sys.executable, "-c", drop + FORWARDER, sandbox.runtime_dir, check=False)
    assert done.stdout.startswith("pyvpp runs as user 1000: ")
    missing = "import pathlib\nimport pyvpp.linux.capture as c\nc.TUN_DEVICE = pathlib.Path('/dev/net/nothing')\n"
    done = sandbox.host.run(sys.executable, "-c", missing + FORWARDER, sandbox.runtime_dir, check=False)
    assert done.stdout.startswith("/dev/net/nothing: No such file or directory: ")
    sandbox.runtime_dir.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", sandbox.runtime_dir)
    try:
        with (
            pytest.raises(OSError, match="No space"),
            (sandbox.runtime_dir / "filler").open("wb", buffering=0) as filler,
        ):
            while True:
                filler.write(bytes(4096))
        assert f"journal {sandbox.runtime_dir}/journal.json: No space left on device" in refused(sandbox)
        assert sorted(path.name for path in sandbox.runtime_dir.iterdir()) == ["filler", "pyvpp.lock"]
    finally:
        run("umount", "-l", sandbox.runtime_dir)


BOUND = """
import socket, struct, sys
sockets = []
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, 7001))
    sockets.append(s)
index = socket.if_nametoindex("eth0")
for family, level, group in (
    (socket.AF_INET, socket.IPPROTO_IP, "239.1.2.3"), (socket.AF_INET6, socket.IPPROTO_IPV6, "ff02::1234")
):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((group, 7002) if family == socket.AF_INET else (group, 7002, 0, index))
    address = struct.pack("=HHI", family, 0, 0)[: 4 if family == socket.AF_INET else 8] + socket.inet_pton(family, group)
    s.setsockopt(level, 42, struct.pack("=I4x", index) + address.ljust(128, bytes(1)))
    sockets.append(s)
print("bound", flush=True)
for _ in sys.stdin:
    for s in sockets:
        s.settimeout(10)
        s.recv(100)
    print("all received", flush=True)
"""

SENDER = """
import socket, sys
index = socket.if_nametoindex("eth0")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.77.0.2"))
    s.sendto(b"bound", ("10.77.0.1", 7001))
    s.sendto(b"group", ("239.1.2.3", 7002))
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    s.sendto(b"bound", (sys.argv[1], 7001, 0, index))
    s.sendto(b"group", ("ff02::1234", 7002, 0, index))
"""


def test_sockets_of_the_device_and_of_groups_go_on(sandbox: Pair) -> None:
    """Bound by SO_BINDTODEVICE, or members of a multicast group: before, during, afterwards, and after a kill."""
    sandbox.host.ip("maddr", "add", "33:33:00:00:00:77", "dev", "eth0")
    link_local = sandbox.host.ip("-o", "-6", "addr", "show", "dev", "eth0", "scope", "link").split()[3].split("/")[0]
    index = sandbox.host.ip("-o", "link", "show", "eth0").split(":")[0]
    groups = sandbox.host.ip("maddr", "show", "dev", "eth0")
    listener = sandbox.start(sandbox.host, sys.executable, "-c", BOUND, stdin=subprocess.PIPE)
    assert listener.stdout is not None and listener.stdin is not None
    assert listener.stdout.readline() == "bound\n", listener.communicate()[1]
    joined = sandbox.host.ip("maddr", "show", "dev", "eth0")
    assert joined != groups

    def all_receive() -> None:
        sandbox.peer.run(sys.executable, "-c", SENDER, link_local)
        listener.stdin.write("\n")
        listener.stdin.flush()
        assert listener.stdout.readline() == "all received\n", listener.communicate()[1]
        assert sandbox.host.ip("-o", "link", "show", "eth0").split(":")[0] == index
        assert sorted(sandbox.host.ip("maddr", "show", "dev", "eth0").split()) == sorted(joined.split())

    all_receive()
    process = start(sandbox)
    all_receive()
    stop(process)
    all_receive()
    process = start(sandbox)
    process.kill()
    process.wait()
    wait_until_restored(sandbox)
    all_receive()


SNIFFER = """
import select, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind(("eth0", 0x88B5))
s.settimeout(10)
print("bound", flush=True)
while True:
    try:
        print(s.recv(100)[14:].rstrip(bytes(1)).decode(), flush=True)
    except TimeoutError:
        raise
    except OSError:  # as a DHCP client: ENETDOWN is no reason to give up
        continue
"""


def test_packet_sockets_on_the_uplink_hear_on(sandbox: Pair) -> None:
    """Before, from the TAP, and from the NIC again; only frames of their protocol."""
    sniffer = sandbox.start(sandbox.host, sys.executable, "-c", SNIFFER)
    assert sniffer.stdout is not None and sniffer.stdout.readline() == "bound\n", sniffer.communicate()[1]
    with sandbox.peer.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
        wire.bind(("eth0", 0))

        def hears(word: str) -> None:
            for protocol, said in ((b"\x88\xb6", b"other"), (b"\x88\xb5", word.encode())):
                wire.send(bytes.fromhex("ffffffffffff 020000000001") + protocol + said)
            assert sniffer.stdout.readline() == word + "\n", sniffer.communicate()[1]

        hears("before")
        process = start(sandbox)
        hears("on the TAP")
        stop(process)
        hears("on the NIC")
        process = start(sandbox)
        hears("on the next TAP")
        process.kill()
        process.wait()
        wait_until_restored(sandbox)
        hears("after a crash")
