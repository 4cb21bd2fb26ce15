# SPDX-License-Identifier: Apache-2.0
"""Commands about the engine, its trace and its devices, against an engine without threads and without devices."""

import asyncio

import pytest

from pyvpp import dispatch as d
from pyvpp.cli import device_commands, engine_commands, trace_commands
from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import CommandError, commands_in
from pyvpp.cli.server import as_json
from pyvpp.engine import Engine
from pyvpp.interface import L2, UPLINK

MAC = bytes.fromhex("020000000001")
BROADCAST = b"\xff" * 6
TREE = CommandTree(
    each for module in (engine_commands, trace_commands, device_commands) for each in commands_in(module)
)
UNKNOWN = BROADCAST + MAC + b"\x88\xb5" + bytes(46)  # a frame that ethernet-input drops


@pytest.fixture
def engine():
    engine = Engine(buffers=512, hugepages="off")
    yield engine
    engine.close()


def run(engine, line):
    return asyncio.run(TREE.run(engine, line))


def send(engine, n=3, rx=0, data=UNKNOWN, node="ethernet-input"):
    for _ in range(n):
        assert engine.inject(data, node, rx=rx)
    engine.run(4)


def loop(engine, up=True, **options):
    made = engine.interfaces.by_name(run(engine, "create loopback interface").text)
    engine.interfaces.set_admin(made, up)
    return made


def test_runtime(engine):
    made = loop(engine)
    send(engine, 3, made.sw_if_index)
    output = run(engine, "show runtime")
    nodes = {node["name"]: node for node in output.data[0]["nodes"]}
    assert nodes["ethernet-input"]["vectors"] == 3 and nodes["error-drop"]["vectors"] == 3
    assert "ip4-lookup" not in nodes
    assert output.data[0]["rates"]["drop"] > 0
    lines = output.text.splitlines()
    assert lines[0] == "Thread 1 vpp_wk_0"
    assert any(line.split()[:2] == ["ethernet-input", "active"] for line in lines)
    assert len(run(engine, "show runtime verbose").data[0]["nodes"]) == len(engine.graph.nodes)
    run(engine, "clear runtime")
    assert run(engine, "show runtime").data[0]["nodes"] == []


def test_errors(engine):
    made = loop(engine)
    send(engine, 3, made.sw_if_index)
    output = run(engine, "show errors")
    assert {"count": 3, "node": "ethernet-input", "reason": "unknown ethernet type"}.items() <= output.data[0].items()
    verbose = run(engine, "show errors verbose")
    assert verbose.data["total"] == verbose.data["threads"][0]["errors"] == output.data
    assert "Thread 1 (vpp_wk_0):" in verbose.text and verbose.text.splitlines()[0].endswith(" Index")
    run(engine, "clear errors")
    assert run(engine, "show errors").data == []


@pytest.mark.parametrize(("key", "size"), [("rx-ring-size", 100), ("tx-ring-size", 8), ("rx-ring-size", 131072)])
def test_a_ring_size_that_cannot_be_is_named_with_what_could(engine, key, size):
    with pytest.raises(CommandError, match=f"^create host-interface: {key} {size}: a power of two from 16 to 65536$"):
        run(engine, f"create host-interface name x {key} {size}")


def test_buffers(engine):
    before = run(engine, "show buffers").data
    assert [pool["used"] for pool in before] == [0, 0]
    assert [pool["total"] for pool in before] == [512, 511]
    send(engine, 5)
    assert [pool["used"] for pool in run(engine, "show buffers").data] == [0, 0]


def test_threads(engine):
    output = run(engine, "show threads")
    assert [thread["name"] for thread in output.data] == ["vpp_main", "vpp_wk_0"]
    assert output.data[1]["lwp"] is None
    engine.start()
    assert run(engine, "show threads").data[1]["cpu"] is not None


def test_node(engine):
    output = run(engine, "show node ethernet-input")
    assert "ip4-input" in [each["node"] for each in output.data["next"]]
    assert output.data["manual"].startswith("ethernet-input:")
    assert "  " + output.data["manual"].splitlines()[0] in output.text.splitlines()
    assert "ethernet-input" in [each["node"] for each in run(engine, "show node arp-input").data["previous"]]
    with pytest.raises(CommandError, match=r"unknown node `ethernet-inptu' .did you mean ethernet-input"):
        run(engine, "show node ethernet-inptu")


