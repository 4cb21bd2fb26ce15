# SPDX-License-Identifier: Apache-2.0
"""The socket and pyvppctl: real sockets in a temporary directory, real processes."""

import asyncio
import json
import os
import pty
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvpp.cli import builtin
from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import Arguments, Output, command, commands_in
from pyvpp.cli.server import LONGEST_REQUEST, CliServer, as_json
from pyvpp.errors import OperatorError

ROOT = Path(__file__).resolve().parents[3]


@command("wait", help="wait SECONDS")
async def wait(engine: Any, args: Arguments) -> str:
    await asyncio.sleep(args.number())
    return "waited"


@command("show answer", help="show answer")
def show_answer(engine: Any, args: Arguments) -> Output:
    return Output("answer: 42", {"answer": 42})


@command("test fault", help="test fault")
def fault(engine: Any, args: Arguments) -> str:
    raise RuntimeError("broken")


@command("show much", help="show much")
def show_much(engine: Any, args: Arguments) -> str:
    return "0123456789abcde\n" * 500_000


ended: list[str] = []


@command("count", help="count NAME", ends_with_client=True)
async def count(engine: Any, args: Arguments) -> str:
    """Counts aloud until it is interrupted."""
    name = args.word()
    args.end()
    silent = not args.tell(f"{name} 1")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        ended.append(name)
    return f"{name} 1\n{name} ends" if silent else f"{name} ends"


@command("endless", help="endless", ends_with_client=True)
async def endless(engine: Any, args: Arguments) -> None:
    await asyncio.sleep(3600)


