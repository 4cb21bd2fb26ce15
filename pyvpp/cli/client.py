# SPDX-License-Identifier: Apache-2.0
"""pyvppctl: talk to a running pyvpp. Only light imports here: it must be quick in a shell's loop."""

import argparse
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DEFAULT_RUNTIME_DIR = Path("/run/pyvpp")
SOCKET_NAME = "cli.sock"
INTERRUPTED_SECONDS = 1.0  # within which a command that Ctrl-C may end says what it has


class NoServerError(Exception):
    """Nobody serves the socket, or it hung up; the message says what to do."""


class Client:
    """A connection to a pyvpp. Requests are answered in turn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connect()

    def _connect(self) -> None:
        path = self.path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._identity = _identity(path)
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise NoServerError(_no_server(path, error)) from None
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def command(self, line: str, as_json: bool = False, tell: Callable[[str], Any] | None = None) -> dict[str, Any]:
        """The response to a command; `tell` is given what it says before its end.

        Ctrl-C ends a command that may be ended so, and what it has by then is its response. Any other goes on at the
        server, and KeyboardInterrupt is raised.
        """
        return self._ask({"command": line, "json": as_json, "follow": tell is not None}, tell)

    def complete(self, line: str) -> list[tuple[str, str]]:
        return [(word, text) for word, text in self._ask({"complete": line})["completions"]]

    def _is_replaced(self) -> bool:
        """Whether the path is another socket by now."""
        with contextlib.suppress(OSError):
            return _identity(self.path) != self._identity
        return False

    def _exchange(self, request: dict[str, Any], tell: Callable[[str], Any] | None) -> dict[str, Any]:
        """The response, empty when it hung up. Raises OSError, and ValueError for what is no JSON."""
        with contextlib.suppress(BrokenPipeError):  # the server may have said why before it closed
            self._send(request)
        try:
            return self._read(tell)
        except KeyboardInterrupt:
            self._send({"interrupt": True})
            self._socket.settimeout(INTERRUPTED_SECONDS)
            try:
                return self._read(tell)
            except TimeoutError:
                raise KeyboardInterrupt from None
            finally:
                self._socket.settimeout(None)

    def _send(self, request: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _read(self, tell: Callable[[str], Any] | None) -> dict[str, Any]:
        while True:
            line = b""
            with contextlib.suppress(ConnectionResetError):
                line = self._file.readline()
            response: dict[str, Any] = json.loads(line) if line else {}
            if "more" not in response:
                return response
            if tell is not None:
                tell(response["more"])

    def _ask(self, request: dict[str, Any], tell: Callable[[str], Any] | None = None) -> dict[str, Any]:
        try:
            response = self._exchange(request, tell)
            if not response and self._is_replaced():  # by a process that goes on; what was begun the other answers
                self.close()
                self._connect()
                response = self._exchange(request, tell)
            if not response:
                raise ConnectionResetError
        except OSError:
            raise NoServerError(f"pyvpp at {self.path} hung up") from None
        except ValueError:
            raise NoServerError(f"{self.path} is not served by pyvpp: it sent no JSON") from None
        return response


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _no_server(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"no permission to use {path} (its owner and group have: try sudo)"
    if isinstance(error, FileNotFoundError):
        return f"no pyvpp at {path}: no such socket (is it running? another --runtime-dir?)"
    if isinstance(error, ConnectionRefusedError):
        return f"no pyvpp at {path}: the socket is left over, nobody serves it"
    return f"no pyvpp at {path}: {error.strerror or error}"


def tell(text: str) -> None:
    """Prints what a command says before its end, at once."""
    print(text, flush=True)


def show(response: dict[str, Any], prefix: str = "") -> int:
    """Print a response where it belongs; returns its status."""
    output = response["output"]
    if output:
        sys.stdout.write(output if output.endswith("\n") else output + "\n")
        sys.stdout.flush()
    if response["error"]:
        print(prefix + response["error"], file=sys.stderr, flush=True)
    return 1 if response["status"] else 0


def main(argv: Sequence[str] | None = None) -> int:
    # What a shell calls bytes that are no UTF-8 must not end in a traceback.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")  # type: ignore[union-attr]
    options = _parser().parse_args(argv)
    path = options.socket or options.runtime_dir / SOCKET_NAME
    line = " ".join(options.command).encode("utf-8", "replace").decode()
    try:
        with contextlib.closing(Client(path)) as client:
            if options.command:
                return show(client.command(line, options.json, tell))
            from pyvpp.cli.shell import interact, read_lines

            return interact(client, options.json) if sys.stdin.isatty() else read_lines(client, options.json)
    except NoServerError as error:
        print(f"pyvppctl: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `pyvppctl show ip fib | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyvppctl",
        description="Run a command in a running pyvpp; without one, open a shell. `pyvppctl help` lists the commands.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-s", "--socket", type=Path, metavar="SOCKET", help="the socket of pyvpp's command line")
    where.add_argument(
        "--runtime-dir",
        type=Path,
        metavar="DIR",
        default=DEFAULT_RUNTIME_DIR,
        help="pyvpp's runtime directory, which holds cli.sock (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print what a command has to say as JSON")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="such as: show interface")
    return parser


if __name__ == "__main__":
    sys.exit(main())
