# SPDX-License-Identifier: Apache-2.0
"""How long a new process takes to its first packet, and the memory it then holds: measured in a child of its own."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from pyvpp.bench.errors import BenchError
from pyvpp.bench.machine import resident_bytes
from pyvpp.node import FRAME_SIZE


def measure_start(scenario: str) -> dict[str, Any]:
    """Seconds from the process's start to the first vector out of pg1, with compiled code in the cache; bytes resident.

    Raises BenchError.
    """
    began = time.monotonic_ns()
    child = subprocess.run(
        [sys.executable, "-m", "pyvpp.bench.start", scenario, str(began)], capture_output=True, text=True
    )
    if child.returncode:
        raise BenchError(f"a new process did not get to its first packet: {child.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def main(scenario: str, began: int) -> None:
    """The child: prints JSON."""
    from pyvpp.bench.scenario import declared_in
    from pyvpp.bench.stand import stand_for
    from pyvpp.loader import load

    declarations = load()
    traffic = declared_in(declarations.packages)[scenario]
    with stand_for(traffic, declarations=declarations) as stand:
        stand.generate(traffic.packets(stand.engine, count=FRAME_SIZE))
        while not stand.sent:
            stand.engine.run(1)
        seconds = (time.monotonic_ns() - began) / 1e9
        found = {
            "scenario": scenario,
            "first_packet_seconds": round(seconds, 3),
            "resident_bytes": resident_bytes(os.getpid()),
            "buffers": stand.engine.buffers.small,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
