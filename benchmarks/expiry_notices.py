"""Who learns that a session has expired, and how late: redis's expiry notifications beside the engine's facts.

So many sessions fall due within two seconds, among many more that do not. A listener notes when it learns of each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import lastseen
from benchmarks.measure import Row, Size, missing, percentiles
from benchmarks.servers import PeerMissing, redis_server
from benchmarks.workload import fill, key_of
from lastseen.engine.clock import SystemClock
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.session import Policy

NOTES = """
- *Notified of expiries* counts a listener's notices of sessions that fall due within two seconds, until ten seconds
  after the last. redis publishes an expiry when it happens to delete the key, which is when it is next sampled or asked
  for; *eager* is redis with `hz 500` and `active-expire-effort 10`. The keys are not read here. What redis says
  while a listener is away is lost; the engine makes facts that were missed from its log (`facts_between`).
- How late, in µs, is counted from each session's own deadline, over the notices that arrived.
"""

DUE_WITHIN_MS = 2_000
FIRST_DUE_MS = 3_000
"""After everything is there."""
PATIENCE_S = 10.0
GROUPS = 20
EAGER = {"hz": 500, "active-expire-effort": 10}


def run(folder: Path, size: Size) -> list[Row]:
    """All figures of this file."""
    due, live = 1_000, size.middle
    rows: list[Row] = []
    for name, settings in (("redis", {}), ("redis, eager", EAGER)):
        try:
            rows += of_redis(folder / name.replace(", ", "-"), name, settings, due, live)
        except PeerMissing as error:
            return [*of_engine(folder, due, live), missing(error.name, error.why)]
        except ImportError as error:
            return [*of_engine(folder, due, live), missing(error.name or "redis", f"not installed: {error}")]
    return [*of_engine(folder, due, live), *rows]


def deadlines_ms(now_ms: int, due: int) -> list[int]:
    """When each of them falls due: in groups, evenly within the time."""
    return [now_ms + FIRST_DUE_MS + number * GROUPS // due * DUE_WITHIN_MS // GROUPS for number in range(due)]


class Heard:
    """The notices that one listener got, and when; a thread feeds it."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def note(self, key: str) -> None:
        """A notice of a key; a repeated one counts once."""
        self.at.setdefault(key, time.time())

    def late_us(self, expected_ms: dict[str, int]) -> list[float]:
        """How late each notice was."""
        return [(self.at[key] * 1e3 - at_ms) * 1e3 for key, at_ms in expected_ms.items() if key in self.at]


def of_redis(folder: Path, name: str, settings: dict[str, int], due: int, live: int) -> list[Row]:
    """redis, configured to publish expiries: one listener from the beginning, one that comes when half are over."""
    import redis

    with redis_server(folder, notify=True) as server:
        client: Any = redis.Redis(unix_socket_path=server.unix_socket)
        with closing(client):
            for setting, value in settings.items():
                client.config_set(setting, value)
            _fill_redis(client, live)
            expected = dict(
                zip((key_of(n) for n in range(due)), deadlines_ms(time.time_ns() // 1_000_000, due), strict=True)
            )
            always, half = Heard(), Heard()
            half_over_s = (FIRST_DUE_MS + DUE_WITHIN_MS / 2) / 1e3
            with client.pipeline(transaction=False) as pipeline:
                for key, at_ms in expected.items():
                    pipeline.set(key, "a session", pxat=at_ms)
                pipeline.execute()
            stop = threading.Event()
            listeners = [
                threading.Thread(target=_listen, args=(client, always, 0.0, stop)),
                threading.Thread(target=_listen, args=(client, half, half_over_s, stop)),
            ]
            _until(listeners, stop, lambda: len(always.at) == due)
    return [*_notified(name, always, expected, live), _away(name, half, expected, live)]


def _fill_redis(client: Any, live: int) -> None:
    for start in range(0, live, 5_000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, min(start + 5_000, live)):
                pipeline.set(f"live:{key_of(number)}", "a session", ex=1_800)
            pipeline.execute()


def _listen(client: Any, heard: Heard, after_s: float, stop: threading.Event) -> None:
    stop.wait(after_s)
    with client.pubsub() as channel:
        channel.psubscribe("__keyevent@*__:expired")
        while not stop.is_set():
            message = channel.get_message(timeout=0.1)
            if message is not None and message["type"] == "pmessage":
                heard.note(message["data"].decode())


def of_engine(folder: Path, due: int, live: int) -> list[Row]:
    """The engine, its pruner running as by default: a listener of its facts, and one that was away."""
    path, clock = folder / "notices.db", SystemClock()
    with closing(SqliteLog(str(path), clock, genesis=True)) as log:
        fill(log, live, clock.now_ms(), Policy(idle_ttl_ms=1_800_000), first=due)
    always, away = Heard(), Heard()
    with lastseen.open_engine(f"sqlite:///{path}") as engine:
        began = engine.reached(0).offset + 1
        _open_soon_due(path, due)
        engine.refresh()
        expected = {}
        for number in range(due):
            session = engine.get(key_of(number))
            assert session is not None, "it was due before it could be listened for"
            assert session.deadline_ms is not None
            expected[session.key] = session.deadline_ms
        stop = threading.Event()
        listener = threading.Thread(target=_follow, args=(engine, always, stop))
        _until([listener], stop, lambda: len(always.at) == due)
        for fact in engine.facts_between(0, began, engine.reached(0).offset + 1):
            if fact.kind == "ended":
                away.note(fact.key)
    return [*_notified("engine", always, expected, live), _away("engine", away, expected, live)]


def _open_soon_due(path: Path, due: int) -> None:
    """The sessions that fall due, a group at a time, as another process would open them."""
    clock = SystemClock()
    at_ms = deadlines_ms(clock.now_ms(), due)
    with closing(SqliteLog(str(path), clock)) as log:
        for first in range(0, due, due // GROUPS):
            now_ms = clock.now_ms()
            fill(log, due // GROUPS, now_ms, Policy(idle_ttl_ms=at_ms[first] - now_ms), first=first)


def _follow(engine: lastseen.Engine, heard: Heard, stop: threading.Event) -> None:
    with engine.subscribe() as facts:
        while not stop.is_set():
            fact = facts.get(timeout_s=0.1)
            if fact is not None and fact.kind == "ended":
                heard.note(fact.key)


def _until(listeners: list[threading.Thread], stop: threading.Event, done: Callable[[], bool]) -> None:
    """Let the listeners listen until all notices have arrived, or until the patience is over."""
    for listener in listeners:
        listener.start()
    give_up = time.monotonic() + (FIRST_DUE_MS + DUE_WITHIN_MS) / 1e3 + PATIENCE_S
    while time.monotonic() < give_up and not done():
        stop.wait(0.02)
    stop.wait(0.2)  # what is in flight arrives
    stop.set()
    for listener in listeners:
        listener.join()


def _notified(name: str, heard: Heard, expected: dict[str, int], live: int) -> list[Row]:
    late = heard.late_us(expected)
    row = Row(f"notified of expiries, {len(expected):,} due among {live:,}: {name}", float(len(late)), "notices")
    row.subject, row.sessions, row.percentiles = name, live, percentiles(late)
    row.note = "how late: below"
    return [row]


def _away(name: str, heard: Heard, expected: dict[str, int], live: int) -> Row:
    arrived = len(heard.late_us(expected))
    row = Row(f"notified of expiries, one that was away for half of them: {name}", float(arrived), "notices")
    row.subject, row.sessions = name, live
    return row
