# SPDX-License-Identifier: Apache-2.0
"""The command line's socket: <runtime directory>/cli.sock, one JSON request per line, one JSON response per line.

    {"command": "show version", "json": false}  ->  {"status": 0, "output": "pyvpp v...", "error": ""}
    {"complete": "sh ver"}                      ->  {"status": 0, ..., "completions": [["version", "show version"]]}
    {"command": "ping 10.0.0.9", "follow": true}  ->  {"more": "64 bytes from ..."} as it comes, then the response
    {"interrupt": true}                         ->  nothing, but the command under way ends, if it is one that may

A client that sends anything else gets status 1 and the reason; one that goes away is forgotten. Clients do not wait for
each other, except that a command that does not await anything runs at once, on the main thread.
"""

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pyvpp.cli.arguments import CommandError
from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import Output
from pyvpp.errors import OperatorError

log = logging.getLogger(__name__)

SOCKET_NAME = "cli.sock"
MODE = 0o660
LONGEST_REQUEST = 1 << 20
LONGEST_PATH = 107  # bytes in sockaddr_un


class Request(msgspec.Struct):
    command: str | None = None
    json: bool = False
    complete: str | None = None
    follow: bool = False
    interrupt: bool = False


class More(msgspec.Struct):
    """What a command says before its end."""

    more: str


class Response(msgspec.Struct):
    status: int = 0
    output: str = ""
    error: str = ""
    completions: list[tuple[str, str]] = []


