# SPDX-License-Identifier: Apache-2.0
"""What a running `pyvpp` says of its packets, added up; and what it holds of Linux."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.graph_nodes.lab import EMITTED, HEARD, REPLACED
from tests.system.conftest import Namespace
from tests.system.process import Pyvpp


def balance(pyvpp: Pyvpp) -> tuple[int, int, int]:
    """Packets that came in or were made, packets that left, were dropped or taken, and buffers in use."""
    nodes: dict[str, Counter[str]] = {}
    for thread in pyvpp.data("show runtime verbose"):
        for node in thread["nodes"]:
            nodes.setdefault(node["name"], Counter({node["kind"]: 0})).update({node["kind"]: node["vectors"]})
    errors: Counter[tuple[str, str]] = Counter()
    for each in pyvpp.data("show errors"):
        errors[each["node"], each["reason"]] += each["count"]
    vectors = {name: sum(kinds.values()) for name, kinds in nodes.items()}
    of_kind: Counter[str] = Counter()
    for kinds in nodes.values():
        of_kind.update(kinds)
    made = sum(errors[node, text] for node, texts in EMITTED.items() for text in texts)
    heard = sum(errors["arp-reply", text] for text in HEARD)
    made += vectors["arp-learn"] - heard
    replaced = sum(errors[node, text] for node, texts in REPLACED.items() for text in texts)
    left = sum(n for name, n in vectors.items() if name.endswith("-tx") and not name.startswith("loop"))
    ended = left + vectors["error-drop"] + vectors["error-punt"] + of_kind["python"] + replaced
    used = sum(pool["used"] for pool in pyvpp.data("show buffers"))
    return of_kind["input"] + made, ended, used


def held(pyvpp: Pyvpp, *namespaces: Namespace) -> dict[str, Any]:
    """What the process holds of Linux, and what Linux shows of it."""
    process = Path("/proc", str(pyvpp.process.pid))
    return {
        "descriptors": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "rings": (process / "maps").read_text().count("socket:"),
        "links": [namespace.ip("-br", "link").count("\n") for namespace in namespaces],
        "interfaces": len(pyvpp.data("show interface")),
        "nodes": len(pyvpp.data("show runtime verbose")[0]["nodes"]),
        "buffers": [pool["used"] for pool in pyvpp.data("show buffers")],
    }


def not_more(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """As before; a connection of `pyvppctl` that was being closed then may have had one descriptor more."""
    return {**now, "descriptors": 0} == {**before, "descriptors": 0} and now["descriptors"] <= before["descriptors"]


def resident(pyvpp: Pyvpp) -> int:
    """Bytes of memory the process has, less those of its packets, which Linux gives it as each is first used.

    The packets' memory is what lies right before the largest mapping, the addresses kept free for rings.
    """
    total = adjacent = last = length = 0
    for line in Path("/proc", str(pyvpp.process.pid), "smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = (int(each, 16) for each in found.groups())
            adjacent, last, length = adjacent if start == last else 0, end, end - start
        elif line.startswith("Rss:"):
            here = int(line.split()[1]) << 10
            total, adjacent = total + here, adjacent + here
            if length > 1 << 30:
                total, adjacent = total - adjacent, 0
    return total
