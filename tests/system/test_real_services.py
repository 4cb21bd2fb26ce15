# SPDX-License-Identifier: Apache-2.0
"""Programs that hosts really have, through everything that happens to an uplink: OpenSSH, ISC's DHCP client and server.

Where one is not installed its test is skipped and says so.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import Pair, run
from tests.system.process import PATIENCE, Pyvpp, eventually
from tests.system.test_takeover import guardian_of
from tests.system.test_upgrade import Echo

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled")]

HOST, PEER, HOST6 = "10.77.0.1", "10.77.0.2", "2001:db8:77::1"
LEASED, LEASE_SECONDS = "10.77.0.100", 16


def program(name: str) -> str:
    """Where it is installed; skips where it is not."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def everything_happens(sandbox: Pair, check: Callable[[str], None]) -> None:
    """Take-over, upgrade, crash of the dataplane, the next start, crash of dataplane and guardian, the next, the end."""
    journal = sandbox.directory / f"run-{sandbox.host.name}" / "journal.json"
    check("before")
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
    pyvpp.wait_until_ready()
    check("taken over")
    pyvpp.ctl("upgrade")
    check("upgraded")
    os.kill(int(pyvpp.data("show version")["pid"]), signal.SIGKILL)
    pyvpp.process.communicate()
    eventually(lambda: not journal.exists(), "the guardian's restore")
    check("crashed")
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
    pyvpp.wait_until_ready()
    check("started again")
    for pid in (guardian_of(sandbox), pyvpp.process.pid):
        os.kill(pid, signal.SIGKILL)
    pyvpp.process.communicate()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
    pyvpp.wait_until_ready()
    check("started after both were killed")
    pyvpp.stop()
    check("stopped")


@pytest.fixture
def identity(sandbox: Pair) -> Path:
    """A key, which is the host's and its user's."""
    key = sandbox.directory / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    return key


def test_an_ssh_session_stays_open(sandbox: Pair, request: pytest.FixtureRequest) -> None:
    """Over both families, and a plain TCP connection beside it."""
    sshd, ssh, _ = program("sshd"), program("ssh"), program("ssh-keygen")
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        pytest.skip("there is no user sshd, whom sshd wants")
    key = request.getfixturevalue("identity")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    settings = {
        "Port": "2222", "ListenAddress": HOST, "HostKey": key, "AuthorizedKeysFile": f"{key}.pub", "StrictModes": "no",
        "UsePAM": "no", "PidFile": "none", "PermitRootLogin": "yes", "UseDNS": "no",
    }  # fmt: skip
    config = sandbox.directory / "sshd_config"
    lines = [f"{name} {value}" for name, value in settings.items()] + [f"ListenAddress [{HOST6}]"]
    config.write_text("\n".join(lines) + "\n")
    server = sandbox.start(sandbox.host, sshd, "-D", "-e", "-f", config)
    assert server.stderr is not None
    for line in server.stderr:
        if "listening on 2001" in line or "listening on 10." in line:
            break
    else:
        raise AssertionError(server.communicate())
    options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
    sessions = [
        sandbox.start(
            sandbox.peer, ssh, *options, "-i", key, "-p", "2222", f"root@{address}", "cat", stdin=subprocess.PIPE
        )
        for address in (HOST, HOST6)
    ]
    echo = Echo(sandbox.peer, sandbox.host, HOST)

    def check(when: str) -> None:
        for session in sessions:
            assert session.stdin is not None and session.stdout is not None
            session.stdin.write(f"{when}\n")
            session.stdin.flush()
            assert session.stdout.readline() == f"{when}\n", (when, session.communicate(timeout=PATIENCE))
        echo.check()

    everything_happens(sandbox, check)
    echo.close()


# What Debian's does with an address, as far as it matters here: dhclient-script(8).
SCRIPT = """#!/bin/sh
case "$reason" in BOUND|RENEW|REBIND|REBOOT)
  ip addr replace "$new_ip_address/24" brd + dev "$interface" valid_lft "$new_dhcp_lease_time" preferred_lft "$new_dhcp_lease_time"
esac
echo "$reason"
"""


def test_a_lease_of_isc_dhcp_is_renewed(sandbox: Pair) -> None:
    """It lasts so short that none of what happens would leave the address alone if the client did not get through."""
    dhclient, dhcpd = program("dhclient"), program("dhcpd")
    host, directory = sandbox.host, sandbox.directory
    host.ip("addr", "flush", "dev", "eth0", "scope", "global")
    config, leases, script = directory / "dhcpd.conf", directory / "dhcpd.leases", directory / "script"
    config.write_text(
        f"default-lease-time {LEASE_SECONDS}; max-lease-time {LEASE_SECONDS}; authoritative;\n"
        f"subnet 10.77.0.0 netmask 255.255.255.0 {{ range {LEASED} {LEASED}; }}\n"
    )
    leases.touch()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    log = directory / "dhcpd.log"
    words = (dhcpd, "-4", "-f", "-d", "-cf", config, "-lf", leases, "-pf", directory / "dhcpd.pid", "eth0")
    sandbox.start(sandbox.peer, "sh", "-c", f'exec "$@" 2>{log}', "sh", *words)
    client = sandbox.start(
        host, dhclient, "-4", "-d", "-sf", script, "-lf", directory / "client.leases", "-pf", directory / "client.pid",
        "-cf", "/dev/null", "eth0",
    )  # fmt: skip

    def renewals() -> int:
        return log.read_text().count(f"DHCPACK on {LEASED}") if log.exists() else 0

    def check(when: str) -> None:
        before = renewals()
        eventually(lambda: renewals() >= before + 1, f"{when}: renewed", 3 * LEASE_SECONDS)
        assert LEASED in host.ip("addr", "show", "eth0"), when

    eventually(lambda: LEASED in host.ip("addr", "show", "eth0"), "leased")
    everything_happens(sandbox, check)
    assert client.poll() is None
