"""What a live session takes: `python -m benchmarks.memory_probe SUBJECT SESSIONS FOLDER`, in a process of its own.

It prints one JSON object: bytes for one session by what is measured. Memory is resident memory with all of them, less
resident memory without; each subject has begun and ended a small number before, so that its code is loaded.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import lastseen
from benchmarks.peers.kinds import KIND, Kind, opened
from benchmarks.peers.port import Subject
from benchmarks.workload import fill, key_of, touches
from lastseen.engine.clock import ManualClock, SystemClock, iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.events import Created, CreatedData
from lastseen.engine.identifiers import new_event_id
from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.plain_touch import written
from lastseen.engine.session import Policy
from lastseen.projections.partition import Partition

LIVE_VIEW, ON_FILE, RESTARTED, REDIS = "live view", "on file", "restarted", "redis, redis-py"
WARM_SESSIONS = 1_000
POLICY = Policy(idle_ttl_ms=86_400_000)


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def live_view(sessions: int, folder: Path) -> dict[str, float]:
    """The engine's live view of sessions without bodies, folded from records as a reader gets them."""
    fold_sessions(Partition(0), ManualClock(), WARM_SESSIONS)
    partition, before = Partition(0), resident_bytes()
    fold_sessions(partition, ManualClock(), sessions)
    assert len(partition) == sessions
    return {"memory": (resident_bytes() - before) / sessions}


def fold_sessions(partition: Partition, clock: ManualClock, sessions: int) -> None:
    """Begin so many sessions, a millisecond apart, and touch each once, as a server would see them."""
    for number in range(sessions):
        now_ms = clock.advance(1)
        event = Created(
            id=new_event_id(now_ms), source="/bench", subject=key_of(number), time=iso_from_ms(now_ms),
            data=CreatedData(session_id=_session_id(number), policy=POLICY),
        )  # fmt: skip
        partition.fold(Record(0, number, now_ms, key_of(number), encode(event)))
    for number in range(sessions):
        now_ms, key = clock.advance(1), key_of(number)
        value = written(new_event_id(now_ms), "/bench", key, iso_from_ms(now_ms), _session_id(number))
        partition.fold(Record(0, sessions + number, now_ms, key, value))


def _session_id(number: int) -> str:
    # As long as a real one, and not kept by the probe.
    return f"{number:022d}"


def on_file(sessions: int, folder: Path) -> dict[str, float]:
    """What an engine on SQLite leaves on the disk, once it has shut down: each session was begun and touched once."""
    clock, path = SystemClock(), folder / "log.db"
    log = SqliteLog(str(path), clock, genesis=True)
    session_ids = fill(log, sessions, clock.now_ms(), POLICY)
    touches(log, session_ids, sessions, clock.now_ms())
    log.close()
    lastseen.open_engine(f"sqlite:///{path}", background=False).shutdown()
    sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
    parts = {"log": "log.db", "snapshot": "log.db.snapshot", "history": "log.db.history"}
    return {what: sizes[name] / sessions for what, name in parts.items()}


def restarted(sessions: int, folder: Path) -> dict[str, float]:
    """A whole engine that was started on the files of `on_file`, which it finds in its folder."""
    lastseen.open_engine(f"sqlite:///{folder / 'other.db'}", background=False).shutdown()
    before = resident_bytes()
    with lastseen.open_engine(f"sqlite:///{folder / 'log.db'}", background=False) as engine:
        assert engine.count() == sessions
        return {"memory": (resident_bytes() - before) / sessions}


def in_process(kind: Kind) -> Callable[[int, Path], dict[str, float]]:
    """A cache of this process."""

    def measured(sessions: int, folder: Path) -> dict[str, float]:
        with opened(kind, folder, (), WARM_SESSIONS) as warm:
            _use(warm, WARM_SESSIONS)
        del warm
        before = resident_bytes()
        with opened(kind, folder, (), sessions) as subject:
            _use(subject, sessions)
            assert subject.live() >= 0.99 * sessions
            return {"memory": (resident_bytes() - before) / subject.live()}

    return measured


def _use(subject: Subject, sessions: int) -> None:
    for number in range(sessions):
        subject.create(key_of(number))
    for number in range(sessions):
        subject.touch(key_of(number))


def in_redis(sessions: int, folder: Path) -> dict[str, float]:
    """A redis-server: what it says that it uses (INFO memory), with all sessions, less without."""
    from benchmarks.peers.redis_keys import filled_redis

    with filled_redis(folder / "empty", (), WARM_SESSIONS) as empty:
        before = empty.memory_bytes()
    with filled_redis(folder / "filled", [key_of(number) for number in range(sessions)], sessions + 1) as subject:
        assert subject.live() == sessions
        return {"memory": (subject.memory_bytes() - before) / sessions}


def main() -> int:
    """Measure one subject."""
    name, sessions, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    works = {LIVE_VIEW: live_view, ON_FILE: on_file, RESTARTED: restarted, REDIS: in_redis}
    sys.stdout.write(json.dumps((works.get(name) or in_process(KIND[name]))(sessions, folder)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
