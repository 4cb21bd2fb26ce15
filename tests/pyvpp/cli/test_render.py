# SPDX-License-Identifier: Apache-2.0
"""Our layouts against lines that VPP 26.10 printed."""

from pyvpp.cli import render


def test_numbers_and_columns() -> None:
    assert [render.exponent(value) for value in (37400.0, 0.0, 0.0753)] == ["3.74e4", "0.00e0", "7.53e-2"]
    assert render.centred("ab", 5) == "  ab "
    assert render.centred("abcdef", 5) == "abcdef"
    assert render.table(["Name", "N"], [["x", 10], ["yyyyy", 2]], "<>") == "Name   N\nx     10\nyyyyy  2"
    assert render.table(["Name", "N"], [], "<>") == "Name N"
    assert render.in_columns(["a", "b", "c", "d" * 40]) == [
        "    a                                  b                                  c                                  ",
        "    " + "d" * 34 + " ",
    ]


def test_show_interface() -> None:
    assert render.INTERFACE_HEADING == (
        "              Name               Idx    State  MTU (L3/IP4/IP6/MPLS)     Counter          Count     "
    )
    counters = {"rx packets": 42, "rx bytes": 3844, "punt": 0, "drops": 5}
    assert render.interface_lines("host-vbv1", 1, True, "9000/0/0/0", counters) == [
        "host-vbv1                         1      up          9000/0/0/0     rx packets                    42",
        "                                                                    rx bytes                    3844",
        "                                                                    drops                          5",
    ]
    assert render.interface_lines("local0", 0, False, "0/0/0/0", {}) == [
        "local0                            0     down          0/0/0/0       "
    ]


def test_show_hardware_interfaces() -> None:
    assert render.HARDWARE_HEADING == "              Name                Idx   Link  Hardware"
    assert render.hardware_line("host-vbv1", 1, True) == "host-vbv1                          1     up   host-vbv1"
    assert render.hardware_line("local0", 0, False) == "local0                             0    down  local0"


def test_show_errors() -> None:
    assert render.ERROR_HEADING == (
        "   Count                  Node                              Reason               Severity "
    )
    assert render.error_line(6, "vxlan4-input", "good packets decapsulated", "error") == (
        "         6            vxlan4-input                good packets decapsulated        error  "
    )
    assert render.error_line(1, "ip4-icmp-error", "hop limit exceeded response sent", "info") == (
        "         1           ip4-icmp-error            hop limit exceeded response sent    info   "
    )


def test_show_runtime() -> None:
    assert render.RUNTIME_HEADING == (
        "             Name                 State         Calls          Vectors        Suspends      Packet-Clocks   Vectors/Call  "
    )
    assert render.runtime_line("af-packet-input", "interrupt wait", 92, 98, 514_500_000) == (
        "af-packet-input               interrupt wa              92              98               0          5.25e6            1.07"
    )
    assert render.runtime_line("ip4-lookup", "active", 0, 0, 0).endswith("0.00e0            0.00")


def test_show_buffers() -> None:
    assert render.BUFFER_HEADING == ("Pool Name            Index NUMA  Size  Data Size  Total  Avail  Cached   Used  ")
    assert render.buffer_line("default-numa-0", 0, 0, 2304, 2048, 16814, 16238, 162, 414) == (
        "default-numa-0         0     0   2304     2048    16814  16238    162     414  "
    )


def test_show_node() -> None:
    assert render.next_node_line(5, 518, "ip4-rewrite", 190) == (
        "         5          518               ip4-rewrite             190  "
    )
    assert render.next_node_line(11, 520, "ip4-receive", 36) == (
        "        11          520               ip4-receive             36   "
    )
