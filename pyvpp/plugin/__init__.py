# SPDX-License-Identifier: Apache-2.0
"""Plugins: where they are found (`find`), how one begins (`new`), what is wrong with one (`check`)."""


def main(argv: list[str]) -> int:
    """`pyvpp plugin ...`; the exit status."""
    from pyvpp.plugin.command import run

    return run(argv)
