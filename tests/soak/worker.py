"""One of the processes of a soak: an engine, several callers on it at a given pace, and a listener."""

from __future__ import annotations

import threading
import time
from multiprocessing.connection import Connection
from random import Random
from typing import Any, NamedTuple

import lastseen
from lastseen.engine.errors import LastseenError, LogError, Refused, SnapshotError
from tests.soak.traffic import Visitor

FALLEN_BEHIND_S = 2.0
"""What a caller is late by at most; beyond that it drops what it has missed."""
_PATIENCE_S = 0.2


class Report(NamedTuple):
    """What a process says of itself."""

    done: int
    """Calls that were answered, refusals included."""
    refused: int
    slowest_s: float
    """The longest call since the last report."""
    facts: int
    """What the listener has heard."""
    live: int
    lag_records: int
    lag_ms: int
    unpublished: int
    """Facts that are still to be published on a shared log, if this process has to."""
    body_bytes: int
    statistics: dict[str, Any]
    checkpoints: dict[int, tuple[int, str]]
    notes: list[str]
    failures: list[str]
    """What must not happen: errors of the log or the snapshot, of background tasks, and unexpected ones."""


class Worker:
    """An engine and those who use it."""

    def __init__(self, engine: lastseen.Engine, callers: int, seed: int) -> None:
        self._engine = engine
        self._done, self._refused, self._facts = [0] * callers, [0] * callers, 0
        self._slowest_s = 0.0
        self._failures: list[str] = []
        self._pace_s: float | None = 0.0
        """Between two calls of one caller; `None` is a pause."""
        self._is_over = threading.Event()
        self._changed = threading.Condition()
        self._at_work = 0
        self._threads = [
            threading.Thread(target=self._call, args=(number, Random(f"{seed} {number}"))) for number in range(callers)
        ]
        self._threads.append(threading.Thread(target=self._listen))

    def begin(self) -> None:
        """Let the callers come; they wait for a pace."""
        self.go(None)
        for thread in self._threads:
            thread.start()

    def go(self, pace_s: float | None) -> None:
        """Set the pace of each caller: seconds from one call to the next; 0 as fast as it goes, `None` not at all."""
        with self._changed:
            self._pace_s = pace_s
            self._changed.notify_all()
            if pace_s is None:
                self._changed.wait_for(lambda: not self._at_work, 60)

    def end(self) -> None:
        """End all callers, and shut the engine down."""
        self.go(None)
        self._is_over.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._engine.shutdown()

    def report(self) -> Report:
        """How it stands."""
        lags = self._engine.lags()
        statistics = self._engine.statistics()
        slowest_s, self._slowest_s = self._slowest_s, 0.0
        health = [f"{name}: {error}" for name, error in self._engine.health().items()]
        return Report(
            sum(self._done), sum(self._refused), slowest_s, self._facts, self._engine.count(),
            sum(lag.records for lag in lags), max(lag.ms for lag in lags), self._unpublished(),
            statistics["bodies"]["bytes"], statistics, self._engine.checkpoints(), list(self._engine.notes),
            self._failures + health,
        )  # fmt: skip

    def _unpublished(self) -> int:
        outbox = self._engine._duties._outbox
        return 0 if outbox is None else sum(outbox.pending(number) for number in self._engine.owned())

    def _call(self, number: int, draw: Random) -> None:
        visitor, next_s, pace_s = Visitor(self._engine, draw), 0.0, None
        while True:
            with self._changed:
                if pace_s is not self._pace_s:
                    pace_s, next_s = self._pace_s, time.monotonic() + draw.random() * (self._pace_s or 0.0)
                wait_s = None if pace_s is None else next_s - time.monotonic()
                if wait_s is None or wait_s > 0:
                    self._changed.wait(wait_s)
                    if self._is_over.is_set():
                        return
                    continue
                self._at_work += 1
            try:
                self._do(visitor, number)
            finally:
                with self._changed:
                    self._at_work -= 1
                    if pace_s is not self._pace_s:
                        self._changed.notify_all()
            assert pace_s is not None
            next_s = max(next_s + pace_s, time.monotonic() - FALLEN_BEHIND_S)

    def _do(self, visitor: Visitor, number: int) -> None:
        began_s = time.monotonic()
        try:
            visitor.act()
        except Refused:
            self._refused[number] += 1
        except (LogError, SnapshotError) as error:
            self._failures.append(repr(error))
        except BaseException as error:
            self._failures.append(f"surprise: {error!r}")
        self._done[number] += 1
        self._slowest_s = max(self._slowest_s, time.monotonic() - began_s)

    def _listen(self) -> None:
        with self._engine.subscribe() as subscription:
            while not self._is_over.is_set():
                try:
                    if subscription.get(_PATIENCE_S) is not None:
                        self._facts += 1
                except LastseenError as error:
                    self._failures.append(f"the listener: {error}")
                    return


def live(pipe: Connection, url: str, settings: dict[str, Any], callers: int, seed: int) -> None:
    """Work until the parent process says `end`, or is gone: then send a last report."""
    worker = Worker(lastseen.open_engine(url, **settings), callers, seed)
    worker.begin()
    try:
        pipe.send(worker.report())
        while True:
            asked, pace_s = pipe.recv()
            if asked == "go":
                worker.go(pace_s)
            pipe.send(worker.report())
            if asked == "end":
                return
    except (EOFError, OSError):  # the parent process is gone
        pass
    finally:
        worker.end()
