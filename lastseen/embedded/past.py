"""What an engine says of the past: histories, endings, reasons, and sessions as they were. None of it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import tzinfo

from lastseen.engine import events
from lastseen.engine.arguments import ANY, Anything, wanted_text
from lastseen.engine.clock import iso_from_ms, local_text
from lastseen.engine.codec import check_key, decode
from lastseen.engine.errors import InvalidEvent, InvalidSetting, LogMismatch, SessionEnd, SnapshotError, shown
from lastseen.engine.log.port import Log, Position, Record
from lastseen.engine.session import Session, SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.projections.as_of import KeyRefold
from lastseen.projections.bodies import Message
from lastseen.projections.explain import (
    Displacement,
    Explanation,
    WhenText,
    explain_ended,
    explain_live,
    unknown,
    with_end,
)
from lastseen.projections.facts import Fact
from lastseen.projections.facts_replay import FactsReplay
from lastseen.projections.history import Entry, History
from lastseen.projections.key_states import KeyStates
from lastseen.projections.live_view import LiveView
from lastseen.projections.refold import differences
from lastseen.projections.session_spans import SessionSpan, SpanPage

_LOOKED_BACK, _LOOKED_BACK_PAGE = 4_096, 512
"""How many records before an eviction are looked at for the session that caused it, and how many at a time."""


class PastReads:
    """The part of an engine that answers for the past: it looks into the history file, and into the log."""

    def __init__(
        self,
        log: Log,
        history: History,
        view: LiveView,
        now_ms: Callable[[], int],
        check_open: Callable[[], None],
    ) -> None:
        """`now_ms` is the time by which reads judge deadlines; `check_open` raises `EngineClosed`."""
        self._log = log
        self._history = history
        self._views = view
        self._present_ms = now_ms
        self._key_states = KeyStates()
        self._raise_if_closed = check_open

    def history(
        self,
        key: str,
        *,
        after_offset: int = -1,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 1_000,
    ) -> Sequence[Entry]:
        """Every record of a key with its verdict, in the order of the log; a page of `limit` after `after_offset`.

        Or those of a time: `since_ms` is included, `until_ms` is not. Raises `InvalidSetting` and `SnapshotError`.
        """
        self._written_history(key)
        return self._history.entries(key, after_offset=after_offset, since_ms=since_ms, until_ms=until_ms, limit=limit)

    def _known_end(self, key: str, session_id: str | None) -> SessionEnd | None:
        """How the latest session of a key ended, or the one with an id, as far as memory and history know. O(1)."""
        try:
            return self._history.known_end(key, session_id)
        except SnapshotError:
            return None  # the call is refused all the same

    def session_spans(
        self,
        key: str,
        *,
        after_offset: int = -1,
        since_ms: int | None = None,
        until_ms: int | None = None,
        owner: str | Anything = ANY,
        limit: int = 1_000,
    ) -> Sequence[SessionSpan]:
        """How each session of a key began and ended; a page of those that began after `after_offset`.

        Or those that lived at some time from `since_ms` on and before `until_ms`, or were an owner's. Raises
        `InvalidSetting` and `SnapshotError`.
        """
        wanted = wanted_text("owner", owner)
        self._written_history(key)
        found = self._history.session_spans(
            key, after_offset=after_offset, since_ms=since_ms, until_ms=until_ms, owner=wanted, limit=limit
        )
        spans = [self._now(span) for span in found]
        return [span for span in spans if span.lived_within(since_ms, until_ms) and wanted in (None, span.owner)]

    def last_session_span(self, key: str) -> SessionSpan | None:
        """How the latest session of a key began, and how it ended if it has; `None` if there never was one.

        A session that is due has ended at its deadline, for the reason of its limit, though no record says so yet.
        """
        self._written_history(key)
        span = self._history.last_session_span(key)
        return None if span is None else self._now(span)

    def _now(self, span: SessionSpan) -> SessionSpan:
        """A session as it is now, where no record has ended it: with its owner and limits, and its end if it is due."""
        if span.ended_at_ms is not None:
            return span
        partition = self._views.partition_of(span.key)
        now_ms = self._views.reading_ms(partition.number, self._present_ms())
        with self._views.lock:
            session = partition.find(span.key)
            if session is None or session.session_id != span.session_id:
                return span
            due_ms = session.deadline_ms()
            span = span._replace(
                owner=session.owner, last_active_at_ms=session.last_active_at_ms, deadline_ms=due_ms,
                version=session.version, policy=session.policy,
            )  # fmt: skip
            if due_ms is None or due_ms > now_ms:
                return span
            return span._replace(ended_at_ms=due_ms, reason=session.reason_at(due_ms))

    def ended_sessions(
        self,
        *,
        owner: str | Anything = ANY,
        prefix: str | Anything = ANY,
        since_ms: int | None = None,
        until_ms: int | None = None,
        reason: str | Anything = ANY,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SpanPage:
        """A page of the sessions that have ended, the latest end first: of an owner, under a prefix, within a time.

        `since_ms` is included, `until_ms` is not. Raises `InvalidSetting` and `SnapshotError`.
        """
        self._raise_if_closed()
        self._history.flush(self._views.present_partitions(), self._views.lock)
        return self._history.ended_sessions(
            owner=wanted_text("owner", owner),
            prefix=wanted_text("prefix", prefix) or "",
            since_ms=since_ms,
            until_ms=until_ms,
            reason=wanted_text("reason", reason),
            limit=limit,
            cursor=cursor,
        )

    def explain(
        self,
        key: str,
        *,
        at: int | Position | None = None,
        session_id: str | None = None,
        within: str = "",
        tz: tzinfo | None = None,
    ) -> Explanation:
        """Why the session under `key` lives, and until when; or why it ended, and by which record.

        With `at`, a log time in milliseconds or a position, it is about the session of that time, as it was then, and
        says what became of it since; with `session_id`, about that very session. Names no other key outside the prefix
        `within`. Times in the sentence are in UTC, or in `tz`.

        Raises `InvalidSetting` for a time that has not come, and `LogMismatch` where the log does not hold the records.
        """
        self._written_history(key)
        number = self._views.number_of(key)
        now_ms = self._views.reading_ms(number, self._present_ms())
        when: WhenText = iso_from_ms if tz is None else lambda at_ms: local_text(at_ms, tz)
        at_ms, then = (None, None) if at is None else self._session_at(key, at, now_ms)
        span = self._span_at(key, session_id, at)
        if span is None:
            return unknown(
                key, self._history.last_entry(key), session_id=session_id, at_ms=at_ms, when=when,
                floor=self._history.floor(number),
            )  # fmt: skip
        session = self._views.get(key, now_ms) if at is None else then
        if session is not None and session.session_id == span.session_id:
            last = self._history.entry_at(key, *session.position)
            explanation = explain_live(now_ms if at_ms is None else at_ms, session, last, at_ms=at_ms, when=when)
            span = self._now(span)
            return explanation if at_ms is None else with_end(explanation, span, self._displacement(span, within), when)
        span = self._now(span)
        if span.ended_at_ms is None:  # it has ended since the history was read
            self._written_history(key)
            span = self._span_at(key, span.session_id, None) or span
        explanation = explain_ended(span, self._displacement(span, within), at_ms=at_ms, when=when)
        return explanation if span.ended_offset is not None else self._with_last_record(explanation)

    def _session_at(self, key: str, at: int | Position, now_ms: int) -> tuple[int, SessionView | None]:
        """The time that a caller means, and the session that was live then. Raises `InvalidSetting`, `LogMismatch`."""
        if isinstance(at, int) and not isinstance(at, bool):
            if at > now_ms:
                raise InvalidSetting(f"at = {at}: that is after the present, {now_ms}; give a time that has passed")
            span = self._history.session_span_at(key, at)
            if span is None or (span.ended_at_ms is not None and span.ended_at_ms <= at):
                return at, None  # found without its records
        past = KeyRefold(self._views.partition_of(key).number, self._key_states)
        at_ms = past.fold_until(self._log, self._history, key, at)
        if at_ms is None:  # the record has no time of its own, or the key had none before it
            at_ms = self._time_before(key, at)
        found = past.find(key, at_ms)
        return at_ms, None if found is None else found[1]

    def _time_before(self, key: str, at: int | Position) -> int:
        """The log time of the key's latest record before a position; that of the log's beginning where it has none."""
        assert isinstance(at, Position)
        span = self._history.session_span_before(key, at.offset)
        return 0 if span is None else span.began_at_ms

    def _span_at(self, key: str, session_id: str | None, at: int | Position | None) -> SessionSpan | None:
        """The session that a caller means: the one with the id, else the latest, of those that had begun by then."""
        if session_id is None:
            if at is None:
                return self._history.last_session_span(key)
            if isinstance(at, Position):
                return self._history.session_span_before(key, at.offset + 1)
            return self._history.session_span_at(key, at)
        if not isinstance(session_id, str):
            raise InvalidEvent(f"session_id = {shown(session_id)}: give text")
        span = self._history.session_span_with(key, session_id)
        if span is None or at is None:
            return span
        has_begun = span.began_offset <= at.offset if isinstance(at, Position) else span.began_at_ms <= at
        return span if has_begun else None

    def _with_last_record(self, explanation: Explanation) -> Explanation:
        """The explanation of a session that no record has ended: its last activity is the record that decided."""
        partition = self._views.partition_of(explanation.key)
        with self._views.lock:
            session = partition.find(explanation.key)
            if session is None or session.session_id != explanation.session_id:
                return explanation
            offset = session.last_active_offset
        last = self._history.entry_at(explanation.key, partition.number, offset)
        return replace(explanation, offset=offset, source=None if last is None else last.source)

    def _displacement(self, span: SessionSpan, within: str) -> Displacement:
        """What the log says of an eviction: the bound, and the last session to begin before; nothing where it is cut.

        Names no key outside the prefix `within`.
        """
        if span.reason != "capacity" or span.ended_offset is None:
            return Displacement()
        try:
            bound = self._bound_in(span.partition, span.ended_offset)
            begun = self._last_begun(span.partition, span.ended_offset)
        except LogMismatch:
            return Displacement()
        if begun is None or begun.key is None or not begun.key.startswith(within):
            return Displacement(bound)
        return Displacement(bound, begun.key, begun.offset)

    def _bound_in(self, partition: int, offset: int) -> int | None:
        (record,) = self._log.read(partition, offset, 1) or (None,)
        decoded = None if record is None else decode(record.key, record.value)
        if not isinstance(decoded, tuple) or not isinstance(decoded[0], events.Expired):
            return None
        return decoded[0].data.max_sessions

    def _last_begun(self, partition: int, before_offset: int) -> Record | None:
        """The last record before an offset that began a session where none was, among the 4,096 before it."""
        end = before_offset
        while end > max(before_offset - _LOOKED_BACK, 0):
            start = max(end - _LOOKED_BACK_PAGE, 0)
            for record in reversed(self._log.read(partition, start, end - start)):
                if record.offset >= end or not record.key or b"session.created" not in (record.value or b""):
                    continue
                entry = self._history.entry_at(record.key, partition, record.offset)
                if entry is not None and entry.name == "created" and entry.verdict is Verdict.APPLIED:
                    return record
            end = start
        return None

    def as_of(self, key: str, at: int | Position) -> SessionView | None:
        """The session that lived under `key` at a log time in milliseconds, or right after the record at a position.

        Costs a read of the session's records up to there; of those alone that an earlier read of it has not
        reached, but for some thousands. Raises `LogMismatch` if the log does not hold them, or has no
        such position, and `InvalidSetting` for a time in the future and for what is neither a time nor a position.
        """
        _, found = self._refolded(key, at)
        return None if found is None else found[1]

    def messages_as_of(self, key: str, at: int | Position) -> Sequence[Message]:
        """The newest messages of the session that lived under `key` then: the transcript of an ended session too."""
        past, found = self._refolded(key, at)
        return [] if found is None else list(past.body(found[0]).messages.values())

    def facts_between(self, partition: int, from_offset: int, to_offset: int) -> Iterator[Fact]:
        """The facts of a partition's records from one offset up to, not including, another, in their order.

        They are made again from log and history, and are those that subscribers received. Raises `LogMismatch` where
        the log does not go back so far, and `SnapshotError`.
        """
        return self.facts_replay(partition).between(from_offset, to_offset)

    def facts_replay(self, partition: int, prefix: str = "") -> FactsReplay:
        """What makes facts of the past again, of the keys under a prefix, in turns. Writes the history: may block."""
        self._raise_if_closed()
        self._history.flush(self._views.present_partitions(), self._views.lock)
        return FactsReplay(partition, self._log, self._history, prefix)

    def refold(self, progress: Callable[[int, int], None] | None = None) -> Sequence[str]:
        """Fold the log again, and compare with what this engine folded; returns sentences on what differs.

        Reads the whole log, and takes the memory of another live view meanwhile. `progress` is called with how many
        records are folded and how many there are. Raises `LogError`.
        """
        self._raise_if_closed()
        with self._views.lock:
            wanted = {part.number: (part.checkpoint, part.digest) for part in self._views.present_partitions()}
        return differences(self._log, wanted, progress)

    def _refolded(self, key: str, at: int | Position) -> tuple[KeyRefold, tuple[Session, SessionView] | None]:
        self._written_history(key)
        if isinstance(at, int) and at > (now_ms := max(self._present_ms(), self._views.log_time_ms())):
            raise InvalidSetting(
                f"as_of = {at} is in the future, which is not known: it is {now_ms} now, in milliseconds;"
                " give an earlier time"
            )
        past = KeyRefold(self._views.partition_of(key).number, self._key_states)
        at_ms = past.fold_until(self._log, self._history, key, at)
        return past, None if at_ms is None else past.find(key, at_ms)

    def _written_history(self, key: str) -> None:
        check_key(key)
        self._raise_if_closed()
        self._views.partition_of(key)  # what another engine holds, this one knows at best in part
        self._history.flush(self._views.present_partitions(), self._views.lock)
