"""A session as it was at an earlier moment: the records of its key, folded again up to there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from engine.errors import LogMismatch, shown
from engine.log.port import Log, Position
from engine.session import Session, SessionView
from engine.verdicts import Verdict
from projections.bodies import Bodies, Body, BodyId
from projections.history import History
from projections.partition import Partition

_PAGE = 1_000


class _Nothing:
    """A body store that holds nothing: the scratch bodies are whole, since they begin with their sessions."""

    lock = nullcontext()

    def load_body(self, _: BodyId) -> Body:
        return Body()


class Past:
    """A key's state while its records are folded again, alone."""

    def __init__(self, number: int) -> None:
        self._partition = Partition(number)
        self._bodies = Bodies(max_body_bytes=2**62)
        self._attributes: Mapping[str, Any] = {}

    def at_hand(self, partition: int, session: Session) -> Mapping[str, Any] | None:
        """The attributes (`live_view.Attributes`)."""
        return self.load(partition, session)

    def load(self, _: int, session: Session) -> Mapping[str, Any]:
        """The attributes (`live_view.Attributes`)."""
        return self.body(session).attributes

    def body(self, session: Session) -> Body:
        """The session's body."""
        return self._bodies.read(BodyId(self._partition.number, session.born_offset), _Nothing(), nullcontext())

    def fold_until(self, log: Log, history: History, key: str, at: int | Position) -> int | None:
        """Fold the key's applied records up to a time or a position; returns the log time to look at it.

        Void records are passed over: all that they can do is settle a session, and that it is due shows by itself.
        """
        after, at_ms = -1, at if not isinstance(at, Position) else None
        while page := history.entries(key, after_offset=after, limit=_PAGE):
            for entry in page:
                if entry.offset > at.offset if isinstance(at, Position) else entry.at_ms > at:
                    return at_ms
                if isinstance(at, Position):
                    at_ms = entry.at_ms
                if entry.verdict is Verdict.APPLIED:
                    self._fold(log, entry.partition, entry.offset, entry.at_ms, key)
            after = page[-1].offset
        return at_ms

    def _fold(self, log: Log, partition: int, offset: int, at_ms: int, key: str) -> None:
        records = log.read(partition, offset, 1)
        if not records or records[0].key != key:
            raise LogMismatch(
                f"record {partition}:{offset} of {shown(key)} is no longer in the log, so its past is lost"
            )
        # Its log time is known, however it was come by: imported history is folded like any other here.
        outcome = self._partition.fold(records[0]._replace(timestamp_ms=at_ms))
        self._bodies.follow(self._partition, [outcome])

    def find(self, key: str, at_ms: int) -> tuple[Session, SessionView] | None:
        """The session that was live at `at_ms`, if one was."""
        session = self._partition.find(key)
        if session is None or session.is_due(at_ms):
            return None
        return session, SessionView(session, self._partition.number, self.body(session).attributes, self)
