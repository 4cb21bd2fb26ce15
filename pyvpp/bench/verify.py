# SPDX-License-Identifier: Apache-2.0
"""Is what comes out what must come out? Compared byte by byte with the scenario's model, at moments of the run."""

from pyvpp.bench.errors import BenchError
from pyvpp.bench.scenario import Scenario
from pyvpp.bench.stand import Stand

SAMPLE = 1024  # packets at a time


def masked(packet: bytes, at: tuple[int, ...]) -> bytes:
    return bytes(0 if i in at else byte for i, byte in enumerate(packet)) if at else packet


def verify(stand: Stand, scenario: Scenario, sample: int = SAMPLE, worker: int = 0) -> None:
    """Takes the packets that happen to arrive next on a worker. Raises BenchError when one is lost or not the model's.

    Their order is not compared: packets of one frame may take different paths.
    """
    arrived, left = stand.catch(sample, worker)
    expected = sorted(masked(scenario.expect(stand.engine, packet), scenario.masked) for packet in arrived)
    found = sorted(masked(packet, scenario.masked) for packet in left)
    if len(found) != len(expected):
        raise BenchError(f"{len(expected)} packets in, {len(found)} out{losses(stand)}")
    for want, got in zip(expected, found, strict=True):
        if want != got:
            raise BenchError(f"a packet differs from the model:\n  got  {got.hex()}\n  want {want.hex()}")


def losses(stand: Stand) -> str:
    """What the nodes have counted, a line each."""
    return "".join(f"\n  {name}: {count}" for name, count in stand.counts().items())
