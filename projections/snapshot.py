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

from lastseen.engine.errors import LogMismatch, SnapshotError
from lastseen.engine.lifecycle import REMEMBERED_ENDINGS
from lastseen.engine.session import Policy, Session, pack_beginning
from lastseen.projections.archive import archive
from lastseen.projections.bodies import Bodies, Body, BodyId
from lastseen.projections.facts import Effect
from lastseen.projections.history import History
from lastseen.projections.outbox import Outbox, OutboxEntry
from lastseen.projections.partition import Endings, Outcome, Partition
from lastseen.projections.snapshot_file import IN_MEMORY, Batch, SnapshotFile
from lastseen.projections.snapshot_rows import (
    Damaged,
    PartitionRow,
    SessionRow,
    ending_row,
    packed,
    policy_number,
    row_of,
    session_row,
)
from lastseen.projections.statistics import Counts, Statistics


class Snapshot:
    """Keeps a snapshot file in step with the live view. Safe to call from many threads."""

    def __init__(self, file: SnapshotFile, partitions: int, outbox: Outbox | None = None) -> None:
        self.lock = threading.RLock()
        """Held while the file is read or written, and from when a flush takes changes until they are committed."""
        self._file = file
        self._changed: list[dict[int, Session]] = [{} for _ in range(partitions)]
        self._gone: list[set[int]] = [set() for _ in range(partitions)]
        self._endings_saved = [0] * partitions
        self._policies: dict[Policy, int] = {}
        self._outbox = outbox
        self._outbox_saved = [0] * partitions
        """For each partition the offset up to which the file has the outbox."""

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._file.path

    def follow(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        """Note which sessions changed."""
        changed, gone = self._changed[partition.number], self._gone[partition.number]
        for _, _, _, _, session, ended, _ in outcomes:
            if ended is not None:
                born_offset = ended.born_offset
                changed.pop(born_offset, None)
                gone.add(born_offset)
            if session is not None:
                changed[session.born_offset] = session

    def unsaved(self) -> int:
        """How many sessions have changed since the last flush."""
        return sum(map(len, self._changed)) + sum(map(len, self._gone))

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
            with view_lock:
                noted = history.take(partitions)
                changed, self._changed = self._changed, [{} for _ in self._changed]
                gone, self._gone = self._gone, [set() for _ in self._gone]
                batch = self._collect(partitions, statistics, changed)
                batch.bodies = bodies.take_unsaved()
                effects = {partition.number: self._new_effects(partition.number) for partition in partitions}
            batch.outbox = [pair for number, each in effects.items() for pair in self._outbox_rows(number, each)]
            batch.gone = sorted(row_of(number, offset) for number, offsets in enumerate(gone) for offset in offsets)
            try:
                history.write(noted, view_lock)
                is_written = self._file.write(batch)
            except (SnapshotError, sqlite3.Error, OSError, Damaged) as error:
                self._give_back(changed, gone, batch, bodies, view_lock)
                if isinstance(error, SnapshotError):
                    raise
                raise SnapshotError(
                    f"snapshot {self.path} cannot be written: {error}. The log and the reads are not affected; free"
                    " some space or repair the permissions, and the next flush catches up"
                ) from error
            if not is_written:
                # Another engine is ahead of us: what we know is in the file already, or will be with our next flush.
                self._give_back(changed, gone, batch, bodies, view_lock)
                return 0
            for number, row in batch.partitions:
                self._endings_saved[number] = batch.endings_totals[number]
                self._outbox_saved[number] = row.checkpoint
            return len(batch.sessions)

    def _collect(
        self, partitions: Sequence[Partition], statistics: Statistics, changed: Sequence[dict[int, Session]]
    ) -> Batch:
        sessions = [
            session_row(row_of(number, born_offset), self._stored(of_partition[born_offset]))
            for number, of_partition in enumerate(changed)
            for born_offset in sorted(of_partition)
        ]
        return Batch(
            policies=packed((number, policy) for policy, number in self._policies.items()),
            sessions=sessions,
            gone=(),
            partitions=[
                (partition.number, self._stored_partition(partition, statistics.counts[partition.number]))
                for partition in partitions
            ],
            endings=[pair for partition in partitions for pair in self._new_endings(partition)],
            endings_totals={partition.number: partition.endings.total for partition in partitions},
        )

    def _stored(self, session: Session) -> SessionRow:
        policy = self._policies.get(session.policy)
        if policy is None:
            policy = self._policies[session.policy] = policy_number(session.policy)
        return SessionRow(
            session.key,
            session.session_id,
            policy,
            session.created_at_ms,
            session.last_active_at_ms,
            session.last_active_offset,
            session.version,
            session.suspended_at_ms,
            session.suspended_ms,
            session.leases,
            session.owner,
        )

    def _new_endings(self, partition: Partition) -> list[tuple[int, str, int]]:
        total = partition.endings.total
        newest = partition.endings.newest(total - self._endings_saved[partition.number])
        first = total - len(newest)
        return [ending_row(row_of(partition.number, first + place), each) for place, each in enumerate(newest)]

    def _new_effects(self, number: int) -> Sequence[Effect | OutboxEntry]:
        """What the outbox has that the file has not. The caller holds the view's lock."""
        if self._outbox is None:
            return ()
        return self._outbox.first(number, self._outbox_saved[number], self._outbox.pending(number))

    def _outbox_rows(self, number: int, effects: Sequence[Effect | OutboxEntry]) -> list[tuple[int, Any]]:
        """Rows of the outbox."""
        if self._outbox is None:
            return []
        return [(row_of(number, entry.offset), tuple(entry)) for entry in self._outbox.entries(number, effects)]

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
        )

    def _give_back(
        self,
        changed: list[dict[int, Session]],
        gone: list[set[int]],
        batch: Batch,
        bodies: Bodies,
        view_lock: AbstractContextManager[Any],
    ) -> None:
        """Take back what was not written, before what came meanwhile."""
        with view_lock:
            ended = {BodyId(number, offset) for number, offsets in enumerate(self._gone) for offset in offsets}
            bodies.give_back(batch.bodies, ended)
            for number, offsets in enumerate(gone):
                for born_offset in self._gone[number]:
                    changed[number].pop(born_offset, None)
                self._changed[number] = changed[number] | self._changed[number]
                self._gone[number] |= offsets

    def load(
        self, partitions: Sequence[Partition], statistics: Statistics, end_offsets: Callable[[], Sequence[int]]
    ) -> int:
        """Bring empty partitions to the snapshot's state; returns how many sessions there are.

        Raises `Damaged` where the file cannot be believed; `LogMismatch` where it is ahead of the log.
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
                        self._check_place(partition.number, row.checkpoint, ends[partition.number])
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

    def _check_place(self, number: int, checkpoint: int, end_offset: int) -> None:
        if checkpoint > end_offset:
            raise LogMismatch(
                f"snapshot {self.path} has read partition {number} up to offset {checkpoint}, and the log ends at"
                f" {end_offset}: the log has lost records, or an older copy was put in its place. Restore the log; or"
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
        self._endings_saved[partition.number] = stored.endings_total
        if self._outbox is not None:
            entries = [
                OutboxEntry(offset, facts, states) for offset, facts, states in self._file.outbox(partition.number)
            ]
            self._outbox.restore(partition.number, stored.outbox_floor, entries)
            self._outbox_saved[partition.number] = stored.checkpoint

    def forget(self, number: int) -> None:
        """Drop what is known of one partition; the file keeps it. The caller holds `lock` and the view's."""
        self._changed[number].clear()
        self._gone[number].clear()
        self._endings_saved[number] = self._outbox_saved[number] = 0

    def load_body(self, body_id: BodyId) -> Body:
        """The body as last flushed; an empty one if there is none. Raises `SnapshotError`."""
        try:
            with self.lock, self._file.reading():
                return self._file.body(body_id)
        except (sqlite3.Error, Damaged, msgspec.MsgspecError) as error:
            raise SnapshotError(
                f"snapshot {self.path} cannot be read: {error}. The log is not affected: close the engine and delete"
                " the snapshot, and it is folded anew from the log"
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
