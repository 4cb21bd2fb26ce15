# SPDX-License-Identifier: Apache-2.0
"""`pyvpp bench`: how many clocks a packet costs, from the generator's first byte to the buffer's return to the pool.

It needs neither root nor a network. What is measured is declared by the packages of the stack and of plugins: a
`Scenario` at the top of any of their modules (those called `bench`, by custom) is found like a node or a command is.
A scenario's figure is given only when no packet was lost and what came out, taken at random moments of the run, equals
the scenario's model in plain Python.

    scenario   what packages declare: Scenario, Traffic
    stand      an engine set up for one of them
    measure    short runs, the least clocks, and how far runs differ
    verify     output against the model
    sweep      curves over vector, packet and table sizes
    kernels    each kernel alone
    workers    several workers at once beside one
    cost       what trace, capture, counters and features cost while they are on
    replay     a capture of the user's through a configuration of the user's
    machine    what it ran on, memory, time to the first packet
    live       real traffic through networks of its own, beside Linux: `--live`
    report, compare, page    tables, two runs side by side, one HTML page
"""

from pyvpp.bench.scenario import Scenario, Traffic, VppFigures

__all__ = ["Scenario", "Traffic", "VppFigures", "main"]


def main(argv: list[str]) -> int:
    """The command; loads the engine only now. Its exit status."""
    from pyvpp.bench.command import main as run

    return run(argv)
