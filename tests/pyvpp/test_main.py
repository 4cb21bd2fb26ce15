# SPDX-License-Identifier: Apache-2.0
"""`pyvpp` and what it refuses before it does anything; with a real uplink: tests/system/test_refusals.py."""

import subprocess
import sys

import pytest

from pyvpp import __version__
from pyvpp.main import main
from pyvpp.options import LEAST_BUFFERS, MOST_BUFFERS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--buffers", str(LEAST_BUFFERS - 1)), f"--buffers {LEAST_BUFFERS - 1}: from {LEAST_BUFFERS} to "),
        (("--buffers", str(MOST_BUFFERS + 1)), f"--buffers {MOST_BUFFERS + 1}: from {LEAST_BUFFERS} to {MOST_BUFFERS}"),
        (("--buffers", "-1"), "--buffers -1: from "),
        (("--workers", "0"), "--workers 0: from 1 to "),
        (("--corelist-workers", "0-x"), "--corelist-workers 0-x: `0-x' is no CPU"),
        (("--corelist-workers", "0,,1"), "--corelist-workers 0,,1: `' is no CPU"),
        (("--corelist-workers", "9999"), "--corelist-workers 9999: CPU 9999 is not ours to use"),
        (("--corelist-workers", "0,0"), "--corelist-workers 0,0: a CPU is named twice"),
        (("--corelist-workers", "0", "--workers", "2"), "--corelist-workers 0: 1 CPUs for 2 workers"),
        (("--num-rx-queues", "0"), "--num-rx-queues 0: from 1 to 64"),
        (("--num-rx-queues", "65"), "--num-rx-queues 65: from 1 to 64"),
        (("--rx-ring-size", "100"), "--rx-ring-size 100: a power of two from 16 to 65536"),
        (("--rx-ring-size", "131072"), "--rx-ring-size 131072: a power of two from 16 to 65536"),
        (("--tx-ring-size", "8"), "--tx-ring-size 8: a power of two from 16 to 65536"),
        (("--tx-ring-size", "-32"), "--tx-ring-size -32: a power of two from 16 to 65536"),
        (("--hugepages", "-1"), "--hugepages -1: auto, off or a number"),
        (("--exec", "/nowhere"), "failed to open `/nowhere'"),
        (("--runtime-dir", "/dev/null/x"), "runtime directory /dev/null/x: Not a directory"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert main(list(options)) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"pyvpp: {said}")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--frobnicate",), "pyvpp: unrecognized arguments: --frobnicate (see pyvpp --help)\n"),
        (("frobnicate",), "pyvpp: unrecognized arguments: frobnicate (see pyvpp --help)\n"),
        (("--buffers", "x"), "pyvpp: argument --buffers: invalid int value: 'x' (see pyvpp --help)\n"),
        (("--uplink",), "pyvpp: argument --uplink: expected one argument (see pyvpp --help)\n"),
        (("restore", "--x"), "pyvpp restore: unrecognized arguments: --x (see pyvpp restore --help)\n"),
    ],
)
def test_words_that_nobody_knows_are_named_without_the_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert (ended.value.code, *capsys.readouterr()) == (2, "", said)


def test_python_runs_it_as_a_module_too():
    done = subprocess.run([sys.executable, "-m", "pyvpp", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pyvpp {__version__}\n"
