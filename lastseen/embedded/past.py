"""What an engine says of the past: histories, endings, reasons, and sessions as they were. None of it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lastseen.engine.codec import check_key
from lastseen.engine.log.port import Log, Position
from lastseen.engine.session import Session, SessionView
from lastseen.projections.as_of import KeyRefold
from lastseen.projections.bodies import Message
from lastseen.projections.explain import Explanation, explain
from lastseen.projections.facts import Fact
from lastseen.projections.facts_replay import FactsReplay
from lastseen.projections.history import Entry, History, SessionSpan
from lastseen.projections.live_view import LiveView
from lastseen.projections.refold import differences


class PastReads:
    """The reads of an engine that go beyond the live view: they look into the history file, and into the log."""

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
        self._view = view
        self._now_ms = now_ms
        self._check_open = check_open

    def history(self, key: str, *, after_offset: int = -1, limit: int = 1_000) -> Sequence[Entry]:
        """Every record of a key with its verdict, in the order of the log; a page of `limit` after `after_offset`."""
        self._written_history(key)
        return self._history.entries(key, after_offset=after_offset, limit=limit)

    def session_spans(self, key: str, *, after_offset: int = -1, limit: int = 1_000) -> Sequence[SessionSpan]:
        """How each session of a key began and ended."""
        self._written_history(key)
        return self._history.session_spans(key, after_offset=after_offset, limit=limit)

    def last_session_span(self, key: str) -> SessionSpan | None:
        """How the latest session of a key began, and how it ended if it has; `None` if there never was one.

        A session that is due has ended at its deadline, for the reason of its limit, though no record says so yet.
        """
        self._written_history(key)
        life = self._history.last_session_span(key)
        if life is None or life.ended_at_ms is not None:
            return life
        partition = self._view.partition_of(key)
        now_ms = self._view.reading_ms(partition.number, self._now_ms())
        with self._view.lock:
            session = partition.find(key)
            due_ms = None if session is None or session.session_id != life.session_id else session.deadline_ms()
            if session is None or due_ms is None or due_ms > now_ms:
                return life
            return life._replace(ended_at_ms=due_ms, reason=session.reason_at(due_ms))

    def explain(self, key: str) -> Explanation:
        """Why the session under `key` lives, and until when; or why it ended, and by which record."""
        self._written_history(key)
        number = self._view.number_of(key)
        session = self._view.get(key, self._now_ms())
        last = None if session is None else self._history.entry_at(key, *session.position)
        span, newest = self._history.last_session_span(key), self._history.last_entry(key)
        return explain(
            key, self._view.reading_ms(number, self._now_ms()), session, last, span, newest, self._history.floor(number)
        )

    def as_of(self, key: str, at: int | Position) -> SessionView | None:
        """The session that lived under `key` at a log time in milliseconds, or right after the record at a position.

        Costs a read of the key's records up to there. Raises `LogMismatch` if the log does not hold them, or has no
        such position, and `InvalidSetting` for what is neither a time nor a position.
        """
        _, found = self._past(key, at)
        return None if found is None else found[1]

    def messages_as_of(self, key: str, at: int | Position) -> Sequence[Message]:
        """The newest messages of the session that lived under `key` then: the transcript of an ended session too."""
        past, found = self._past(key, at)
        return [] if found is None else list(past.body(found[0]).messages.values())

    def facts_between(self, partition: int, from_offset: int, to_offset: int) -> Iterator[Fact]:
        """The facts of a partition's records from one offset up to, not including, another, in their order.

        They are made again from log and history, and are those that subscribers received. Raises `LogMismatch` where
        the log does not go back so far, and `SnapshotError`.
        """
        self._check_open()
        self._history.flush(self._view.present_partitions(), self._view.lock)
        return FactsReplay(partition, self._log, self._history).between(from_offset, to_offset)

    def refold(self, progress: Callable[[int, int], None] | None = None) -> Sequence[str]:
        """Fold the log again, and compare with what this engine folded; returns sentences on what differs.

        Reads the whole log, and takes the memory of another live view meanwhile. `progress` is called with how many
        records are folded and how many there are. Raises `LogError`.
        """
        self._check_open()
        with self._view.lock:
            wanted = {part.number: (part.checkpoint, part.digest) for part in self._view.present_partitions()}
        return differences(self._log, wanted, progress)

    def _past(self, key: str, at: int | Position) -> tuple[KeyRefold, tuple[Session, SessionView] | None]:
        self._written_history(key)
        past = KeyRefold(self._view.partition_of(key).number)
        at_ms = past.fold_until(self._log, self._history, key, at)
        return past, None if at_ms is None else past.find(key, at_ms)

    def _written_history(self, key: str) -> None:
        check_key(key)
        self._check_open()
        self._view.partition_of(key)  # what another engine holds, this one knows at best in part
        self._history.flush(self._view.present_partitions(), self._view.lock)