class CliServer:
    """`await start()` listens, `await stop()` hangs up on everybody and takes the socket away."""

    def __init__(self, engine: Any, tree: CommandTree, runtime_dir: Path | str) -> None:
        self._engine = engine
        self._tree = tree
        self.path = Path(runtime_dir) / SOCKET_NAME
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.changed: Callable[[], None] = lambda: None  # called after each command, before it is answered
        self._answering = 0
        self._may_end: set[asyncio.Task[None]] = set()  # commands that end with their client
        self._idle = asyncio.Event()
        self._beside: socket.socket | None = None

    def prepare(self) -> None:
        """Listens beside the socket that another process serves, so that `start` has only to put ours in its place."""
        self._beside = listen(_beside(self.path))

    async def start(self) -> None:
        if self._beside is None:
            listener = listen(self.path)
        else:
            listener, self._beside = self._beside, None
            put_in_place(self.path)
        self._server = await asyncio.start_unix_server(self._client, sock=listener, limit=LONGEST_REQUEST)

    async def stop(self, *, replaced: bool = False) -> None:
        """`replaced`: another process serves the path by now; clients still get the answers they wait for."""
        if self._server is None:
            return
        self._server.close()
        for command in self._may_end:
            command.cancel()
        while replaced and self._answering:
            self._idle.clear()
            await self._idle.wait()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._server = None
        if not replaced:
            self.path.unlink(missing_ok=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # it went away, or we do
        except Exception:
            log.exception("a command line client was dropped")
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ahead = asyncio.create_task(reader.readline())
        try:
            while True:
                try:
                    line = await ahead
                except ValueError:  # no line end within the limit: what follows cannot be told apart
                    await self._write(writer, _failure(f"request too long (expected at most {LONGEST_REQUEST} bytes)"))
                    return
                if not line:
                    return
                ahead = await self._answer_to(line, reader, writer)
        finally:
            ahead.cancel()

    async def _answer_to(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> "asyncio.Task[bytes]":
        """Answers a request, and reads on meanwhile; what is read after it, or is going to be."""
        ahead = asyncio.create_task(reader.readline())
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            text = f'invalid request: {error} (expected {{"command": "show version"}} in one line)'
            await self._write(writer, _failure(text))
            return ahead
        if request.interrupt:  # too late: what it was to end is answered
            return ahead
        self._answering += 1
        answering = asyncio.create_task(self._respond(request, writer))
        may_end = request.command is not None and self._tree.ends_with_client(request.command)
        if may_end:
            self._may_end.add(answering)
        try:
            while may_end and not answering.done():
                await asyncio.wait({answering, ahead}, return_when=asyncio.FIRST_COMPLETED)
                if not ahead.done():
                    continue
                interrupted = _is_interrupt(ahead)
                if interrupted or _has_hung_up(writer):
                    answering.cancel()
                if not interrupted:  # another request, or the end, which is dealt with afterwards
                    break
                ahead = asyncio.create_task(reader.readline())
            await answering
        except asyncio.CancelledError:
            answering.cancel()
            raise
        finally:
            self._may_end.discard(answering)
            self._answering -= 1
            self._idle.set()
        return ahead

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> None:
        def tell(text: str) -> None:
            writer.write(_encode(More(text)))

        try:
            response = await self._answer(request, tell if request.follow and not request.json else None)
        except asyncio.CancelledError:
            response = _failure("interrupted")
        await self._write(writer, response)

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, response: Response) -> None:
        writer.write(_encode(response))
        await writer.drain()

    async def _answer(self, request: Request, tell: Callable[[str], None] | None = None) -> Response:
        if request.complete is not None:
            return Response(completions=self._tree.complete(request.complete, self._engine))
        if request.command is None:
            return _failure("invalid request: neither command nor complete")
        try:
            output = await self._tree.run(self._engine, request.command, tell)
        except CommandError as error:
            return _failure(str(error), error.output)
        finally:
            self.changed()
        if not request.json:
            return Response(output=output.text)
        try:
            return Response(output=as_json(output))
        except Exception:
            log.exception("output is not JSON: %s", request.command)
            return _failure("internal error: the output cannot be written as JSON; see the log")


def _is_interrupt(read: "asyncio.Task[bytes]") -> bool:
    """Whether what a client has sent meanwhile asks to end the command under way."""
    with contextlib.suppress(ValueError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(read.result(), type=Request).interrupt
    return False


def _has_hung_up(writer: asyncio.StreamWriter) -> bool:
    """Whether nobody is left to read an answer; one that has only ended what it sends may wait for it."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def listen(path: Path) -> socket.socket:
    """A listening socket at this path. One that nobody serves any more is replaced; anything else is left alone."""
    make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = os.umask(0o777 & ~MODE)  # the mode must be right from the first moment
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        listener.listen()
    except OSError as error:
        listener.close()
        raise OperatorError(f"cannot listen on {path}: {error.strerror or error}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def put_in_place(path: Path) -> None:
    """The socket that was prepared beside takes the place of the one that is served; whoever comes first does it."""
    with contextlib.suppress(FileNotFoundError):
        _beside(path).rename(path)


def _beside(path: Path) -> Path:
    return path.with_suffix(".new")


def make_room(path: Path) -> None:
    """Removes a socket that nobody serves any more. Raises OperatorError when there can be none at this path."""
    if check_room(path):
        path.unlink(missing_ok=True)


def check_room(path: Path) -> bool:
    """Whether a socket is there that nobody serves. Raises OperatorError when there can be none; changes nothing."""
    longest = LONGEST_PATH - len(SOCKET_NAME) - 1
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise OperatorError(f"runtime directory `{path.parent}' has too long a name (expected at most {longest} bytes)")
    try:
        mode = path.lstat().st_mode
    except OSError:  # what else is wrong shows when the directory is made
        return False
    if not stat.S_ISSOCK(mode):
        raise OperatorError(f"{path} exists and is no socket (expected nothing there, or pyvpp's own socket)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server whose backlog is full is alive too
        refused = probe.connect_ex(os.fspath(path)) in (errno.ECONNREFUSED, errno.ENOENT)
    if not refused:
        raise OperatorError(f"{path} is served already: another pyvpp runs with --runtime-dir {path.parent}")
    return True


def as_json(output: Output) -> str:
    """The data, or where a command has none, its text."""
    data = output.data if output.data is not None else {"output": output.text}
    return msgspec.json.format(msgspec.json.encode(data, enc_hook=_plain), indent=2).decode()


def _plain(value: Any) -> Any:
    """What msgspec does not know: numpy's values, and whatever says best in words what it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _failure(error: str, output: str = "") -> Response:
    return Response(status=1, output=output, error=error)


def _encode(response: Response | More) -> bytes:
    try:
        return msgspec.json.encode(response) + b"\n"
    except UnicodeEncodeError:  # a file name that is not UTF-8
        if isinstance(response, More):
            return _encode(More(response.more.encode("utf-8", "backslashreplace").decode()))
        response.output, response.error = (
            text.encode("utf-8", "backslashreplace").decode() for text in (response.output, response.error)
        )
        return msgspec.json.encode(response) + b"\n"
