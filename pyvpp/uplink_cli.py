# SPDX-License-Identifier: Apache-2.0
"""`show uplink`: what is taken over from Linux."""

from typing import Any

from pyvpp.cli import render
from pyvpp.cli.registry import Arguments, Output, command


@command("show uplink", help="show uplink")
def show_uplink(engine: Any, args: Arguments) -> Output:
    """The interfaces that are taken over, the TAPs that stand in for them, and how long the change took: the time from
    the last packet that Linux handled to the first that pyvpp could. The time of giving back is printed at the end.
    Whether all this waits for `confirm`, too."""
    args.end()
    confirmation = engine.confirmation
    left = None if confirmation is None or confirmation.left is None else round(confirmation.left, 1)
    data = [
        {
            "name": uplink.tap_name,
            "mac": uplink.state.mac,
            "ifindex": uplink.tap_ifindex,
            "addresses": [str(address.interface) for address in uplink.state.addresses],
            "taken_over_ms": round(uplink.taken_over_ms, 1),
            "confirm_within_s": left,
        }
        for uplink in engine.uplinks
    ]
    rows = [(each["name"], each["mac"], str(each["ifindex"]), f"{each['taken_over_ms']:.1f}") for each in data]
    text = render.table(("Name", "MAC", "Index", "Taken over in ms"), rows, "<<>>")
    return Output(text if left is None else f"{text}\n{confirmation.told}", data)
