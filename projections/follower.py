"""The one reader: reads the log, folds each record once, and hands the outcome to every projection.

No call waits for a follower thread: a caller that waits for a record folds up to it itself, one caller at a time for
each partition, and finds the work done if another caller has folded it. That saves a hand-over between threads a call.
Records are read before the view's lock is taken: reads of the view continue while the log is down.

A partition that cannot be read, or is not what was folded, fails by itself: its keys are refused from then on, before
anything is appended, and the other partitions go on. Only when all have failed does the follower stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import NoReturn, Protocol

from lastseen.engine.codec import remembered
from lastseen.engine.errors import EngineClosed, LogCorrupt, LogError, LogMismatch, OutcomeUnknown
from lastseen.engine.log.port import Log, Position, Record
from lastseen.engine.refusals import unread_outcome
from lastseen.engine.session import Session, SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.projections.facts import Effect, touch_effect
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import EVENT_ID, Hear, Outcome, Partition, TouchRun

BATCH_RECORDS = 512
"""Records read at a time, and folded at most with the view's lock held: touches take 2 to 3 ms."""
HELD_S = 0.001_5
"""How long records are folded with the view's lock held: other records than touches take several times as long. What
the projections do with them comes on top of it, and takes about as long."""
LOOK_EVERY = 16
"""Records between two looks at that time."""
PAUSE_S = 0.000_02
"""Between two holds; without it, the lock is taken again before a waiting thread has woken up."""

PARTITION_ERRORS = (LogMismatch, LogCorrupt)
"""What ends the reading of a partition permanently."""
_logger = logging.getLogger("lastseen")


class Projection(Protocol):
    """Something folded from outcomes."""

    def follow(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        """Take the next outcomes of a partition, in order. Called under the view's lock: be quick; no I/O."""
        ...

    def follow_touches(self, partition: Partition, run: TouchRun) -> None:
        """Take the next records of a partition, all of them plain touches: what `follow` would take of each."""
        ...


class Listener(Protocol):
    """Something that has to see each record right after it was folded: later records change the same sessions."""

    @property
    def hears_touches(self) -> bool:
        """Whether plain touches mean anything to it at the moment."""
        ...

    def on_record(self, partition: Partition, outcome: Outcome) -> None:
        """Take what a record did. Called under the view's lock, like the other."""
        ...

    def on_touch(self, number: int, effect: Effect) -> None:
        """Take the effect of a plain touch that was folded without an `Outcome`, if it hears of touches."""
        ...


BeforeFold = Callable[[Partition, Sequence[Record]], None]
"""Called before a batch of records is folded, under the view's lock: no session has changed yet."""


class Awaited:
    """The outcome of one event that a caller is waiting for, with the session as it was right after."""

    __slots__ = ("_stop", "partition", "session", "verdict", "was_dropped")

    def __init__(self, stop: Callable[[int, str], NoReturn], partition: int) -> None:
        self._stop = stop
        self.partition = partition
        self.was_dropped = False
        """Whether the partition was dropped, or loaded again, since."""
        self.verdict: Verdict | None = None
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
        listeners: Sequence[Listener] = (),
        before_fold: BeforeFold | None = None,
        monotonic_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`monotonic_s` says how long the view's lock has been held: other threads' turn, not what is folded, depends
        on it."""
        self._log = log
        self._monotonic_s = monotonic_s
        self._before_fold = before_fold
        self._listeners = tuple(listeners)
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
            folded = 0
            while True:
                with self.lock:
                    if number not in self._view.present:
                        raise self._view.not_owner(number, "what was appended")
                    if self._view.partitions[number] is not partition:
                        # Meanwhile it was dropped and loaded again, with a beginning of its own.
                        return folded
                    folded += self._fold_some(partition, records[folded:] if folded else records)
                if folded >= len(records):
                    return folded
                if threading.active_count() > 1:
                    time.sleep(PAUSE_S)

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
        """Fold the first of these records, all unless that takes too long; returns how many."""
        self._check(partition.number)
        try:
            first = partition.checkpoint
            if self._before_fold is not None:
                self._before_fold(partition, records)
            parts = self._folded(partition, records, self._monotonic_s() + HELD_S)
            # Even if an error follows: what is folded is handed out, or the snapshot would pass over it.
            for projection in self._projections:
                for part in parts:
                    if isinstance(part, TouchRun):
                        projection.follow_touches(partition, part)
                    else:
                        projection.follow(partition, part)
            if self._awaited:
                for part in parts:
                    if isinstance(part, TouchRun):
                        self._answer_touches(partition, part)
                    else:
                        self._answer(partition, part)
            folded = partition.checkpoint - first
            self._delivered[partition.number] = partition.checkpoint
        except BaseException:
            self.is_torn = True
            raise
        if folded < len(records) and records[folded].offset != partition.checkpoint:
            self._stop(
                partition.number,
                f"partition {partition.number}: expected the record at offset {partition.checkpoint} and found"
                f" {records[folded].offset}: records are missing from the log, so its state can no longer be"
                " known. Restore the log, or start from a snapshot that was taken after the gap.",
            )
        return folded

    def _folded(
        self, partition: Partition, records: Sequence[Record], until_s: float
    ) -> Sequence[list[Outcome] | TouchRun]:
        """Fold records up to a gap, or until it takes too long; what they did, in their order: plain touches of this
        process by the run."""
        parts: list[list[Outcome] | TouchRun] = []
        outcomes: list[Outcome] = []
        own, place, look_at = remembered(), 0, LOOK_EVERY
        while place < len(records):
            if place >= look_at:
                if self._monotonic_s() >= until_s:
                    break
                look_at = place + LOOK_EVERY
            record = records[place]
            if record.offset != partition.checkpoint:
                break
            if own and record.value in own:
                run = partition.fold_touches(records, place, self._hear_of(partition.number))
                if run is not None:
                    if outcomes:
                        parts.append(outcomes)
                        outcomes = []
                    parts.append(run)
                    place += len(run.sessions)
                    continue
            outcome = partition.fold(record)
            outcomes.append(outcome)
            for listener in self._listeners:
                listener.on_record(partition, outcome)
            place += 1
        if outcomes or not parts:
            parts.append(outcomes)
        return parts

    def _hear_of(self, number: int) -> Hear | None:
        """What tells listeners of each plain touch; `None` where none of them hears of touches."""
        for listener in self._listeners:
            if listener.hears_touches:
                break
        else:
            return None

        def hear(offset: int, at_ms: int, session: Session) -> None:
            effect = touch_effect(offset, at_ms, session)
            for listener in self._listeners:
                if listener.hears_touches:
                    listener.on_touch(number, effect)

        return hear

    def _answer_touches(self, partition: Partition, run: TouchRun) -> None:
        answered, show, number = self._awaited.pop, self._view.show, partition.number
        for entry, session in zip(run.entries, run.sessions, strict=True):
            awaited = answered(entry[EVENT_ID], None)
            if awaited is not None:
                self.last_skew = None
                awaited.session = show(number, session)
                awaited.verdict = Verdict.APPLIED

    def _answer(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            awaited = self._awaited.pop(outcome.event.id, None) if outcome.event is not None else None
            if awaited is not None:
                is_skewed = outcome.verdict is Verdict.CLOCK_SKEW
                self.last_skew = (partition.number, outcome.at_ms) if is_skewed else None
                # If a later record of this batch changed the session again, that is what the caller sees.
                if outcome.session is not None:
                    awaited.session = self._view.show(partition.number, outcome.session)
                awaited.verdict = outcome.verdict
