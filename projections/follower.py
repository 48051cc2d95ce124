"""The one reader: reads the log, folds each record once, and hands the outcome to every projection.

No call waits for a follower thread: a caller that waits for a record folds up to it itself, one caller at a time for
each partition, and finds the work done if another caller has folded it. That saves a hand-over between threads a call.
Records are read before the view's lock is taken: reads of the view continue while the log is down.

A partition that cannot be read, or is not what was folded, fails by itself: its keys are refused from then on, before
anything is appended, and the other partitions go on. Only when all have failed does the follower stop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import NoReturn, Protocol

from lastseen.engine.errors import EngineClosed, LogCorrupt, LogError, LogMismatch, OutcomeUnknown
from lastseen.engine.log.port import Log, Position, Record
from lastseen.engine.refusals import unread_outcome
from lastseen.engine.session import SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Outcome, Partition

BATCH_RECORDS = 512
"""Records folded at a time: how long a reader of the view may have to wait for the lock (about 5 ms)."""


PARTITION_ERRORS = (LogMismatch, LogCorrupt)
"""What ends the reading of a partition permanently."""
_logger = logging.getLogger("lastseen")


class Projection(Protocol):
    """Something folded from outcomes."""

    def follow(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        """Take the next outcomes of a partition, in order. Called under the view's lock: be quick; no I/O."""
        ...


BeforeFold = Callable[[Partition, Sequence[Record]], None]
"""Called before a batch of records is folded, under the view's lock: no session has changed yet."""
OnRecord = Callable[[Partition, Outcome], None]
"""Called for each record right after it was folded: later records of a batch change the same session objects."""


class Awaited:
    """The outcome of one event that a caller is waiting for, with the session as it was right after."""

    __slots__ = ("_stop", "outcome", "partition", "session", "was_dropped")

    def __init__(self, stop: Callable[[int, str], NoReturn], partition: int) -> None:
        self._stop = stop
        self.partition = partition
        self.was_dropped = False
        """Whether the partition was dropped, or loaded again, since."""
        self.outcome: Outcome | None = None
        self.session: SessionView | None = None

    def fail_as_lost(self) -> NoReturn:
        """The fold has passed the event's place without it (`view.Answer`)."""
        if self.was_dropped:
            raise OutcomeUnknown(
                f"partition {self.partition} moved to another engine and back: the append is in the log, and its"
                " outcome was not seen here. Read before you try again"
            )
        try:
            self._stop(
                self.partition,
                f"partition {self.partition}: the log has put a record where another was folded before: it has lost"
                " records, or it was replaced by an older copy. Restore the log; or delete the snapshot and the"
                " history, if the loss is accepted",
            )
        except LogMismatch as failure:
            raise unread_outcome(failure) from failure


