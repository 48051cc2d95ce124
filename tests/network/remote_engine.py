"""An engine on a machine of its own, with callers that write and a reader that reads on and on, and note all of it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import lastseen
from lastseen.engine.errors import LastseenError, LogUnavailable, OutcomeUnknown, SessionEnded, SessionNotFound
from lastseen.engine.log.port import Position
from lastseen.monitoring.readiness import checks
from tests.kafka.published import live_in
from tests.network.namespace import enter
from tests.patience import paced_s

CALLERS = 3
PACE_S = 0.01
READ_EVERY_S = 0.05
FLEETING = lastseen.policy(idle_ttl="1s")
LASTING = lastseen.policy(idle_ttl="1d")
STOP, FRESH, READY = "stop", "fresh", "ready"
"""What it can be asked besides to report: to stop its callers, to forget how slow they were, whether it is ready."""


class Report(NamedTuple):
    """What an engine, its callers and its reader have seen."""

    acknowledged: list[tuple[Position, str]]
    """Places of records, and the session that each was acknowledged for."""
    ended: list[str]
    """Sessions whose end was acknowledged."""
    failed: Counter[str]
    """How often a write ended in which error."""
    said: dict[str, str]
    """An example of each."""
    slowest_write_s: float
    """Of those since it was asked last to begin afresh."""
    reads: int
    slowest_read_s: float
    surprises: list[str]
    owned: frozenset[int]
    checkpoints: dict[int, tuple[int, str]]
    live: dict[str, Any]
    health: dict[str, str]


class Users:
    """Callers and a reader of one engine."""

    def __init__(self, engine: lastseen.Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self.acknowledged: list[tuple[Position, str]] = []
        self.ended: list[str] = []
        self.failed: Counter[str] = Counter()
        self.said: dict[str, str] = {}
        self.surprises: list[str] = []
        self.reads = 0
        self.slowest_write_s = self.slowest_read_s = 0.0
        self._mutex, self._stop = threading.Lock(), threading.Event()
        self.kept = engine.open(f"{name}-kept", policy=LASTING)
        self.acknowledged.append((self.kept.position, self.kept.session_id))
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(CALLERS)]
        self._threads.append(threading.Thread(target=self._read))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let them finish what they are at."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, caller: int) -> None:
        for number in itertools.count():
            if self._stop.wait(PACE_S):
                return
            began_s = paced_s()
            try:
                self._use(f"{self.name}-{caller}-{number % 20}", f"{self.name}-{caller}-fleeting-{number}", number)
            except (OutcomeUnknown, LogUnavailable) as error:
                with self._mutex:
                    self.failed[type(error).__name__] += 1
                    self.said[type(error).__name__] = str(error)
            except (SessionEnded, SessionNotFound) as error:
                self.failed[type(error).__name__] += 1  # ended by a call whose outcome was unknown
            except BaseException as error:
                self.surprises.append(f"write: {error!r}")
                return
            self.slowest_write_s = max(self.slowest_write_s, paced_s() - began_s)

    def _use(self, key: str, fleeting: str, number: int) -> None:
        """One write a call: what it is depends on the number."""
        session = self.engine.get(key)
        if number % 4 == 0:
            self._note(self.engine.open(fleeting, policy=FLEETING))
        elif session is None:
            self._note(self.engine.open(key, policy=LASTING))
        elif number % 7 == 0:
            self.engine.close(key, session_id=session.session_id)
            self.ended.append(session.session_id)
        else:
            touched = self.engine.touch(key, session_id=session.session_id, message=number)
            assert touched is not None
            self._note(touched)

    def _note(self, view: lastseen.SessionView) -> None:
        with self._mutex:
            self.acknowledged.append((view.position, view.session_id))

    def _read(self) -> None:
        while not self._stop.wait(READ_EVERY_S):
            began_s = paced_s()
            try:
                found = self.engine.get(f"{self.name}-kept")
                assert found is not None
                assert found.session_id == self.kept.session_id
                now_ms = self.engine.now_ms()
                late = [each.key for each in self.engine.list(sort="deadline", limit=10).sessions
                        if (each.deadline_ms or now_ms) < now_ms - 500]  # fmt: skip
                assert late == [], "what is due is not seen alive, announced or not"
                assert self.engine.messages(f"{self.name}-kept") == []
            except BaseException as error:
                self.surprises.append(f"read: {error!r}")
                return
            self.reads += 1
            self.slowest_read_s = max(self.slowest_read_s, paced_s() - began_s)


def live(namespace: str, pipe: Connection, url: str, name: str, settings: dict[str, Any]) -> None:
    """Run an engine in a namespace until the parent process is gone, or kills this one."""
    enter(namespace)
    engine = lastseen.open_engine(url, **settings)
    users = Users(engine, name)
    pipe.send("open")
    try:
        while True:
            asked = pipe.recv()
            if asked == STOP:
                users.stop()
            # Whether it is ready the log is asked, which takes its time where it does not answer.
            pipe.send(obstacles(engine) if asked == READY else report_of(engine, users))
            if asked == FRESH:
                users.slowest_write_s = users.slowest_read_s = 0.0
    except (EOFError, BrokenPipeError):
        users.stop()
        engine.shutdown()


def obstacles(engine: lastseen.Engine) -> dict[str, str]:
    """Each check of readiness that fails, and what it says; also where it is not known how far behind it is."""
    found = {check.name: check.says for check in checks(engine) if not check.ok}
    try:
        engine.lags()
    except LastseenError as error:
        found["lag"] = str(error)
    return found


def report_of(engine: lastseen.Engine, users: Users) -> Report:
    """What there is to say, without asking the log."""
    with users._mutex:
        acknowledged, failed, said = list(users.acknowledged), Counter(users.failed), dict(users.said)
    return Report(
        acknowledged, list(users.ended), failed, said, users.slowest_write_s, users.reads, users.slowest_read_s,
        list(users.surprises), engine.owned(), engine.checkpoints(), live_in(engine),
        {task: str(error) for task, error in engine.health().items()},
    )  # fmt: skip