def test_trace(engine):
    made = loop(engine)
    run(engine, "trace add ethernet-input 2")
    send(engine, 3, made.sw_if_index)
    output = run(engine, "show trace")
    assert [[hop["node"] for hop in each["nodes"]] for each in output.data] == [["ethernet-input", "error-drop"]] * 2
    limited = run(engine, "show trace max 1")
    assert len(limited.data) == 1 and limited.text.startswith("Limiting display to 1 packets.")
    run(engine, "trace add ethernet-input 5")
    run(engine, "clear trace")
    send(engine, 1, made.sw_if_index)
    assert "No packets in trace buffer" in run(engine, "show trace").text
    assert not engine.workers[0].control[d.TRACE_ON]


def test_trace_of_a_template_is_of_all_its_nodes(engine):
    loop(engine), loop(engine)
    run(engine, "trace add loopback-tx 7")
    rows = engine.workers[0].rows
    assert [int(rows[engine.graph.index_of(f"loop{k}-tx")]["trace_limit"]) for k in (0, 1)] == [7, 7]


def test_loopback(engine):
    assert run(engine, "create loopback interface instance 5 mac 02:00:00:00:00:05").text == "loop5"
    assert run(engine, "loopback create").data["name"] == "loop0"
    made = engine.interfaces.by_name("loop5")
    assert made.mac.hex(":") == "02:00:00:00:00:05" and not made.admin_up
    with pytest.raises(CommandError, match="exists already"):
        run(engine, "create loopback interface instance 5")
    run(engine, "delete loopback interface intfc loop5")
    assert engine.interfaces.by_name("loop5") is None and engine.graph.find("loop5-output") is None
    with pytest.raises(CommandError, match="no loopback"):
        run(engine, "delete loopback interface intfc local0")


def test_what_leaves_a_loopback_comes_back(engine):
    made = loop(engine)
    send(engine, 2, 0, node="loop0-tx")
    rx = engine.tables["interface_rx"].array[made.sw_if_index]
    assert (int(rx["packets"]), int(rx["bytes"])) == (2, 2 * len(UNKNOWN))
    assert engine.graph.find("ethernet-input").counts()[1] == 2
    assert int(engine.tables["interface_drops"].array[made.sw_if_index]) == 2


def test_cross_connect(engine):
    one, two = (engine.interfaces.create(name, "pg", output="interface-output", tx="pg-tx") for name in ("pg0", "pg1"))
    loop(engine)
    run(engine, "set interface l2 xconnect pg0 pg1")
    assert one.flags & L2 and int(engine.interfaces.array["peer"][one.sw_if_index]) == two.sw_if_index
    run(engine, "set interface l3 pg0")
    assert not one.flags & L2 and int(engine.interfaces.array["peer"][one.sw_if_index]) == 0
    engine.interfaces.set_flags(two, UPLINK, True)
    engine.interfaces.set_peer(two, one)
    run(engine, "set interface l3 pg1")
    assert int(engine.interfaces.array["peer"][two.sw_if_index]) == one.sw_if_index
    for words in ("pg0 pg0", "pg0 local0", "pg0 pg1", "pg0 loop0", "loop0 pg0"):
        with pytest.raises(CommandError, match="cannot be"):
            run(engine, f"set interface l2 xconnect {words}")


@pytest.mark.parametrize(
    "line",
    [
        "create tap",
        "create tap tun",
        "create tap id 70000 host-if-name x",
        "create tap host-if-name sixteen-letters-",
        "create tap tun host-if-name x hw-addr 02:00:00:00:00:01",
        "create tap tun host-ns x host-if-name x host-ip4-addr 10.0.0.1/24",
        "create tap host-if-name x hw-addr 03:00:00:00:00:01",
        "create tap host-ns no-such-namespace host-if-name x",
        "create host-interface",
        "create host-interface name nosuchdev",
        "delete host-interface name nosuchdev",
        "delete tap local0",
        "trace add nosuchnode 1",
        "trace add ip4-lookup",
        "trace add ip4-lookup 0",
        "show trace max",
        "show runtime sideways",
    ],
)
def test_mistakes_change_nothing(engine, line):
    with pytest.raises(CommandError):
        run(engine, line)
    assert len(engine.interfaces) == 1
    assert not engine.workers[0].control[d.TRACE_ON]


def test_every_show_is_json(engine):
    send(engine)
    for line in (
        "show runtime",
        "show errors verbose",
        "show buffers",
        "show threads",
        "show trace",
        "show node arp-input",
    ):
        assert as_json(run(engine, line))[0] in "[{"
