# SPDX-License-Identifier: Apache-2.0
"""What README.md gives a container is enough: its capabilities, its mounts, a root file system that cannot be written."""

from __future__ import annotations

import os
import re
import signal

from pyvpp.linux.privileges import NEEDED
from tests.system.conftest import ROOT, Pair, run
from tests.system.process import Pyvpp, ping, pyvpp_command
from tests.system.test_restart import pod_command, stopped
from tests.system.test_takeover import assert_same, guardian_of, pyvpp_restore

# The runtime directory is shared with the host, as by `-v /run/pyvpp:/run/pyvpp:rshared`; the cache is a volume.
CONTAINER = """
set -e
for mounted in / "$(findmnt -n -o TARGET -T {cache})"; do mount --make-private "$mounted"; done
mount --bind {cache} {cache}
mount -o remount,bind,ro /
touch /pyvpp-was-here 2>/dev/null && exit 9
exec setpriv --bounding-set {capabilities} --no-new-privs "$@"
"""


def documented() -> list[str]:
    """The capabilities of the command line in README.md."""
    (command,) = re.findall(r"^    docker run(?:.*\\\n)*.*$", (ROOT / "README.md").read_text(), re.M)
    return re.findall(r"--cap-add (\w+)", command)


def test_the_documented_capabilities_and_mounts_are_enough(sandbox: Pair) -> None:
    """Killed with its guardian, as a container is: the host has the namespace with the NIC, and can restore."""
    assert {f"CAP_{name}" for name in documented()} == {capability.name for capability in NEEDED}
    pod = sandbox.namespace("pod")
    before = sandbox.host.snapshot()
    sandbox.runtime_dir = sandbox.directory / f"run-{sandbox.host.name}"
    sandbox.runtime_dir.mkdir(mode=0o750)
    run("mount", "--bind", sandbox.runtime_dir, sandbox.runtime_dir)
    run("mount", "--make-shared", sandbox.runtime_dir)
    script = CONTAINER.format(
        cache=os.environ["NUMBA_CACHE_DIR"],
        capabilities=",".join(["-all", *(f"+{name.lower()}" for name in documented())]),
    )
    command = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, "-", *pyvpp_command())
    for ending in (signal.SIGKILL, signal.SIGTERM):
        pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", command=command)
        pyvpp.wait_until_ready()
        assert ping(sandbox.peer, "10.77.0.1")
        if ending == signal.SIGKILL:
            pyvpp.ctl(pod_command(pod, "10.80.1.2"))
            os.kill(guardian_of(sandbox), signal.SIGKILL)
        else:
            assert pyvpp.data("show configuration") == [pod_command(pod, "10.80.1.2")], "the pod is back"
            assert "goes on in place of" in pyvpp.ctl("upgrade")
            assert ping(sandbox.peer, "10.77.0.1")
        stopped(pyvpp, ending)
        if ending == signal.SIGKILL:
            assert "eth0" not in sandbox.host.ip("link"), "the namespace outlives the container"
            pyvpp_restore(sandbox)
        assert_same(before, sandbox)
