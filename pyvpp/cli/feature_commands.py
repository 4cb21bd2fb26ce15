# SPDX-License-Identifier: Apache-2.0
"""Commands about feature arcs."""

from typing import Any

from pyvpp.cli.arguments import Arguments
from pyvpp.cli.registry import Output, command


@command("show interface features", help="show interface features INTERFACE")
def show_interface_features(engine: Any, args: Arguments) -> Output:
    """The features that are on, of each arc in the order they run."""
    interface = args.interface(engine)
    args.end()
    data = {arc: engine.features.enabled(arc, interface.sw_if_index) for arc in sorted(engine.features.arcs)}
    lines = [f"Feature paths configured on {interface.name}..."]
    for arc, names in data.items():
        lines += ["", f"{arc}:", *(f"  {name}" for name in names or ["none configured"])]
    return Output("\n".join(lines), data)


@command("show features", help="show features")
def show_features(engine: Any, args: Arguments) -> Output:
    """Every arc, with the nodes that can be enabled on it in the order they run, and where it ends."""
    args.end()
    features = engine.features
    data = {arc: {"features": features.order[arc], "last": features.arcs[arc].last} for arc in sorted(features.arcs)}
    lines = ["Available feature paths"]
    for arc, told in data.items():
        lines += ["", f"{arc}:", *(f"  {name}" for name in (*told["features"], told["last"]))]
    return Output("\n".join(lines), data)
