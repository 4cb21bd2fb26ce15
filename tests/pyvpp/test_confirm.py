# SPDX-License-Identifier: Apache-2.0
"""`--confirm`: the time that is left, what the guardian hears, and what the next start knows."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from pyvpp.confirm import RECORD_NAME, UNCONFIRMED, Confirmation, UnconfirmedError
from pyvpp.errors import OperatorError


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Guardian:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def unconfirmed(self, until: float) -> None:
        self.told.append(until)

    def confirmed(self) -> None:
        self.told.append("confirmed")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guardian() -> Guardian:
    return Guardian()


@pytest.fixture
def confirmation(tmp_path: Path, clock: Clock, guardian: Guardian) -> Confirmation:
    return Confirmation(tmp_path, guardian, clock)  # type: ignore[arg-type]


def test_it_lapses_when_the_time_is_over_and_tells_how_much_is_left(
    confirmation: Confirmation, clock: Clock, guardian: Guardian, caplog: pytest.LogCaptureFixture
) -> None:
    confirmation.begin(100)
    assert guardian.told == [1100.0]
    with caplog.at_level(logging.WARNING):
        for second in range(100):
            clock.now = 1000.0 + second
            assert not confirmation.look()
            assert confirmation.left == 100 - second
        clock.now = 1100.0
        assert confirmation.look() and confirmation.lapsed
        assert confirmation.look()
    marks = [
        f"not confirmed yet: {confirmation.how} within {left} s, or Linux gets its NIC back" for left in (60, 30, 10)
    ]
    assert caplog.messages == [*marks, "not confirmed in time; Linux gets its NIC back"]
    with pytest.raises(OperatorError, match="too late"):
        confirmation.confirm()


def test_a_long_pause_is_one_mark(confirmation: Confirmation, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    confirmation.begin(4000)
    clock.now += 3980
    with caplog.at_level(logging.WARNING):
        assert not confirmation.look() and not confirmation.look()
    assert len(caplog.messages) == 1 and "within 20 s" in caplog.text


def test_confirmed_once_and_for_all(
    confirmation: Confirmation, clock: Clock, guardian: Guardian, tmp_path: Path
) -> None:
    heard: list[bool] = []
    confirmation.on_confirmed = lambda: heard.append(True)
    assert confirmation.confirm() == "nothing waits to be confirmed"
    confirmation.begin(60)
    clock.now += 45
    assert confirmation.confirm() == "confirmed, with 15 s left"
    clock.now += 45
    assert not confirmation.look() and confirmation.left is None and not confirmation.told
    assert confirmation.confirm() == "nothing waits to be confirmed"
    assert guardian.told == [1060.0, "confirmed"] and heard == [True]
    assert (tmp_path / RECORD_NAME).stat().st_mode & 0o777 == 0o600


def test_the_process_that_goes_on_has_the_time_that_is_left(
    confirmation: Confirmation, clock: Clock, tmp_path: Path
) -> None:
    confirmation.begin(60)
    clock.now += 50
    guardian = Guardian()
    heir = Confirmation(tmp_path, None, clock)
    assert confirmation.until is not None
    heir.go_on(confirmation.until, guardian)  # type: ignore[arg-type]
    assert heir.left == 10 and guardian.told == [1060.0]
    clock.now += 10
    assert heir.look()


def test_a_start_that_was_not_confirmed_is_refused_once(confirmation: Confirmation, tmp_path: Path) -> None:
    assert not confirmation.check_start()
    confirmation.begin(60)
    confirmation.end(orderly=False, kept=False)  # it crashes
    again = Confirmation(tmp_path)
    with pytest.raises(UnconfirmedError, match="ended before it was confirmed") as refused:
        again.check_start()
    assert refused.value.status == UNCONFIRMED
    assert not again.check_start()


def test_another_command_is_another_start(
    confirmation: Confirmation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmation.begin(60)
    monkeypatch.setattr(sys, "argv", ["pyvpp", "--uplink", "other"])
    assert not Confirmation(tmp_path).check_start()


@pytest.mark.parametrize(
    ("orderly", "kept", "remembered"), [(False, False, True), (True, True, True), (True, False, False)]
)
def test_what_was_confirmed_is_asked_again_only_after_a_stop(
    confirmation: Confirmation, tmp_path: Path, orderly: bool, kept: bool, remembered: bool
) -> None:
    confirmation.begin(60)
    confirmation.confirm()
    confirmation.end(orderly=orderly, kept=kept)
    assert Confirmation(tmp_path).check_start() is remembered


def test_told_to_stop_before_it_was_confirmed_leaves_nothing(confirmation: Confirmation, tmp_path: Path) -> None:
    confirmation.begin(60)
    confirmation.end(orderly=True, kept=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot_id": "another", "netns": [1, 2], "command": []}'])
def test_a_record_of_another_boot_or_spoilt_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD_NAME).write_bytes(content)
    assert not Confirmation(tmp_path).check_start()


def test_without_room_for_the_record_nothing_begins(tmp_path: Path, guardian: Guardian) -> None:
    confirmation = Confirmation(tmp_path / "missing", guardian)  # type: ignore[arg-type]
    with pytest.raises(OperatorError, match="so nothing was taken over"):
        confirmation.begin(60)
    assert confirmation.left is None and not guardian.told