TREE = CommandTree([wait, count, endless, show_answer, fault, show_much, *commands_in(builtin)])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CliServer]:
    """A server on a loop in a thread of its own."""
    served = CliServer(SimpleNamespace(interfaces=[]), TREE, tmp_path)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(served.start(), loop).result(10)
    yield served
    asyncio.run_coroutine_threadsafe(served.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(os.fspath(path))
    return client


def ask(client: socket.socket, raw: bytes) -> dict[str, Any]:
    if raw:  # even an empty send fails once the server has closed
        client.sendall(raw)
    answer = b""
    while not answer.endswith(b"\n"):
        chunk = client.recv(65536)
        assert chunk, "the server hung up"
        answer += chunk
    response: dict[str, Any] = json.loads(answer)
    return response


def ctl(*words: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyvpp.cli.client", *words],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_requests_and_responses(server: CliServer) -> None:
    with connect(server.path) as client:
        assert ask(client, b'{"command":"show answer"}\n') == {
            "status": 0,
            "output": "answer: 42",
            "error": "",
            "completions": [],
        }
        assert json.loads(ask(client, b'{"command":"show answer","json":true}\n')["output"]) == {"answer": 42}
        assert ask(client, b'{"command":"nosuch"}\n')["status"] == 1
        assert ask(client, b'{"complete":"show an"}\n')["completions"] == [["answer", "show answer"]]
        assert ask(client, b'{"command":"test fault"}\n')["error"] == (
            "test fault: internal error: RuntimeError: broken; see the log"
        )


def test_the_socket_is_for_owner_and_group_and_goes_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        served = CliServer(None, TREE, tmp_path / "new" / "dir")
        await served.start()
        assert stat.S_IMODE(served.path.stat().st_mode) == 0o660
        await served.stop()
        assert not served.path.exists()

    asyncio.run(scenario())


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(os.fspath(tmp_path / "cli.sock"))
    stale.close()

    async def scenario() -> None:
        first = CliServer(None, TREE, tmp_path)
        await first.start()
        with pytest.raises(OperatorError, match=r"cli\.sock is served already"):
            await CliServer(None, TREE, tmp_path).start()
        assert first.path.exists()
        await first.stop()

    asyncio.run(scenario())


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "cli.sock").write_text("precious")
    with pytest.raises(OperatorError, match="is no socket"):
        asyncio.run(CliServer(None, TREE, tmp_path).start())
    assert (tmp_path / "cli.sock").read_text() == "precious"
    with pytest.raises(OperatorError, match="too long a name"):
        asyncio.run(CliServer(None, TREE, tmp_path / ("x" * 100)).start())
    with pytest.raises(OperatorError, match="Not a directory"):
        asyncio.run(CliServer(None, TREE, tmp_path / "cli.sock" / "x").start())


def test_clients_do_not_wait_for_each_other(server: CliServer) -> None:
    with connect(server.path) as slow, connect(server.path) as quick:
        slow.sendall(b'{"command":"wait 0.2"}\n')
        assert ask(quick, b'{"command":"show answer"}\n')["status"] == 0
        assert ask(slow, b"")["output"] == "waited"


def test_clients_that_go_away_or_never_read_do_no_harm(server: CliServer) -> None:
    deaf = [connect(server.path) for _ in range(3)]
    for client in deaf:
        client.sendall(b'{"command":"show much"}\n' * 3)
    for _ in range(5):
        with connect(server.path) as client:
            client.sendall(b'{"command":"wait 0.01"}\n{"command":"sh')
    with connect(server.path) as client:
        assert ask(client, b'{"command":"show answer"}\n')["status"] == 0
    for client in deaf:
        client.close()


def test_what_a_command_says_before_its_end(server: CliServer) -> None:
    with connect(server.path) as client, connect(server.path) as other:
        assert ask(client, b'{"command":"count a","follow":true}\n') == {"more": "a 1"}
        assert ask(other, b'{"command":"show answer"}\n')["output"] == "answer: 42"
        assert ask(client, b'{"interrupt":true}\n')["output"] == "a ends"
        client.sendall(b'{"interrupt":true}\n')  # too late, and not answered
        assert ask(client, b'{"command":"show answer"}\n')["output"] == "answer: 42"
        client.sendall(b'{"command":"count b"}\n')
        assert ask(client, b'{"interrupt":true}\n')["output"] == "b 1\nb ends"
        client.sendall(b'{"command":"endless"}\n')
        assert ask(client, b'{"interrupt":true}\n')["error"] == "interrupted"


def test_a_command_ends_with_its_client_if_it_may(server: CliServer) -> None:
    with connect(server.path) as client:
        assert ask(client, b'{"command":"count gone","follow":true}\n') == {"more": "gone 1"}
    deadline = time.monotonic() + 20
    while "gone" not in ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_only_says_that_nothing_more_will_be_asked_gets_the_answer(server: CliServer) -> None:
    with connect(server.path) as client:
        assert ask(client, b'{"command":"count half","follow":true}\n') == {"more": "half 1"}
        client.shutdown(socket.SHUT_WR)
        with connect(server.path) as other:
            assert ask(other, b'{"command":"wait 0.05"}\n')["output"] == "waited"
        assert "half" not in ended
    with connect(server.path) as client:
        client.sendall(b'{"command":"wait 0.05"}\n')
        client.shutdown(socket.SHUT_WR)
        assert ask(client, b"")["output"] == "waited"


def test_requests_may_be_sent_ahead(server: CliServer) -> None:
    with connect(server.path) as client:
        client.sendall(b'{"command":"wait 0.01"}\n{"command":"show answer"}\n{"command":"echo last"}\n')
        reader = client.makefile("rb")
        assert [json.loads(reader.readline())["output"] for _ in range(3)] == ["waited", "answer: 42", "last"]


def test_an_orderly_end_does_not_wait_for_a_command_that_may_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        served = CliServer(SimpleNamespace(interfaces=[]), TREE, tmp_path)
        await served.start()
        reader, writer = await asyncio.open_unix_connection(served.path)
        writer.write(b'{"command":"count last","follow":true}\n')
        assert json.loads(await reader.readline()) == {"more": "last 1"}
        async with asyncio.timeout(20):
            await served.stop(replaced=True)
        assert json.loads(await reader.readline())["output"] == "last ends"
        writer.close()

    asyncio.run(scenario())


def interrupted(server: CliServer, line: str, said: str) -> tuple[int, str]:
    """pyvppctl, sent a SIGINT (Ctrl-C) once it has printed `said`: its status, and what it printed."""
    ran = subprocess.Popen(
        [sys.executable, "-m", "pyvpp.cli.client", "-s", str(server.path), *line.split()],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    assert ran.stdout is not None
    first = ran.stdout.readline() if said else ""
    assert first.strip() == said
    ran.send_signal(signal.SIGINT)
    rest = ran.communicate(timeout=60)[0]
    return ran.returncode, rest


def test_ctrl_c_in_pyvppctl_ends_a_command_that_may_end(server: CliServer) -> None:
    assert interrupted(server, "count aloud", "aloud 1") == (0, "aloud ends\n")


def test_a_request_without_end_is_refused(server: CliServer) -> None:
    with connect(server.path) as client:
        client.sendall(b"x" * (LONGEST_REQUEST + 1))
        assert "too long" in ask(client, b"")["error"]
    with connect(server.path) as client:
        assert ask(client, b'{"command":"show answer"}\n')["status"] == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(),
        st.dictionaries(
            st.sampled_from(["command", "complete", "json", "x"]), st.from_type(type(None)) | st.text() | st.booleans()
        ).map(lambda d: json.dumps(d).encode()),
    )
)
def test_garbage_is_answered(server: CliServer, garbage: bytes) -> None:
    line = garbage.replace(b"\n", b" ")
    if b"exec" in line or b"set" in line:
        return
    with connect(server.path) as client:
        assert ask(client, line + b"\n")["status"] in (0, 1)
        assert ask(client, b'{"command":"show answer"}\n')["status"] == 0


