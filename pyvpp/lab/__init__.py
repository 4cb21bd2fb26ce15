# SPDX-License-Identifier: Apache-2.0
"""Labs on one machine: network namespaces, pods and pyvpp as a user starts it, for the demo and for `bench --live`;
and the one that a plugin is tried in, `pyvpp lab`.

place      the sandbox and the directory of one run, which go whatever happens
process    a pyvpp in a namespace, and its CLI
router     a pyvpp between two ends that send to each other
"""


def main(argv: list[str]) -> int:
    """`pyvpp lab`; the exit status."""
    from pyvpp.lab.router import main as run

    return run(argv)
