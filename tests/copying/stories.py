"""Logs to be copied, and what an engine makes of a log: all that must be the same for a log and its copy."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from unittest.mock import patch

from lastseen.bulk.ordered_pages import records
from lastseen.embedded.engine import Engine
from lastseen.embedded.settings import Settings
from lastseen.engine.clock import ManualClock, iso_from_ms
from lastseen.engine.codec import decode
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Log, Mark, Record
from lastseen.engine.partitioner import partition_of
from lastseen.engine.verdicts import Verdict

NOON_MS = 1_700_000_000_000
MINUTE_MS = 60_000
LOG_EVENTS = ("opened", "import_finished")


class Recording(MemoryLog):
    """A log that holds what a test puts there: any key, any value, any log time, in any partition."""

    def __init__(self, partitions: int = 1) -> None:
        super().__init__(ManualClock(), partitions)

    def put(
        self, at_ms: int, key: str | None, value: bytes | None, partition: int | None = None, mark: Mark | None = None
    ) -> None:
        """One more record; in the partition that its key has, unless another is named."""
        if partition is None:
            partition = 0 if key is None else partition_of(key, self.partitions)
        held = self._records[partition]
        held.append(Record(partition, len(held), at_ms, key, value, mark))

    def tell(
        self, at_ms: int, name: str, key: str, session: str, *, partition: int | None = None, lag_ms: int = 0,
        kind: str = "session", event_id: str | None = None, more: dict[str, Any] | None = None, **fields: Any,
    ) -> None:  # fmt: skip
        """One more event, sent `lag_ms` before the log took it; `more` are attributes beside those of CloudEvents."""
        count = sum(map(len, self._records))
        event = {
            "specversion": "1.0", "id": event_id or f"event-{count}", "source": "/service",
            "type": f"lastseen.{kind}.{name}.v1", "subject": key, "time": iso_from_ms(at_ms - lag_ms),
            "datacontenttype": "application/json", **(more or {}),
            "data": {"session_id": long_id(session), **fields} if kind == "session" else self._opens(name, partition),
        }  # fmt: skip
        self.put(at_ms, key, json.dumps(event).encode(), partition)

    def _opens(self, name: str, partition: int | None) -> dict[str, Any]:
        if name != "opened":
            return {}
        return {"log_id": "recording", "partition": partition or 0, "partitions": self.partitions, "imports": True}

    def create(self, at_ms: int, key: str, session: str, **how: Any) -> None:
        """A session begins; its limits are none, unless they are given."""
        self.tell(at_ms, "created", key, session, **{"policy": {}, **how})


def long_id(session: str) -> str:
    """A session id that is long enough."""
    return session.ljust(22, "-")


def everything(log: Log) -> list[Record]:
    """Every record of a log."""
    return [record for number, end in enumerate(log.end_offsets()) for record in records(log, number, end)]


def events(log: Log) -> list[Any]:
    """Every record of a log that holds an event, as JSON; without the marks of an import."""
    found = [json.loads(each.value or b"") for each in everything(log) if not is_void(each)]
    return [each for each in found if each["type"].startswith("lastseen.session.")]


def is_void(record: Record) -> bool:
    """Whether a record holds no event."""
    return isinstance(decode(record.key, record.value), Verdict)


def story(log: Log, now_ms: int, of: Collection[str] = ()) -> dict[str, Any]:
    """What an engine shows of a log at some time, without the places in it; of some keys, or of all of them."""
    reads_only = {"background": False, "prune": False, "facts": False, "snapshot": ":memory:", "archive_interval": None}
    # A recording may be one of format 1, without genesis records: that a copy of it is the same is what a story is for.
    with patch("lastseen.embedded.loading.check_genesis", lambda _: None):
        engine = Engine(log, ManualClock(now_ms), Settings.of(**reads_only))
    try:
        return _shown(engine, of or {record.key for record in everything(log) if record.key})
    finally:
        engine._state.close()  # and not the log, which is the caller's


def _shown(engine: Engine, keys: Collection[str]) -> dict[str, Any]:
    statistics = engine.statistics()
    live = {}
    for key in keys:
        session = engine.get(key)
        if session is not None:
            live[key] = session.as_dict() | {"messages": [message[1:] for message in engine.messages(key)]}
            del live[key]["position"]
    lives = {
        key: sorted((life.session_id, life.began_at_ms, life.began_by or "", life.ended_at_ms or 0, life.reason or "")
                    for life in engine.session_spans(key))
        for key in keys
    }  # fmt: skip
    names = ("live", "live_by_status", "created", "ended", "longest_ms")
    shown = {
        "sessions": live,
        "lives": {key: each for key, each in lives.items() if each},
        "statistics": {name: statistics[name] for name in names},
        "applied": {name: n for name, n in statistics["applied"].items() if name not in LOG_EVENTS},
        "verdicts": {
            key: [(entry.event_id, entry.verdict.label) for entry in engine.history(key) if is_repeated(entry)]
            for key in keys
        },
    }
    shown["verdicts"] = {key: each for key, each in shown["verdicts"].items() if each}
    return shown


def is_repeated(entry: Any) -> bool:
    """Whether a copy is sure to hold this record of a history: one that is malformed may be none that it can hold."""
    left_out = (
        Verdict.CONTROL, Verdict.TRANSACTIONAL, Verdict.MALFORMED, Verdict.WRONG_PARTITION, Verdict.CLOCK_SKEW,
    )  # fmt: skip
    return entry.verdict not in left_out and entry.name not in LOG_EVENTS
