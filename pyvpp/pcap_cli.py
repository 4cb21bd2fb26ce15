# SPDX-License-Identifier: Apache-2.0
"""Commands of packet capture, in VPP's words."""

from pathlib import Path
from typing import Any

from pyvpp.cli.registry import Arguments, Output, command
from pyvpp.pcap import KINDS, PacketCapture

DEFAULT_MAX = 1000
DEFAULT_BYTES = 512


def capture_of(engine: Any) -> PacketCapture:
    if not hasattr(engine, "capture"):
        engine.capture = PacketCapture(engine)
    found: PacketCapture = engine.capture
    return found


@command(
    "pcap trace",
    help="pcap trace [rx] [tx] [drop] [off] [max N] [intfc NAME|any] [file F] [max-bytes-per-pkt N] [status]",
)
def pcap_trace(engine: Any, args: Arguments) -> Output:
    """Starts, stops or describes a capture; the file goes to /tmp unless its name has a slash."""
    capture = capture_of(engine)
    kinds, limit, interface, name, max_bytes = 0, DEFAULT_MAX, 0, "", DEFAULT_BYTES
    while args:
        word = args.accept("rx", "tx", "drop", "off", "max", "intfc", "file", "max-bytes-per-pkt", "status")
        if word in KINDS:
            kinds |= KINDS[word]
        elif word == "off":
            count, path = capture.stop()
            return Output(
                f"captured {count} pkts...\nWrite {count} packets to {path}, and stop capture...",
                {"packets": count, "file": str(path)},
            )
        elif word == "max":
            limit = args.unsigned()
        elif word == "intfc":
            interface = 0 if args.accept("any") else args.interface(engine).sw_if_index
        elif word == "file":
            name = args.word("a file name")
        elif word == "max-bytes-per-pkt":
            max_bytes = args.unsigned()
        elif word == "status":
            return status(engine)
        else:
            raise args.unknown("rx", "tx", "drop", "off", "max", "intfc", "file", "max-bytes-per-pkt", "status")
    if not kinds:
        raise args.unknown("rx", "tx", "drop", "off", "status")
    on = [kind for kind, bit in KINDS.items() if kinds & bit]
    path = Path(name) if "/" in name else Path("/tmp") / (name or "".join(on) + ".pcap")
    capture.start(kinds, path, limit, interface, max_bytes)
    return Output("", {"file": str(path), "kinds": on})


@command("show pcap trace status", help="show pcap trace status", aliases=("pcap trace status",))
def show_pcap_trace_status(engine: Any, args: Arguments) -> Output:
    """Whether a capture runs, and how far it is."""
    args.end()
    return status(engine)


def status(engine: Any) -> Output:
    capture = capture_of(engine)
    running = capture.running
    if running is None:
        return Output("pcap dispatch capture disabled", {"running": False})
    on = [kind for kind, bit in KINDS.items() if running.kinds & bit]
    return Output(
        f"pcap {' and '.join(on)} dispatch capture enabled: {capture.captured} of {len(running.memory[0])} pkts...\n"
        f"capture to file {running.path}",
        {"running": True, "kinds": on, "packets": capture.captured, "file": str(running.path)},
    )
