# SPDX-License-Identifier: Apache-2.0
"""What `pyvpp doctor` looks at in Linux: each check gives findings and changes nothing."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
from pyroute2 import IPRoute

from pyvpp.errors import OperatorError
from pyvpp.linux import capture, multicast, netns, other_sockets, privileges, repair, runtime_dir
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.hooks import Hooks
from pyvpp.linux.journal import Journal, holder_of, pending
from pyvpp.linux.names import interface_name
from pyvpp.linux.route import AF_INET, AF_INET6

OK, WARN, FAIL, DONE = "ok", "warn", "fail", "done"
_LEAST_KERNEL, _GOOD_KERNEL = (5, 3), (5, 6)  # pidfd_open; pidfd_getfd
_MANAGERS = {
    "NetworkManager": "tell it to leave the TAP alone: packaging/hooks/networkmanager, or packaging/networkmanager",
    "systemd-network": "match the TAP by name, not by PermanentMACAddress: packaging/hooks/networkd",
    "connmand": "add the uplink to NetworkInterfaceBlacklist in /etc/connman/main.conf",
    "wickedd": "set STARTMODE='manual' for the uplink",
}
_DHCP_CLIENTS = ("dhclient", "dhcpcd", "udhcpc", "dhcp6c")
_LINK_FILES = ("/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network")
_ETH_P_ALL = 3
_COMM_BYTES = 15


class Finding(msgspec.Struct):
    """One line of the report. `fix` is what `--fix` does about it, empty where that is left to the operator."""

    verdict: str
    what: str
    found: str
    remedy: str = ""
    fix: str = ""


def of_the_machine() -> Iterator[Finding]:
    """Rights, devices and kernel, and who else cares about links."""
    yield from _rights()
    yield _tun()
    yield _packet_socket()
    yield _kernel()
    yield _hugepages()
    yield from _managers()
    yield _udev()


def _rights() -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding(FAIL, "rights", f"running as user {os.geteuid()}", "run pyvpp as root (the service does)")
        return
    missing = privileges.missing()
    if lost := [capability.name for capability in missing if capability in privileges.INDISPENSABLE]:
        remedy = "give the container or the unit these capabilities"
        yield Finding(FAIL, "rights", f"root without {', '.join(lost)}", remedy)
    for capability in missing:
        if what := privileges.HELPFUL.get(capability):
            yield Finding(
                WARN, "rights", f"root without {capability.name}, by which {what}", "give it, if that matters"
            )
    if not missing:
        kept = ", ".join(capability.name for capability in privileges.NEEDED)
        yield Finding(OK, "rights", f"root; pyvpp keeps {kept} and gives up the others")


def _tun() -> Finding:
    try:
        os.close(os.open(capture.TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        remedy = "modprobe tun, or give the container this device (--device /dev/net/tun)"
        return Finding(FAIL, "tun", f"{capture.TUN_DEVICE}: {error.strerror}", remedy, repair.TUN.says)
    return Finding(OK, "tun", f"{capture.TUN_DEVICE} opens")


def _packet_socket() -> Finding:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        remedy = "the NIC is read through it: CONFIG_PACKET in the kernel, CAP_NET_RAW in the container"
        return Finding(FAIL, "af-packet", f"no packet socket: {error.strerror}", remedy)
    return Finding(OK, "af-packet", "packet sockets open")


def _kernel() -> Finding:
    release = os.uname().release
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version < _LEAST_KERNEL:
        return Finding(FAIL, "kernel", release, "the guardian needs 5.3 or newer (pidfd_open)")
    if version < _GOOD_KERNEL:
        return Finding(
            WARN, "kernel", release, "before 5.6 sockets lose the multicast groups they joined on the uplink"
        )
    return Finding(OK, "kernel", release)


def _hugepages() -> Finding:
    words = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(words.get("HugePages_Free", "0"))
    if free:
        return Finding(OK, "hugepages", f"{free} of {words['Hugepagesize'].strip()} are free")
    return Finding(OK, "hugepages", "none; ordinary pages do (a small difference, see pyvpp bench --hugepages off)")


def _processes() -> Iterator[tuple[int, str]]:
    """Processes of this network namespace and their names, as many bytes as Linux keeps."""
    mine = netns.identity()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if netns.identity(process / "ns/net") == mine:
                yield int(process.name), (process / "comm").read_text().strip()
        except OSError:
            continue  # it ended meanwhile, or it is not ours to look at


def _managers() -> Iterator[Finding]:
    names = {name for _, name in _processes()}
    found = [name for name in _MANAGERS if name[:_COMM_BYTES] in names]
    for name in found:
        what = f"{name} runs: it may give the TAP other addresses, or take them away"
        yield Finding(WARN, "network manager", what, _MANAGERS[name])
    if not found:
        yield Finding(OK, "network manager", "none runs")


def _udev() -> Finding:
    if not any(name == "systemd-udevd" for _, name in _processes()):
        return Finding(OK, "udev", "does not run")
    for directory in _LINK_FILES:
        for path in sorted(Path(directory).glob("*.link")):
            text = path.read_text(errors="replace")
            if re.search(r"^(Driver|Kind)\s*=.*\btun\b", text, re.M) and "MACAddressPolicy=none" in text:
                return Finding(OK, "udev", f"leaves the MAC address of a TAP alone ({path})")
    return Finding(
        WARN, "udev", "systemd-udevd runs: its default may change the TAP's MAC address, and nobody is reached then",
        "install packaging/systemd/10-pyvpp-tap.link in /etc/systemd/network", repair.UDEV.says,
    )  # fmt: skip


def of_the_runtime_dir(directory: Path) -> Iterator[Finding]:
    """What an earlier pyvpp left, or one that runs, and whether others could write there."""
    try:
        runtime_dir.check(directory)
    except FileNotFoundError:
        pass
    except (OSError, OperatorError) as error:
        yield Finding(FAIL, "runtime directory", str(error), "chown it to root and chmod it to 0750, or remove it")
    if holder := holder_of(directory):
        yield Finding(OK, "runtime directory", f"{directory} is used by the pyvpp with process id {holder}")
        return
    try:
        taken = pending(directory)
    except OperatorError as error:
        yield Finding(FAIL, "journal", str(error), "restore by hand, then remove it")
        return
    if taken:
        what = f"{Journal(directory).path} says that {', '.join(taken)} is taken over, and no pyvpp runs"
        remedy = f"run `pyvpp restore --runtime-dir {directory}`"
        yield Finding(FAIL, "journal", what, remedy, repair.RESTORE.says)
        return
    left = [path for path in directory.glob(f"{netns.KEPT_PREFIX}*") if netns.is_kept(path)]
    if left:
        remedy = f"run `pyvpp restore --runtime-dir {directory}`"
        found = f"{left[0]}: a namespace is left there"
        yield Finding(WARN, "runtime directory", found, remedy, repair.RESTORE.says)
        return
    yield Finding(OK, "runtime directory", f"{directory}: nothing is left there")


def of_the_hooks(directory: Path) -> Iterator[Finding]:
    """Programs that run before and after."""
    found = Hooks(directory).find()
    for refused in found.refused:
        yield Finding(WARN, "hooks", refused, "give it to root alone (chown root, chmod go-w)")
    if found.hooks:
        yield Finding(OK, "hooks", f"in {directory}, in this order: {', '.join(each.name for each in found.hooks)}")
    elif not found.refused:
        yield Finding(OK, "hooks", f"none in {directory}")


def uplinks() -> list[str]:
    """Interfaces to which default routes of the main table lead."""
    with IPRoute() as ip:
        names = capture.interface_names(ip)
        found = [
            names.get(route.get_attr("RTA_OIF") or 0, "")
            for family in (AF_INET, AF_INET6)
            for route in ip.get_routes(family=family, table=254)
            if route["dst_len"] == 0
        ]
    return sorted({name for name in found if name and name != "lo"})


def of_the_uplink(name: str) -> Iterator[Finding]:
    """Whether it can be taken over, and what would not be as before."""
    what = f"uplink {name}"
    try:
        state = capture.inspect_uplink(interface_name(name))
    except OperatorError as error:
        yield Finding(FAIL, what, str(error).removeprefix(f"{what}: "))
        return
    yield Finding(
        OK, what,
        f"{state.mac}, MTU {state.mtu}, {len(state.addresses)} addresses, {len(state.routes)} routes can be taken over",
    )  # fmt: skip
    for vlan in state.vlans:
        yield Finding(
            OK, what,
            f"its VLAN {vlan.state.name} moves to the TAP with it: {len(vlan.state.addresses)} addresses, "
            f"{len(vlan.state.routes)} routes",
        )  # fmt: skip
    if not state.carrier:
        yield Finding(WARN, what, "has no carrier", "plug the cable in")
    yield from _programs(what, state)
    yield from _packet_users(what, state)
    yield from _not_the_same(what, state)
    yield from _operator(what, state)


def _programs(what: str, state: UplinkState) -> Iterator[Finding]:
    with IPRoute() as ip:
        xdp = ip.get_links(state.ifindex)[0].get_attr("IFLA_XDP")
    if xdp is not None and xdp.get_attr("IFLA_XDP_ATTACHED"):
        found = "an XDP program is attached: it sees packets before pyvpp does"
        yield Finding(WARN, what, found, f"ip link set {state.name} xdp off, unless it is meant")


def _packet_users(what: str, state: UplinkState) -> Iterator[Finding]:
    """Packet sockets on the link: Linux unbinds them with an error when the device goes, pyvpp binds them again."""
    there = set(other_sockets.packet_sockets(state.ifindex))
    users = {}
    for pid, name in _processes():
        try:
            links = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
        if there & links:
            users[pid] = name
    for pid, name in users.items():
        lease = "; it renews the lease" if name.startswith(_DHCP_CLIENTS) else ""
        found = f"{name} (process {pid}) has a packet socket on it, which meets ENETDOWN and is bound again{lease}"
        yield Finding(WARN, what, found, "see that it has not given up; restart it then")
    if len(there) > len(users) and not users:
        yield Finding(WARN, what, f"{len(there)} packet sockets on it end with the take-over", "restart their owners")


def _not_the_same(what: str, state: UplinkState) -> Iterator[Finding]:
    for loss in capture.losses(state):
        yield Finding(WARN, what, loss)
    members = multicast.find_members(state.ifindex, state.groups)
    lost = multicast.unreached(state.groups, members)
    multicast.close(members)
    for each in lost:
        yield Finding(WARN, what, each, "restart whoever joined it; pyvpp needs CAP_SYS_PTRACE to do it for them")


def _operator(what: str, state: UplinkState) -> Iterator[Finding]:
    session = os.environ.get("SSH_CONNECTION", "").split()
    if len(session) == 4 and any(address.address == session[2] for address in state.addresses):
        found = f"this very session (SSH to {session[2]}) goes through it: it stays open"
        remedy = "run pyvpp as a service, not in this terminal (packaging/systemd), and with --confirm 300"
        yield Finding(WARN, what, found, remedy)
