# SPDX-License-Identifier: Apache-2.0
"""The command about metrics."""

from typing import Any

from pyvpp.cli.arguments import Arguments
from pyvpp.cli.registry import Output, command


@command("show metrics", help="show metrics")
def show_metrics(engine: Any, args: Arguments) -> Output:
    """What Prometheus is told by `pyvpp --metrics PORT`, plugins' metrics included."""
    from pyvpp.metrics import exposition

    args.end()
    text = exposition(engine)
    return Output(text, text.splitlines())