def test_json_knows_what_our_objects_are() -> None:
    import ipaddress

    data = {"a": np.uint64(7), "b": np.arange(2), "c": ipaddress.IPv4Address("10.0.0.1"), "d": float("nan")}
    assert json.loads(as_json(Output("", data))) == {"a": 7, "b": [0, 1], "c": "10.0.0.1", "d": None}
    assert json.loads(as_json(Output("tap0"))) == {"output": "tap0"}


def test_pyvppctl_runs_a_command(server: CliServer) -> None:
    done = ctl("-s", str(server.path), "show", "answer")
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer: 42\n", "")
    done = ctl("--runtime-dir", str(server.path.parent), "--json", "show answer")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"answer": 42})
    done = ctl("-s", str(server.path), "show", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("show: unknown input `nosuch' (expected answer,")


def test_pyvppctl_prints_the_refusal_of_a_command_too_long(server: CliServer) -> None:
    done = ctl("-s", str(server.path), stdin="echo " + "x" * (LONGEST_REQUEST + 300_000))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("line 1: request too long")


def test_pyvppctl_without_a_server(tmp_path: Path) -> None:
    done = ctl("--runtime-dir", str(tmp_path), "show", "version")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"pyvppctl: no pyvpp at {tmp_path}/cli.sock: no such socket (is it running? another --runtime-dir?)\n"
    )
    left = socket.socket(socket.AF_UNIX)
    left.bind(os.fspath(tmp_path / "cli.sock"))
    left.close()
    assert "left over" in ctl("--runtime-dir", str(tmp_path)).stderr


def test_pyvppctl_reads_commands_from_a_pipe(server: CliServer) -> None:
    done = ctl("-s", str(server.path), stdin="echo a\n\n# x\nnosuch\necho {\nb }\nquit\necho c\n")
    assert (done.returncode, done.stdout) == (1, "a\n{\nb }\n")
    assert done.stderr.startswith("line 4: unknown input `nosuch'")
    assert ctl("-s", str(server.path), stdin="echo a").stdout == "a\n"


def test_pyvppctl_into_a_closed_pipe(server: CliServer) -> None:
    pipeline = f"{sys.executable} -m pyvpp.cli.client -s {server.path} show much | head -n 1"
    done = subprocess.run(pipeline, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("0123456789abcde\n", "")


def test_pyvppctl_imports_nothing_heavy() -> None:
    program = "import sys, pyvpp.cli.client; print(sorted({'numba', 'numpy', 'pyroute2', 'prompt_toolkit', 'asyncio'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT) == "[]\n"


def test_the_shell_completes_remembers_and_leaves(server: CliServer, tmp_path: Path) -> None:
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-m", "pyvpp.cli.client", "-s", str(server.path)],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "vt100", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )
    os.close(inside)
    try:
        read_until(terminal, "pyvpp#")
        os.write(terminal, b"show ans\t")
        read_until(terminal, "wer")
        os.write(terminal, b"\r")
        read_until(terminal, "answer: 42")
        os.write(terminal, b"nosuch\r")
        read_until(terminal, "unknown input `nosuch'")
        os.write(terminal, b"quit\r")
        deadline = time.monotonic() + 20
        while shell.poll() is None and time.monotonic() < deadline:
            read_some(terminal)
        assert shell.returncode == 0
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
    assert "+show answer" in (tmp_path / "state" / "pyvpp" / "history").read_text()


def read_some(terminal: int) -> str:
    ready, _, _ = select.select([terminal], [], [], 0.1)
    try:
        return os.read(terminal, 65536).decode(errors="replace") if ready else ""
    except OSError:  # the other end is gone
        time.sleep(0.05)
        return ""


def read_until(terminal: int, text: str, seconds: float = 20) -> None:
    seen = ""
    deadline = time.monotonic() + seconds
    while text not in seen:
        assert time.monotonic() < deadline, seen
        seen += read_some(terminal)
