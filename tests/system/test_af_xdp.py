# SPDX-License-Identifier: Apache-2.0
"""AF_XDP against Linux: interfaces by the command line and an uplink, on veth pairs in namespaces of our own.

Tests share a network, and a pyvpp without interfaces where that is enough: each gives back what it took and shows it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from pyvpp import demo
from pyvpp.device import bpf
from pyvpp.device.af_xdp import LEFT_TO_VETH
from pyvpp.device.af_xdp_socket import RX_SLOTS
from pyvpp.device.bpf import Register
from pyvpp.linux import ethtool
from tests.system.conftest import Namespace, Pair, Sandbox, wait_for_link_local
from tests.system.process import Pyvpp, eventually, ping, running
from tests.system.traffic import datagrams as numbered_datagrams
from tests.system.traffic import datagrams_to_nobody, transfer

Router = tuple[Pyvpp, Namespace, Namespace, Namespace]


def switch_feature(namespace: Namespace, name: str, feature: str, on: bool) -> None:
    """As `ethtool -K` does by a feature's own name (linux/ethtool.h)."""
    get_strings, get_count, set_features, of_features, width = 0x1B, 0x37, 0x3B, 4, 32

    def switch() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            info = ethtool.exchange(any_socket, name, struct.pack("IIQI", get_count, 0, 1 << of_features, 0))
            (count,) = struct.unpack_from("I", info, 16)
            asked = struct.pack("III", get_strings, of_features, count) + bytes(count * width)
            names = ethtool.exchange(any_socket, name, asked)[12:]
            k = [names[i * width : (i + 1) * width].split(b"\0")[0].decode() for i in range(count)].index(feature)
            blocks = [[0, 0] for _ in range(-(-count // 32))]
            blocks[k // 32] = [1 << k % 32, int(on) << k % 32]
            words = [word for block in blocks for word in block]
            ethtool.exchange(any_socket, name, struct.pack(f"II{len(words)}I", set_features, len(blocks), *words))

    namespace.inside(switch)


@contextlib.contextmanager
def without(namespace: Namespace, feature: str) -> Iterator[None]:
    """eth0 of a namespace without a feature."""
    switch_feature(namespace, "eth0", feature, False)
    try:
        yield
    finally:
        switch_feature(namespace, "eth0", feature, True)


@contextlib.contextmanager
def tagging(namespace: Namespace, vlan: int = 7) -> Iterator[None]:
    """What leaves by eth0 has a VLAN tag, beside the packet as a VLAN interface of Linux leaves it.

    By a BPF program, since not every kernel has VLAN interfaces: bpf_skb_vlan_push(packet, htons(ETH_P_8021Q), vlan).
    """
    scheduler_program, egress, push, passes = 3, 47, 18, 0  # linux/bpf.h: BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_EGRESS
    code = bpf.assemble(
        bpf.set_to(Register.R2, socket.htons(0x8100)), bpf.set_to(Register.R3, vlan), bpf.call(push),
        bpf.set_to(Register.R0, passes), bpf.leave(),
    )  # fmt: skip
    program = bpf.load_program(code, scheduler_program, egress, b"tagging")
    try:
        link = namespace.inside(lambda: bpf.create_link(program, socket.if_nametoindex("eth0"), egress))
    finally:
        os.close(program)
    try:
        yield
    finally:
        os.close(link)


def small_buffers_used(pyvpp: Pyvpp) -> int:
    return int(pyvpp.data("show buffers")[0]["used"])


def xdp_mode(namespace: Namespace, name: str) -> str | None:
    """Where an XDP program is on a Linux interface: xdp, xdpgeneric, or None when there is none."""
    words = namespace.ip("link", "show", name).split()
    return next((word for word in words if word.startswith("xdp")), None)


def until_answered(source: Namespace, address: str) -> None:
    """Returns when pings are answered; the first ones are lost to neighbors that are not known yet."""
    eventually(lambda: demo.ping(source, address, 1, 0.1), f"{address} answers")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """pyvpp without interfaces in a namespace between two others, each at the other end of a veth pair."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    sandbox = Sandbox(tmp_path_factory.mktemp("router"))
    with contextlib.closing(sandbox):
        node, left, right = (sandbox.namespace(name) for name in ("node", "left", "right"))
        for number, end in enumerate((left, right), 1):
            sandbox.join(node, f"port{number}", end, "eth0")
            end.ip("addr", "add", f"10.9.{number}.2/24", "dev", "eth0")
            end.ip("route", "add", "10.9.0.0/16", "via", f"10.9.{number}.1")
        with running(sandbox, node) as pyvpp:
            yield pyvpp, node, left, right


@pytest.fixture
def router(network: Router) -> Iterator[Router]:
    """The network as it was made: interfaces are deleted after each test, and all buffers must be back then."""
    pyvpp, node, left, right = network
    unused = small_buffers_used(pyvpp)
    yield network
    for interface in pyvpp.data("show interface"):
        if interface["name"] != "local0":
            pyvpp.ctl(f"delete interface af_xdp {interface['name']}")
    assert small_buffers_used(pyvpp) == unused
    for number, end in enumerate((left, right), 1):
        assert xdp_mode(node, f"port{number}") is None
        node.ip("link", "set", f"port{number}", "mtu", "1500")
        end.ip("link", "set", "eth0", "mtu", "1500")
    pyvpp.ctl("clear errors")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with Pair(tmp_path_factory.mktemp("uplink")).as_joined() as joined:
        yield joined


@pytest.fixture
def sandbox(pair: Pair) -> Iterator[Pair]:
    """A host and its peer, whose network is the same after each test as before it."""
    before = pair.host.snapshot()
    yield pair
    wait_for_link_local(pair.host)
    assert pair.host.snapshot() == before
    assert xdp_mode(pair.host, "eth0") is None


def create(pyvpp: Pyvpp, number: int, options: str = "") -> str:
    """An interface on a port, up and with the port's address; its name."""
    name = pyvpp.ctl(f"create interface af_xdp host-if port{number} hw-addr 02:00:00:00:00:0{number} {options}").strip()
    pyvpp.ctl(f"set interface state {name} up")
    pyvpp.ctl(f"set interface ip address {name} 10.9.{number}.1/24")
    return name


@pytest.mark.parametrize(("attach", "mode"), [("auto", "xdpgeneric"), ("native", "xdp"), ("generic", "xdpgeneric")])
def test_an_interface_comes_and_goes(router: Router, attach: str, mode: str) -> None:
    pyvpp, node, left, _ = router
    unused = small_buffers_used(pyvpp)
    name = create(pyvpp, 1, f"rx-queue-size 512 attach {attach}")
    assert name == "port1/0"
    assert xdp_mode(node, "port1") == mode
    until_answered(left, "10.9.1.1")
    assert ping(left, "10.9.1.1", 20) == 20
    assert small_buffers_used(pyvpp) == unused + 512, "all that were sent are back"
    pyvpp.ctl(f"delete interface af_xdp {name}")
    assert xdp_mode(node, "port1") is None
    assert small_buffers_used(pyvpp) == unused
    assert create(pyvpp, 1, "rx-queue-size 512") == name, "at once again: Linux lets go of a queue late"
    until_answered(left, "10.9.1.1")


def datagrams(source: Namespace, target: Namespace, address: str, count: int, size: int) -> int:
    """How many of so many UDP datagrams arrived unharmed, sent a few at a time."""
    with target.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
        receiver.bind((address, 0))
        receiver.settimeout(2.0)
        arrived = 0
        with source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            sender.connect(receiver.getsockname())
            for number in range(count):
                payload = number.to_bytes(4, "big") + bytes((number + k) & 0xFF for k in range(size - 4))
                sender.send(payload)
                try:
                    arrived += receiver.recv(65536) == payload
                except TimeoutError:
                    continue
        return arrived


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_datagrams_are_forwarded_with_a_right_checksum(router: Router, attach: str) -> None:
    """A veth peer leaves the checksum to the device; the other's Linux verifies or is told the same again."""
    pyvpp, _, left, right = router
    for number in (1, 2):
        create(pyvpp, number, f"attach {attach}")
    until_answered(left, "10.9.2.2")
    for size in (4, 100, 1472):
        assert datagrams(left, right, "10.9.2.2", 20, size) == 20
        assert datagrams(right, left, "10.9.1.2", 20, size) == 20
    assert not pyvpp.counter("af-xdp-input", "bad descriptor")


def carries_traffic(sandbox: Pair, pyvpp: Pyvpp) -> None:
    """The peer keeps its offloads: segments of up to 64 KiB come in many pieces, their checksums unfinished."""
    hardware = pyvpp.data("show hardware-interfaces host-eth0")[0]
    assert (hardware["kind"], hardware["driver"]) == ("af-xdp", "veth")
    assert hardware["features"][:4] == ["generic", "copy", "need-wakeup", "multi-buffer"]
    until_answered(sandbox.peer, "10.77.0.1")
    transfer(sandbox.peer, sandbox.host, "10.77.0.1", 8)
    transfer(sandbox.host, sandbox.peer, "2001:db8:77::2", 4)
    assert datagrams(sandbox.peer, sandbox.host, "10.77.0.1", 10, 1000) == 10
    assert datagrams(sandbox.host, sandbox.peer, "10.77.0.2", 10, 1000) == 10
    received = pyvpp.interface("host-eth0")["counters"]
    assert received["rx bytes"] / received["rx packets"] > 2000, "what the peer sends is not cut into segments"
    for counter in ("bad descriptor", "packet larger than a buffer, or no packet", "bad completion"):
        assert not pyvpp.counter("af-xdp-input", counter) and not pyvpp.counter("host-eth0-tx", counter)
    (sockets,) = pyvpp.data("show hardware-interfaces host-eth0")[0]["sockets"]
    assert sockets["rx_invalid_descriptors"] == sockets["tx_invalid_descriptors"] == 0
    eventually(lambda: small_buffers_used(pyvpp) == RX_SLOTS, "only the receive ring's buffers are not free")


def test_an_uplink_carries_tcp_and_is_given_back(sandbox: Pair) -> None:
    options = ("--uplink", "eth0", "--driver", "af-xdp", "--workers", "2")
    with running(sandbox, sandbox.host, *options) as pyvpp:
        carries_traffic(sandbox, pyvpp)


def test_a_kill_leaves_no_program_on_the_nic(sandbox: Pair) -> None:
    """With one worker, it carries TCP as well, until then."""
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--driver", "af-xdp", "--workers", "1")
    pyvpp.wait_until_ready()
    carries_traffic(sandbox, pyvpp)
    pyvpp.process.kill()
    pyvpp.process.wait()
    eventually(lambda: sandbox.host.snapshot() == before, "the guardian gives the NIC back")
    assert xdp_mode(sandbox.host, "eth0") is None
    assert ping(sandbox.peer, "10.77.0.1", 3) == 3


def test_an_mtu_that_af_xdp_does_not_carry_is_refused_before_anything_moves(sandbox: Pair) -> None:
    for namespace in (sandbox.host, sandbox.peer):
        namespace.ip("link", "set", "eth0", "mtu", "40000")
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--driver", "af-xdp")
    _, errors = pyvpp.process.communicate(timeout=60)
    assert pyvpp.process.returncode == 1
    assert errors == (
        "pyvpp: Linux interface eth0: its MTU of 40000 is too large for AF_XDP, which carries 34798 at most; "
        "lower it or use af_packet\n"
    )
    assert sandbox.host.snapshot() == before
    for namespace in (sandbox.host, sandbox.peer):
        namespace.ip("link", "set", "eth0", "mtu", "1500")


def test_what_cannot_be_opened_is_one_clear_line(router: Router) -> None:
    pyvpp, node, left, _ = router
    free = small_buffers_used(pyvpp)
    node.ip("link", "set", "port1", "mtu", "9000")
    left.ip("link", "set", "eth0", "mtu", "9000")
    create_on = "create interface af_xdp host-if"
    for line, said in {
        f"{create_on} nope": "Linux interface nope: No such device",
        f"{create_on} port2 num-rx-queues 5": "Linux interface port2: num-rx-queues 5: it has 1",
        f"{create_on} port2 rx-queue-size 100": "invalid queue size `100' (expected a power of two)",
        f"{create_on} port2 rx-queue-size 32768": (
            "Linux interface port2: rx-queue-size 32768: only 16320 buffers are free; choose less or more --buffers"
        ),
        f"{create_on} port2 mode zero-copy": (
            "Linux interface port2: mode zero-copy: its driver veth offers no zero-copy AF_XDP"
        ),
        f"{create_on} port2 mode zero-copy attach native": (
            "Linux interface port2: AF_XDP is not possible (native, zero-copy: the driver veth does not offer it)"
        ),
        f"{create_on} port1 no-multi-buffer": (
            "Linux interface port1: its MTU of 9000 is too large for AF_XDP, which carries 2030 at most; "
            "lower it or use af_packet"
        ),
    }.items():
        assert pyvpp.refusal(line).endswith(said), line
        assert xdp_mode(node, "port1") is xdp_mode(node, "port2") is None
        assert small_buffers_used(pyvpp) == free
    name = pyvpp.ctl(f"{create_on} port2").strip()
    assert "another XDP program or AF_XDP socket is on it" in pyvpp.refusal(f"{create_on} port2")
    assert pyvpp.refusal("delete interface af_xdp local0").endswith("local0 is no af_xdp interface (it is local)")
    pyvpp.ctl(f"delete interface af_xdp {name}")
    assert small_buffers_used(pyvpp) == free


def test_queues_are_spread_over_workers(make_sandbox: Callable[[], Sandbox]) -> None:
    """A veth pair with two queues: flows take both, each read by a worker of its own, and nothing is lost on the way.

    Native: what runs generic XDP on veth gives every packet to the first queue.
    """
    sandbox = make_sandbox()
    node, left, right = (sandbox.namespace(name) for name in ("node", "left", "right"))
    queues = ("numrxqueues", "2", "numtxqueues", "2")
    for number, end in enumerate((left, right), 1):
        end.ip(
            "link", "add", "eth0", *queues, "type", "veth", "peer", "name", f"port{number}", *queues, "netns", node.name
        )
        node.ip("link", "set", f"port{number}", "up")
        end.ip("link", "set", "eth0", "up")
        end.ip("addr", "add", f"10.9.{number}.2/24", "dev", "eth0")
        end.ip("route", "add", "10.9.0.0/16", "via", f"10.9.{number}.1")
    with running(sandbox, node, "--workers", "2") as pyvpp:
        unused = small_buffers_used(pyvpp)
        names = [create(pyvpp, number, "num-rx-queues all rx-queue-size 256 attach native") for number in (1, 2)]
        until_answered(left, "10.9.2.2")
        for _ in range(16):  # each with ports of its own
            assert datagrams(left, right, "10.9.2.2", 4, 200) == 4
            assert datagrams(right, left, "10.9.1.2", 4, 200) == 4
        transfer(left, right, "10.9.2.2", 4)
        threads = pyvpp.data("show runtime verbose")
        for name in names:
            inputs = (f"{name}-input", f"{name}-input-1")
            moved = {
                (node["name"], thread["thread"])
                for thread in threads for node in thread["nodes"] if node["name"] in inputs and node["vectors"]
            }  # fmt: skip
            assert {node for node, _ in moved} == set(inputs), "both queues had packets"
            assert len({thread for _, thread in moved}) == 2, "and a worker each"
        for worker in (0, 1):
            for name in names:
                pyvpp.ctl(f"set interface rx-placement {name} worker {worker}")
            transfer(left, right, "10.9.2.2", 4)
        eventually(lambda: small_buffers_used(pyvpp) == unused + 4 * 256, "only the receive rings' are not free")
        for name in names:
            pyvpp.ctl(f"delete interface af_xdp {name}")
        assert small_buffers_used(pyvpp) == unused
        name = create(pyvpp, 1, "num-rx-queues all rx-queue-size 4096 attach native")
        assert pyvpp.refusal(f"set interface rx-placement {name} worker 0").endswith(
            "Linux interface port1: worker 0 has too few free buffers to take over the 4096 of a receive queue; "
            "choose a smaller rx-queue-size or more --buffers"
        )
        assert [each["worker"] for each in pyvpp.data(f"show interface rx-placement {name}")] == [0, 1]
        pyvpp.ctl(f"delete interface af_xdp {name}")
        assert small_buffers_used(pyvpp) == unused


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_jumbo_packets_in_several_descriptors(router: Router, attach: str) -> None:
    pyvpp, node, left, right = router
    for number, end in enumerate((left, right), 1):
        node.ip("link", "set", f"port{number}", "mtu", "9000")
        end.ip("link", "set", "eth0", "mtu", "9000")
        create(pyvpp, number, f"attach {attach}")
    until_answered(left, "10.9.2.2")
    for size in (2030, 4000, 8972):
        assert datagrams(left, right, "10.9.2.2", 10, size) == 10
        assert datagrams(right, left, "10.9.1.2", 10, size) == 10
    transfer(left, right, "10.9.2.2", 4)
    for hardware in pyvpp.data("show hardware-interfaces")[1:]:
        assert all(each["tx_invalid_descriptors"] == 0 for each in hardware["sockets"])


ENDS = (("10.77.0.1", "10.77.0.2"), ("10.77.0.2", "10.77.0.1"))
TUNNELS = {
    "vxlan-l3": "create vxlan tunnel {} vni 4096 l3",
    "vxlan": "create vxlan tunnel {} vni 42",
    "ipip": "create ipip tunnel {}",
}


def add_pods(sandbox: Pair, pyvpp: Pyvpp, node: int) -> dict[str, Namespace]:
    """A pod behind each kind of tunnel from a node (0 or 1) to the other, by its address."""
    pods = {}
    source, destination = ENDS[node]
    for kind, create in TUNNELS.items():
        number = list(TUNNELS).index(kind)
        pod = sandbox.namespace(f"{pyvpp.process.pid}-{kind}")
        address, other = f"10.8{node}.{number}.2", f"10.8{1 - node}.{number}.2"
        pyvpp.ctl(f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr {address}/32 host-mtu-size 1450")
        tunnel = pyvpp.ctl(create.format(f"src {source} dst {destination}")).strip()
        pyvpp.ctl(f"set interface state {tunnel} up")
        if kind == "vxlan":  # frames of Ethernet
            pyvpp.ctl(f"set interface ip address {tunnel} 10.90.0.{node + 1}/24")
            pyvpp.ctl(f"ip route add {other}/32 via 10.90.0.{2 - node} {tunnel}")
        else:
            pyvpp.ctl(f"ip route add {other}/32 via {tunnel}")
        pods[address] = pod
    return pods


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_a_tag_is_seen_only_where_a_veth_peer_writes_it_itself(router: Router, attach: str) -> None:
    """Linux keeps the tag beside the packet, which arrives without. A warning says so: switch that off at the peer."""
    pyvpp, _, left, right = router
    pyvpp.ctl("clear logging")
    for number in (1, 2):
        create(pyvpp, number, f"attach {attach}")
    warnings = [each["message"] for each in pyvpp.data("show logging") if each["level"] == "warn"]
    assert warnings == [f"port{number}: {LEFT_TO_VETH}" for number in (1, 2)]
    until_answered(left, "10.9.2.2")
    with tagging(left):
        assert datagrams(left, right, "10.9.2.2", 3, 100) == 3, "as if they had no tag"
        assert pyvpp.counter("ethernet-input", "unknown vlan") == 0
        with without(left, "tx-vlan-hw-insert"):
            assert datagrams(left, right, "10.9.2.2", 1, 100) == 0
            assert pyvpp.counter("ethernet-input", "unknown vlan") >= 1


def test_datagrams_that_a_veth_peer_leaves_to_be_cut(router: Router) -> None:
    """How is nowhere said: many are dropped and few arrive as one, unless the peer's Linux cuts them itself."""
    pyvpp, _, left, right = router
    for number in (1, 2):
        create(pyvpp, number, "attach generic")
    until_answered(left, "10.9.2.2")
    datagrams_to_nobody(left, "10.9.2.2", 1200, 48_000)
    uncuttable = "port1/0-input", "datagrams to be segmented, nothing says where"
    eventually(lambda: pyvpp.counter(*uncuttable) == 1, "they are dropped")
    with right.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(("10.9.2.2", 9))
        receiver.settimeout(5.0)
        datagrams_to_nobody(left, "10.9.2.2", 500, 1000)
        assert len(receiver.recv(0xFFFF)) == 1000
        with without(left, "tx-udp-segmentation"):
            datagrams_to_nobody(left, "10.9.2.2", 500, 1000)
            assert [len(receiver.recv(0xFFFF)) for _ in range(2)] == [500, 500]
            numbered_datagrams(left, right, "10.9.2.2")
    assert pyvpp.counter(*uncuttable) == 1


def test_tcp_of_pods_in_tunnels(sandbox: Pair) -> None:
    """Between nodes on AF_XDP, and between one on AF_XDP and one on AF_PACKET, which `auto` takes on veth.

    A large packet crosses a VXLAN tunnel as a train, and AF_XDP does not say where to cut it.
    """
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--driver", "af-xdp") as pyvpp:
        near = add_pods(sandbox, pyvpp, 0)
        for driver in ("af-xdp", "auto"):
            other = Pyvpp(sandbox, sandbox.peer, "--uplink", "eth0", "--driver", driver)
            if driver == "auto":
                says_why_af_packet(other)
            other.wait_until_ready()
            far = add_pods(sandbox, other, 1)
            for (address, pod), (other_address, other_pod) in zip(near.items(), far.items(), strict=True):
                until_answered(other_pod, address)
                transfer(pod, other_pod, other_address, 4)
            for node in (pyvpp, other):
                assert node.counter("gso-udp4-input", "segments sent") > 2 * 4 * 700, "large packets were trains"
                assert not node.counter("gso-udp4-input", "malformed packet")
                assert not node.counter("vxlan4-input", "truncated packet")
            if driver == "auto":
                assert "  af-packet: its driver veth offers no zero-copy AF_XDP\n" in other.ctl(
                    "show hardware-interfaces host-eth0"
                )
            other.stop()
            pyvpp.ctl("clear errors")


def says_why_af_packet(pyvpp: Pyvpp) -> None:
    assert pyvpp.process.stdout is not None
    assert pyvpp.process.stdout.readline() == (
        "pyvpp: eth0 is driven by af-packet: its driver veth offers no zero-copy AF_XDP\n"
    )
