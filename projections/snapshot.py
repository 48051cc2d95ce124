"""The snapshot: the live view on disk, with the checkpoints that it reflects.

Theory of operation. Each flush is one transaction that holds the sessions which changed since the last one *and* the
checkpoints, so a crash at any instant leaves a state that the log continues exactly; a flush costs what has changed,
not what is live. The snapshot is never ahead of the log, and may be lost at any time: it only saves reading the log
from the start. What is damaged is noticed, and never guessed at.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from lastseen.engine.errors import LogError, LogMismatch, SnapshotError
from lastseen.engine.lifecycle import REMEMBERED_ENDINGS
from lastseen.engine.log.port import Record
from lastseen.engine.session import Policy, Session, pack_beginning
from lastseen.projections.archive import archive
from lastseen.projections.bodies import Bodies, Body, BodyId
from lastseen.projections.facts import Effect
from lastseen.projections.history import History
from lastseen.projections.outbox import Outbox, OutboxEntry
from lastseen.projections.partition import Endings, Outcome, Partition, TouchRun
from lastseen.projections.snapshot_cut import STEP, Cut, Taken, copied_in_steps
from lastseen.projections.snapshot_file import IN_MEMORY, Batch, SnapshotFile
from lastseen.projections.snapshot_rows import (
    PARTITION_BITS,
    Damaged,
    PartitionRow,
    ending_row,
    packed,
    row_of,
)
from lastseen.projections.statistics import Counts, Statistics

MAX_SAVED_AT_START = 1_000
"""Effects of a partition that are saved while it is folded from its beginning."""


class Snapshot:
    """Keeps a snapshot file in step with the live view. Safe to call from many threads."""

    def __init__(
        self, file: SnapshotFile, partitions: int, outbox: Outbox | None = None, log_id: str | None = None
    ) -> None:
        """A snapshot in `file`. `log_id` is that of the log's genesis records, if they can be read."""
        self.lock = threading.RLock()
        """Held while the file is read or written, and from when a flush takes changes until they are committed."""
        self._file = file
        self._log_id = log_id
        self._changed: list[dict[int, Session]] = [{} for _ in range(partitions)]
        self._gone: list[set[int]] = [set() for _ in range(partitions)]
        self._ended: list[list[str]] = [[] for _ in range(partitions)]
        """For each partition the ids that its `endings` got since the last flush."""
        self._taken: Taken | None = None
        """What a flush has taken and not written: it is in progress, or was interrupted."""
        self._cut: Cut | None = None
        """What a flush is copying at this moment."""
        self._policies: dict[Policy, int] = {}
        self._outbox = outbox
        self._outbox_saved = [0] * partitions
        """For each partition the offset up to which the file has the outbox."""
        self._outbox_floors: list[int | None] = [None] * partitions
        """For each partition of whose outbox the file has anything: from which offset on."""
        self.starting: set[int] = set()
        """Partitions that are being folded from their beginning. A long outbox is not saved there: a start that ends
        early folds again what it needs of it, for less than saving costs."""

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._file.path

    def follow(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        """Note which sessions changed."""
        changed, gone = self._changed[partition.number], self._gone[partition.number]
        endings = self._ended[partition.number]
        for _, _, _, _, session, ended, _ in outcomes:
            if ended is not None:
                endings.append(ended.session_id)
                born_offset = ended.born_offset
                changed.pop(born_offset, None)
                gone.add(born_offset)
            if session is not None:
                changed[session.born_offset] = session

    def follow_touches(self, partition: Partition, run: TouchRun) -> None:
        """Note which sessions were touched."""
        changed = self._changed[partition.number]
        for session in run.sessions:
            changed[session.born_offset] = session

    def unsaved(self) -> int:
        """How many sessions have changed, and are not written yet."""
        taken = self._taken
        noted = [*self._changed, *self._gone, *([] if taken is None else [*taken.changed, *taken.gone])]
        return sum(map(len, noted))

    def flush(
        self,
        partitions: Sequence[Partition],
        statistics: Statistics,
        bodies: Bodies,
        history: History,
        view_lock: AbstractContextManager[Any],
    ) -> int:
        """Write what has changed, with the checkpoints, in one transaction; returns how many sessions were written.

        The history is written first, as of the same moment, so that it is never behind the snapshot. Raises
        `SnapshotError` if either fails; then the snapshot is as it was, and the next flush tries again.
        """
        with self.lock, history.lock:
            try:
                with view_lock:
                    self._take_back(bodies)  # what an interrupted flush has left
                    noted = history.take(partitions)
                    taken = self._take(partitions, statistics, bodies)
                    cut = self._cut = Cut(taken.changed, self._policies)
                batch = self._copy(taken, cut, view_lock)
                history.write(noted)
                if not self._file.write(batch):
                    # Another engine is ahead of us: what we know is in its file, or will be with our next flush.
                    return 0
                self._taken = None
                bodies.written()
            except (sqlite3.Error, OSError, Damaged) as error:
                raise SnapshotError(
                    f"snapshot {self.path} cannot be written: {error}. The log and the reads are not affected; free"
                    " some space or repair the permissions, and the next flush catches up"
                ) from error
            finally:
                self._cut = None
                with view_lock:
                    self._take_back(bodies)
            in_file = {row >> PARTITION_BITS for row, _ in batch.outbox}
            for number, row in batch.partitions:
                if number in in_file or self._outbox_floors[number] is not None:
                    self._outbox_floors[number] = row.outbox_floor
                # Last: where an interrupt comes before it, the rows are written again, and their floor noted.
                self._outbox_saved[number] = row.checkpoint
            return len(batch.sessions)

    def has_published(self) -> bool:
        """Whether the file has something of the outbox that was published since, and needs it no longer."""
        outbox = self._outbox
        return outbox is not None and any(
            floor is not None and outbox.floors[number] > floor for number, floor in enumerate(self._outbox_floors)
        )

    def shrink(self) -> int:
        """Give a step of the file's free space back to the disk; returns how many pages. Raises `SnapshotError`."""
        try:
            with self.lock:
                return self._file.shrink()
        except sqlite3.Error as error:
            raise SnapshotError(f"snapshot {self.path} cannot be made smaller: {error}. It is tried again") from error

    def before_fold(self, partition: Partition, records: Sequence[Record]) -> None:
        """Keep for a flush in progress what these records may change. The caller holds the view's lock."""
        cut = self._cut
        if cut is not None:
            for record in records:
                session = None if record.key is None else partition.find(record.key)
                if session is not None:
                    cut.keep(partition.number, session)

    def _take(self, partitions: Sequence[Partition], statistics: Statistics, bodies: Bodies) -> Taken:
        """Take what has changed, with the checkpoints. Costs the same at any size. The caller holds the view's lock."""
        rows = [(each.number, self._stored_partition(each, statistics.counts[each.number])) for each in partitions]
        counts = [len(endings) for endings in self._ended]
        taken = Taken(self._changed, self._gone, self._ended, counts, bodies.take_unsaved(), rows)
        self._taken = taken
        count = len(self._changed)
        self._changed = [{} for _ in range(count)]
        self._gone = [set() for _ in range(count)]
        self._ended = [[] for _ in range(count)]
        return taken

    def _copy(self, taken: Taken, cut: Cut, view_lock: AbstractContextManager[Any]) -> Batch:
        """What is written of what was taken."""
        sessions = cut.rows(view_lock)
        outbox = [pair for number, row in taken.partitions for pair in self._outbox_rows(number, row, view_lock)]
        with view_lock:
            policies = list(self._policies.items())
        return Batch(
            policies=packed((number, policy) for policy, number in policies),
            sessions=sessions,
            gone=sorted(row_of(number, offset) for number, offsets in enumerate(taken.gone) for offset in offsets),
            partitions=taken.partitions,
            endings=[pair for number, row in taken.partitions for pair in _ending_rows(number, row, taken.endings)],
            endings_totals={number: row.endings_total for number, row in taken.partitions},
            outbox=outbox,
            bodies=taken.bodies,
        )

    def _outbox_rows(
        self, number: int, row: PartitionRow, view_lock: AbstractContextManager[Any]
    ) -> list[tuple[int, Any]]:
        """Rows of what the outbox has that the file has not, up to the checkpoint; sets the floor of `row`."""
        outbox = self._outbox
        if outbox is None:
            return []
        if number in self.starting and outbox.pending(number) > MAX_SAVED_AT_START:
            row.outbox_floor = row.checkpoint
            return []

        def copy(from_offset: int) -> list[Effect | OutboxEntry]:
            return outbox.between(number, from_offset, row.checkpoint, STEP)

        effects = copied_in_steps(copy, self._outbox_saved[number], view_lock)
        with view_lock:
            # What was dropped meanwhile may be missing among the rows.
            row.outbox_floor = max(row.outbox_floor, min(outbox.floors[number], row.checkpoint))
        return [(row_of(number, entry.offset), tuple(entry)) for entry in outbox.entries(number, effects)]

    def _stored_partition(self, partition: Partition, counts: Counts) -> PartitionRow:
        return PartitionRow(
            partition.checkpoint,
            partition.digest,
            partition.importing,
            partition.log_time_ms,
            partition.endings.total,
            len(partition),
            msgspec.to_builtins(counts),
            partition.checkpoint if self._outbox is None else self._outbox.floors[partition.number],
            partition.log_id,
            partition.log_partitions,
            None if self._outbox is None else self._outbox.published[partition.number],
        )

    def _take_back(self, bodies: Bodies) -> None:
        """Take back what was taken and not written, before what came meanwhile. Costs what came meanwhile.

        Where an interrupt ends it, the next call completes it. The caller holds the view's lock.
        """
        bodies.take_back(BodyId(number, offset) for number, offsets in enumerate(self._gone) for offset in offsets)
        taken = self._taken
        if taken is None:
            return
        for number, changed in enumerate(taken.changed):
            for born_offset in self._gone[number]:
                changed.pop(born_offset, None)
            changed.update(self._changed[number])
            taken.gone[number].update(self._gone[number])
            if self._ended is not taken.endings:
                taken.endings[number][taken.ended[number] :] = self._ended[number]
        self._changed, self._gone, self._ended = taken.changed, taken.gone, taken.endings
        self._taken = None

    def load(
        self,
        partitions: Sequence[Partition],
        statistics: Statistics,
        end_offsets: Callable[[], Sequence[int]],
        ahead: dict[int, LogError] | None = None,
    ) -> int:
        """Bring empty partitions to the snapshot's state; returns how many sessions there are.

        Raises `Damaged` where the file cannot be believed; `LogMismatch` where it is ahead of the log in all these
        partitions, or in one while `ahead` is not given: it gets the errors of single ones, which stay empty.
        """
        try:
            with self._file.reading():
                stored = self._file.partitions()
                # Asked for after the snapshot was read: another engine may be writing both.
                ends = end_offsets()
                policies = {number: Policy(**fields) for number, fields in self._file.policies().items()}
                self._policies = {policy: number for number, policy in policies.items()}
                for partition in partitions:
                    row = stored.get(partition.number)
                    if row is not None:
                        self._check_log(partition.number, row)
                        try:
                            self._check_place(partition.number, row, ends[partition.number])
                        except LogMismatch as error:
                            if ahead is None or len(ahead) + 1 == len(partitions):
                                raise
                            ahead[partition.number] = error
                            continue
                        self._load_partition(partition, row, policies)
                        statistics.counts[partition.number] = Counts.restored(row.counts)
            return sum(map(len, partitions))
        except (
            sqlite3.DatabaseError,
            msgspec.MsgspecError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:
            raise Damaged(str(error)) from error

    def _check_log(self, number: int, row: PartitionRow) -> None:
        if self._log_id is not None and row.checkpoint and row.log_id != self._log_id:
            raise LogMismatch(
                f"snapshot {self.path} was taken of log {row.log_id}, by the genesis record of partition {number}, and"
                f" this is log {self._log_id}: the log was recreated, or the snapshot belongs to another log. Give the"
                " log of the snapshot, or another snapshot path"
            )

    def _check_place(self, number: int, row: PartitionRow, end_offset: int) -> None:
        if row.checkpoint > end_offset:
            raise LogMismatch(
                f"snapshot {self.path} has read partition {number} up to offset {row.checkpoint}, and the log ends at"
                f" {end_offset}: the log has lost records, or it was replaced by an older copy. Restore the log; or"
                " delete the snapshot, if the loss is accepted"
            )

    def _load_partition(self, partition: Partition, stored: PartitionRow, policies: dict[int, Policy]) -> None:
        sessions = [
            Session(
                row.key,
                row.session_id,
                policies[row.policy],
                pack_beginning(row.created_at_ms, born_offset),
                row.last_active_at_ms,
                row.last_active_offset,
                row.version,
                row.suspended_at_ms,
                row.suspended_ms,
                row.leases,
                row.owner,
            )
            for born_offset, row in self._file.sessions(partition.number)
        ]
        if len(sessions) != stored.sessions:
            raise Damaged(f"partition {partition.number} has {len(sessions)} sessions, not {stored.sessions}")
        endings = self._file.endings(partition.number)
        if len(endings) != min(stored.endings_total, REMEMBERED_ENDINGS):
            raise Damaged(f"partition {partition.number} has {len(endings)} endings of {stored.endings_total}")
        partition.endings = Endings(endings, stored.endings_total)
        partition.restore(sessions, stored.checkpoint, stored.digest)
        partition.importing, partition.log_time_ms = stored.importing, stored.log_time_ms
        partition.log_id, partition.log_partitions = stored.log_id, stored.log_partitions
        if self._outbox is not None:
            entries = [
                OutboxEntry(offset, facts, states) for offset, facts, states in self._file.outbox(partition.number)
            ]
            if entries:
                self._outbox_floors[partition.number] = stored.outbox_floor
            self._outbox.restore(partition.number, stored.outbox_floor, stored.published or 0, entries)
            self._outbox_saved[partition.number] = stored.checkpoint

    def forget(self, number: int) -> None:
        """Drop what is known of one partition; the file keeps it. The caller holds `lock` and the view's."""
        taken = self._taken
        if taken is not None:
            for noted in (taken.changed, taken.gone, taken.endings):
                noted[number].clear()
            taken.ended[number] = 0
        self._changed[number].clear()
        self._gone[number].clear()
        self._ended[number].clear()
        self._outbox_saved[number] = 0
        self._outbox_floors[number] = None
        self.starting.discard(number)

    def load_body(self, body_id: BodyId) -> Body:
        """The body as last flushed; an empty one if there is none. Raises `SnapshotError`."""
        try:
            with self.lock, self._file.reading():
                return self._file.body(body_id)
        except (sqlite3.Error, Damaged, msgspec.MsgspecError) as error:
            raise SnapshotError(
                f"snapshot {self.path} cannot be read: {error}. The log is not affected: close the engine and delete"
                " the snapshot, and it is rebuilt from the log"
            ) from error

    def archive(self) -> str | None:
        """Put a copy of the file by, with its digest; returns where. `None` if it is in memory."""
        if self.path == IN_MEMORY:
            return None
        with self.lock:
            return str(archive(self._file))

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._file.close()


def _ending_rows(number: int, row: PartitionRow, endings: Sequence[Sequence[str]]) -> list[tuple[int, str, int]]:
    """Rows of the endings since the last flush, as many as are remembered."""
    newest = endings[number][-REMEMBERED_ENDINGS:]
    first = row.endings_total - len(newest)
    return [ending_row(row_of(number, first + place), session_id) for place, session_id in enumerate(newest)]
