"""The end that comes anyway: when it does, and when it does not."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import lastseen.service.exit_deadline
from lastseen.service.exit_deadline import EXIT_CODE, ExitDeadline
from lastseen.service.signals import StopSignals
from tests.patience import PATIENCE_S


def test_it_ends_what_does_not_end() -> None:
    ended, codes = threading.Event(), []
    last_resort = ExitDeadline(StopSignals(), 0.05, lambda code: (codes.append(code), ended.set()))
    last_resort.start()
    last_resort.start()
    assert ended.wait(PATIENCE_S)
    last_resort.cancel()
    assert codes == [EXIT_CODE]


def test_what_ends_in_time_is_left_alone() -> None:
    codes: list[int] = []
    last_resort = ExitDeadline(StopSignals(), 60, codes.append)
    last_resort.start()
    last_resort.cancel()
    assert codes == []


def test_a_second_signal_shortens_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastseen.service.exit_deadline, "SECOND_SIGNAL_S", 0.05)
    stop, ended = StopSignals(), threading.Event()
    last_resort = ExitDeadline(stop, 3600, lambda _: ended.set())
    with stop.watched():
        last_resort.start()
        os.kill(os.getpid(), signal.SIGTERM)
        assert not ended.wait(0.3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended.wait(PATIENCE_S)
    last_resort.cancel()
