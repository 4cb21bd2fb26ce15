# SPDX-License-Identifier: Apache-2.0
"""Structures and file descriptors between two ends."""

from __future__ import annotations

import os
import socket
import threading

import msgspec
import pytest

from pyvpp.channel import Channel, Closed


class Message(msgspec.Struct):
    text: str
    numbers: list[int] = []


@pytest.fixture
def ends():
    near, far = Channel.pair()
    other = Channel(far)
    yield near, other
    near.close()
    other.close()


def test_descriptors_arrive_in_order_and_do_not_leak_into_children(ends: tuple[Channel, Channel]) -> None:
    """More than Linux takes at once."""
    near, far = ends
    pipes = [os.pipe() for _ in range(230)]
    writing = threading.Thread(target=near.send, args=(Message("x" * 300_000), [pipe[1] for pipe in pipes]))
    writing.start()
    message, given = far.receive(Message, 5)
    writing.join()
    assert message.text == "x" * 300_000 and len(given) == len(pipes)
    for number, (pipe, descriptor) in enumerate(zip(pipes, given, strict=True)):
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, b"%d" % number)
        assert os.read(pipe[0], 10) == b"%d" % number
        for each in (*pipe, descriptor):
            os.close(each)


def test_messages_stay_apart(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    null = os.open(os.devnull, os.O_RDONLY)
    for number in range(3):
        near.send(Message(str(number)), [null] * number)
    for number in range(3):
        message, given = far.receive(Message, 5)
        assert message.text == str(number) and len(given) == number
        for descriptor in given:
            os.close(descriptor)
    os.close(null)


def test_nobody_there(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    near.close()
    with pytest.raises(Closed):
        far.receive(Message, 5)
    with pytest.raises(Closed):
        far.send(Message("x"))


def test_in_the_middle_of_a_message() -> None:
    near, far = socket.socketpair()
    channel = Channel(far)
    near.send(b"\xff\0\0\0\0\0\0\0{")
    near.close()
    with pytest.raises(Closed):
        channel.receive(Message, 5)
    channel.close()


def test_silence_and_another_language(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    with pytest.raises(TimeoutError):
        far.receive(Message, 0.01)
    near.send({"numbers": []})
    with pytest.raises(ValueError, match="text"):
        far.receive(Message, 5)
