"""What a history takes note of between two flushes: rows of its tables, and how sessions ended."""

from __future__ import annotations

from typing import Any

from lastseen.engine import events
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome
from lastseen.projections.session_spans import stored_policy

_LONGEST_KEY = events.MAX_KEY_CHARACTERS
Row = tuple[Any, ...]


class Notes:
    """Rows to be written. Nothing but text and numbers: what stays behind for a while must not cost the collector."""

    __slots__ = ("begun", "ended", "ends", "entries", "latest_ends")

    def __init__(self) -> None:
        self.entries: list[Row] = []
        self.begun: list[Row] = []
        self.ended: list[Row] = []
        self.ends: list[Row] = []
        """Key and place of the beginning of each session that ended, and its `SessionEnd`."""
        self.latest_ends: dict[str, Row] = {}
        """For each key the latest of them."""

    def end_before(self, key: str, born_offset: int) -> Row | None:
        """The `SessionEnd` of the latest session of a key that began before an offset, if it is noted here."""
        latest = self.latest_ends.get(key)
        if latest is None or latest[1] < born_offset:
            return None if latest is None else latest[2]
        return next((said for named, born, said in reversed(self.ends) if named == key and born < born_offset), None)

    def add(self, outcome: Outcome) -> None:
        """Note what a record did."""
        record, event, verdict, at_ms, _, ended, ending = outcome
        partition, offset, timestamp_ms, key = record[:4]
        if key is None:
            return
        if event is None:
            void = (key[:_LONGEST_KEY], offset, partition, timestamp_ms, int(verdict), None, None, None, None, None)
            self.entries.append(void)
            return
        data, kind = event.data, type(event)
        session_id, reason = getattr(data, "session_id", None), getattr(data, "reason", None)
        self.entries.append(
            (
                key,
                offset,
                partition,
                at_ms,
                int(verdict),
                events.NAMES[kind],
                session_id,
                event.id,
                event.source,
                reason,
            )
        )
        if kind is events.Created and verdict is Verdict.APPLIED:
            self.begun.append((key, offset, session_id, partition, at_ms, event.source))
        if ended is not None and ending is not None:
            place = (ending.partition, ending.offset)
            said = (ended.session_id, ended.created_at_ms, ending.at_ms, ending.reason, place, event.source)
            end = self.latest_ends[ended.key] = (ended.key, ended.born_offset, said)
            self.ends.append(end)
            self.ended.append(
                (
                    ending.at_ms,
                    ending.offset,
                    event.source,
                    ending.reason,
                    ended.owner,
                    ended.last_active_at_ms,
                    ended.deadline_ms(),
                    ended.version,
                    stored_policy(ended.policy),
                    ended.key,
                    ended.born_offset,
                )
            )
