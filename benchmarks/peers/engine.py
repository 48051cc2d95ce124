"""The engine by the same few methods: touches do not wait, everything else answers with its verdict, as it always does.

Its threads run as in production: what callers append is folded, flushed, and pruned behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from benchmarks.mix import Operation
from benchmarks.peers.port import IDLE_S
from benchmarks.workload import fill_keys
from lastseen.embedded.engine import Engine
from lastseen.embedded.settings import Settings
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import Refused, SessionEnded, SessionNotFound
from lastseen.engine.log import open_log

BARRIER, BARRIER_MS = "bench:barrier", 3_600_000
"""A session of our own, held for so long, so that it is never the one too many. Its touch waits, and so for all that
was written before."""


class EngineSessions:
    """An engine's live sessions."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.create = engine.open
        self.read = engine.get
        self.suspend = _unless_evicted(engine.suspend)
        self.resume = _unless_evicted(engine.resume)
        self.close = _unless_evicted(engine.close)
        self._touch = engine.touch

    def touch(self, key: str) -> object:
        """Checked on the view and handed to the log, which writes it behind the caller; who was evicted a moment ago,
        before an earlier touch got there, begins again."""
        try:
            return self._touch(key, wait="none")
        except (SessionNotFound, SessionEnded):
            return self.create(key)

    def batch(self, operations: Sequence[Operation]) -> object:
        """The touches at once, then the others one by one. Those of one session stay in their order: a touch of a
        session that begins or is resumed in the same batch is not among the first."""
        touched = [key for kind, key in operations if kind == "touch"]
        created = {key for kind, key in operations if kind in ("create", "resume")}
        early = [key for key in touched if key not in created] if created else touched
        answers = self.engine.touch_many(early, wait="none")
        for kind, key in operations:
            if kind != "touch":
                getattr(self, kind)(key)
            elif key in created:
                self.touch(key)
        return answers

    def settle(self) -> None:
        """Until all is in the log, on the disk where it has one, and folded; who is one too many has gone."""
        self.engine.touch(BARRIER)
        self.engine.prune()

    def rest(self) -> None:
        """The snapshot and the history are flushed."""
        self.engine.flush()

    def live(self) -> int:
        """How many there are, the barrier left out."""
        return self.engine.count() - 1


def _unless_evicted(call: Callable[[str], object]) -> Callable[[str], object]:
    """The call; a refusal, since the session was evicted while the touch that was to keep it was on its way, counts."""

    def called(key: str) -> object:
        with suppress(Refused):
            return call(key)
        return None

    return called


@contextmanager
def filled_engine(url: str, keys: Sequence[str], most: int) -> Iterator[EngineSessions]:
    """An engine, with its background threads, on a log that holds these sessions."""
    clock = SystemClock()
    settings = Settings.of(idle_ttl=f"{IDLE_S}s", max_sessions=most + 1, freeze=True)
    log = open_log(url, clock)
    fill_keys(log, [*keys, BARRIER], clock.now_ms(), settings.default_policy())
    with Engine(log, clock, settings) as engine:
        engine.take_lease(BARRIER, "bench", BARRIER_MS)
        sessions = EngineSessions(engine)
        sessions.settle()
        yield sessions


def engine_in_memory(folder: Path, keys: Sequence[str], most: int) -> AbstractContextManager[EngineSessions]:
    """On `memory://`."""
    return filled_engine("memory://", keys, most)


def engine_on_sqlite(folder: Path, keys: Sequence[str], most: int) -> AbstractContextManager[EngineSessions]:
    """On `sqlite://`, its snapshot beside it."""
    return filled_engine(f"sqlite:///{folder / 'log.db'}", keys, most)