class Follower:
    """Folds a log into partitions and hands the outcomes to projections. Safe to call from many threads."""

    def __init__(
        self,
        log: Log,
        view: LiveView,
        projections: Sequence[Projection],
        on_record: Sequence[OnRecord] = (),
        before_fold: BeforeFold | None = None,
    ) -> None:
        self._log = log
        self._before_fold = before_fold
        self._on_record = tuple(on_record)
        self._view = view
        self._projections = tuple(projections)
        self._awaited: dict[str, Awaited] = {}
        self.last_skew: tuple[int, int] | None = None
        """Partition and log time of our own last record, if it was void for its clock (`clock_skew`)."""
        self.is_torn = False
        """Whether an interrupt broke a batch off: then partitions and projections disagree, and nothing may be kept."""
        self._delivered = [partition.checkpoint for partition in view.partitions]
        """The checkpoint up to which projections and callers have the outcomes."""
        self._turns = [Lock() for _ in view.partitions]
        """Held while a partition is folded; taken before the view's lock."""
        self.lock = view.lock

    @property
    def failure(self) -> LogError | None:
        """Why nothing is folded any more, if so: the failure of one of the partitions, where all have failed."""
        failures, present = self._view.failures, self._view.present
        return failures[min(present)] if present and present <= failures.keys() else None

    def check(self) -> None:
        """Raise why nothing can be folded any more, if so: `LogMismatch`, `LogCorrupt` or `EngineClosed`."""
        if self._view.failures and self.failure is not None:
            self._view.check(min(self._view.present))
        if self.is_torn:
            raise EngineClosed(
                "the fold was interrupted halfway through a batch: shut the engine down and open it again; the log has"
                " everything"
            )

    def fail(self, number: int, error: LogError) -> None:
        """Fold and show no more of a partition."""
        if number not in self._view.failures:
            self._view.failures[number] = error
            _logger.error("partition %s has failed, and its keys are refused: %s", number, error)

    def _stop(self, number: int, why: str) -> NoReturn:
        self.fail(number, LogMismatch(why))
        raise LogMismatch(why)

    def expect(self, event_id: str, partition: int) -> Awaited:
        """Ask for the outcome of an event that is about to be appended. Give it up with `forget`."""
        awaited = self._awaited[event_id] = Awaited(self._stop, partition)
        return awaited

    def forget(self, event_id: str) -> None:
        """Stop waiting for this event."""
        self._awaited.pop(event_id, None)

    def catch_up(self, to: Position | None = None) -> int:
        """Fold until the record at `to` is folded, or, without `to`, all that the log holds now.

        Returns how many records were folded here. Raises the log's error, or `LogMismatch` where records are missing.
        Without `to`, a partition that fails keeps none of the others from being folded.
        """
        if to is not None:
            return self._fold_until(to.partition, to.offset + 1)
        folded = 0
        for number, end_offset in self.open_ends().items():
            with suppress(*PARTITION_ERRORS):  # `_read` has recorded it
                folded += self._fold_until(number, end_offset)
        self.check()
        return folded

    def folded(self, number: int) -> int:
        """The offset up to which the outcomes of a partition are with projections and callers."""
        return self._delivered[number]

    def open_ends(self) -> dict[int, int]:
        """The ends of the partitions that are held here and have not failed, asked of the log.

        A partition whose log has become shorter fails. Raises the log's error.
        """
        delivered = list(self._delivered)  # before the log is asked: others may fold on meanwhile
        ends = {}
        for number, end_offset in enumerate(self._log.end_offsets()):
            if number not in self._view.present or number in self._view.failures:
                continue
            if end_offset < delivered[number]:
                why = (
                    f"partition {number}: records up to offset {delivered[number]} have been folded, and the log ends"
                    f" at {end_offset} now: it has lost records, or it was replaced by an older copy. Restore the"
                    " log; or delete the snapshot and the history, if the loss is accepted"
                )
                self.fail(number, LogMismatch(why))
                continue
            ends[number] = end_offset
        return ends

    def _fold_until(self, number: int, end_offset: int) -> int:
        folded = 0
        while self._delivered[number] < end_offset:
            folded += self.advance(number, end_offset)
        return folded

    def advance(self, number: int, end_offset: int) -> int:
        """Fold what one read of the log gives, unless a partition is folded up to `end_offset` already.

        Returns how many records were folded here. Raises what `catch_up` does.
        """
        with self._turns[number]:
            if self._delivered[number] >= end_offset:
                return 0
            partition = self._view.partitions[number]
            records = self._read(partition) if number in self._view.present else []
            with self.lock:
                if number not in self._view.present:
                    raise self._view.not_owner(number, "what was appended")
                # Meanwhile it may have been dropped and loaded again, with a beginning of its own.
                return self._fold_some(partition, records) if self._view.partitions[number] is partition else 0

    def reset(self, number: int) -> None:
        """Another object stands for a partition now. The caller holds the view's lock."""
        self._delivered[number] = self._view.partitions[number].checkpoint
        self._view.failures.pop(number, None)
        for awaited in list(self._awaited.values()):
            awaited.was_dropped |= awaited.partition == number

    def _read(self, partition: Partition) -> Sequence[Record]:
        """The next records of a partition; it may take as long as the log takes to answer."""
        self._check(partition.number)
        try:
            return self._log.read(partition.number, partition.checkpoint, BATCH_RECORDS)
        except PARTITION_ERRORS as error:
            if self._view.partitions[partition.number] is partition:  # else these records are no longer wanted
                self.fail(partition.number, error)
            raise

    def _check(self, number: int) -> None:
        if self.is_torn:
            self.check()
        if self._view.failures:
            self._view.check(number)

    def _fold_some(self, partition: Partition, records: Sequence[Record]) -> int:
        self._check(partition.number)
        try:
            outcomes = []
            if self._before_fold is not None:
                self._before_fold(partition, records)
            for record in records:
                if record.offset != partition.checkpoint:
                    break
                outcome = partition.fold(record)
                outcomes.append(outcome)
                for on_record in self._on_record:
                    on_record(partition, outcome)
            # Even if an error follows: what is folded is handed out, or the snapshot would pass over it.
            for projection in self._projections:
                projection.follow(partition, outcomes)
            if self._awaited:
                self._answer(partition, outcomes)
            self._delivered[partition.number] = partition.checkpoint
        except BaseException:
            self.is_torn = True
            raise
        if len(outcomes) < len(records):
            self._stop(
                partition.number,
                f"partition {partition.number}: expected the record at offset {partition.checkpoint} and found"
                f" {records[len(outcomes)].offset}: records are missing from the log, so its state can no longer be"
                " known. Restore the log, or start from a snapshot that was taken after the gap.",
            )
        return len(outcomes)

    def _answer(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            awaited = self._awaited.pop(outcome.event.id, None) if outcome.event is not None else None
            if awaited is not None:
                is_skewed = outcome.verdict is Verdict.CLOCK_SKEW
                self.last_skew = (partition.number, outcome.at_ms) if is_skewed else None
                # If a later record of this batch changed the session again, that is what the caller sees.
                if outcome.session is not None:
                    awaited.session = self._view.show(partition.number, outcome.session)
                awaited.outcome = outcome
