"""`sqlite:///path`: a log in one SQLite file, for one machine. Several processes may append to it and follow it.

Theory of operation. Callers hand their messages to a writer thread, which commits everything that waits in one
transaction (group commit): the more callers, the more messages share a disk flush. A caller that finds nothing in
progress commits its own, which saves two switches between threads. Offsets and log times are given inside the
transaction, under SQLite's write lock, so they are without gap and never go back, whichever process writes to the file.
What this process has appended is kept for a while for its own reader, which asks for it at once."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from lastseen.engine.clock import Clock
from lastseen.engine.errors import EngineClosed, LogError, LogMismatch, LogUnavailable, OutcomeUnknown
from lastseen.engine.genesis import genesis_records
from lastseen.engine.log.message_checks import checked_size
from lastseen.engine.log.port import Message, Position, Record
from lastseen.engine.log.private_file import make_private
from lastseen.engine.log.sqlite.appendable import Appendable, roll_back
from lastseen.engine.log.sqlite.file import FAILURES, LogFile, check_is_log, log_error, prepare
from lastseen.engine.log.sqlite.reading import read_records
from lastseen.engine.log.sqlite.recorder import TABLE, LogDatastore, LogRecorder
from lastseen.engine.log.sqlite.request import Request, resolve
from lastseen.engine.log.tail import Tail

MAX_BATCH_MESSAGES = 5_000
MAX_BATCH_BYTES = 8 * 1024 * 1024
"""What one transaction holds at most."""
POLL_S = 0.01
"""How often a waiter looks for other processes' commits: SQLite does not announce them."""
_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""


class SqliteLog:
    """A log in an SQLite file."""

    def __init__(
        self,
        path: str,
        clock: Clock,
        *,
        partitions: int | None = None,
        genesis: bool = False,
        lock_timeout_s: int = 5,
        max_waiting_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        """Open the log at `path`, and make it if it is not there; then it has `partitions` partitions, or 1.

        With `genesis`, a log that has no record yet gets its genesis records.
        Raises `InvalidSetting`, `LogUnavailable`, `LogCorrupt`, `LogTooNew`, `LogMismatch`.
        """
        self.path = str(Path(path).absolute())
        self._clock = clock
        self._max_waiting_bytes = max_waiting_bytes
        self._lock_timeout_s = lock_timeout_s
        self._pid = os.getpid()
        check_is_log(Path(self.path))
        self._datastore, self._reader = self._connect(lock_timeout_s, partitions, genesis)
        self._reading = threading.Lock()
        self._tail = Tail(self.partitions)
        self._ends: dict[int, int] = {}
        """The writer's knowledge of end offsets; forgotten when another process has written."""
        self._log_time_ms = 0
        self._seen_by_writer: int | None = None
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        """Guards what the gate is about. Taken by itself where no caller has to wait, which costs a third."""
        self._gate = threading.Condition(self._mutex)
        self._waiting_callers = 0
        self._waiting_bytes = 0
        self._in_flight = 0
        """Requests accepted and not yet settled."""
        self._grown = threading.Condition()
        self._waiters = 0
        self._is_closed = False
        self._appendable = Appendable(self.path)
        self.commits = 0
        """Transactions committed by this process."""
        self._writer = threading.Thread(target=self._write_all, name="lastseen-log-writer", daemon=True)
        try:
            self._writer.start()
        except RuntimeError as error:
            self._reader.close()
            self._datastore.close()
            raise LogUnavailable(
                f"log {self.path} cannot be opened: its writer's thread cannot be started ({error}); end other threads,"
                " or allow the process more threads or memory"
            ) from error

    def _connect(
        self, lock_timeout_s: int, partitions: int | None, genesis: bool
    ) -> tuple[LogDatastore, sqlite3.Connection]:
        make_private(self.path)
        datastore = LogDatastore(self.path, lock_timeout=lock_timeout_s, originator_id_type="text")
        try:
            recorder = LogRecorder(datastore)
            connection = datastore.writer().raw

            def begin(file: LogFile) -> None:
                recorder.insert_records(connection, first_records(file, self._clock.now_ms()))

            file = prepare(
                connection, self.path, recorder.create_table_statements, partitions, begin if genesis else None
            )
            reader = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=lock_timeout_s)
        except FAILURES as error:
            datastore.close()
            raise log_error(self.path, error) from error
        except BaseException:
            datastore.close()
            raise
        self.identity, self.partitions = file
        self._recorder = recorder
        return datastore, reader

    # ── appending ──

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Append all messages; returns when they are on the disk (`port.Log`)."""
        if not messages:
            return []
        request = Request(messages, checked_size(messages, self.partitions), None)
        if self._submit(request, may_wait=True, may_commit=True):
            # No other append is in progress: going to the writer thread and back would cost more than it saves.
            self._serve([request])
        return request.result()

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        """Append all messages without waiting (`port.Log`)."""
        future: Future[list[Position]] = Future()
        # What is on its way to the disk cannot be called back.
        future.set_running_or_notify_cancel()
        if messages:
            size = checked_size(messages, self.partitions)
            request = Request(messages, size, lambda request: resolve(future, request))
            self._submit(request, may_wait=False, may_commit=False)
        else:
            future.set_result([])
        return future

    def _submit(self, request: Request, *, may_wait: bool, may_commit: bool) -> bool:
        """Take a request in; whether the caller is to serve it itself, since none is in progress."""
        self._check_process()
        # A future's callback runs on the writer thread, which must not wait for itself.
        is_writer = self._writer.ident == threading.get_ident()
        with self._mutex:
            self._check_open()
            while (
                not (is_writer and may_wait)
                and self._waiting_bytes
                and self._waiting_bytes + request.size > self._max_waiting_bytes
            ):
                if not may_wait:
                    raise LogUnavailable(
                        f"log {self.path}: {self._waiting_bytes} bytes wait to be written, and the limit is"
                        f" {self._max_waiting_bytes}; wait for earlier appends, or write more slowly"
                    )
                self._waiting_callers += 1
                self._gate.wait()
                self._waiting_callers -= 1
                self._check_open()
            commits = may_commit and (is_writer or not self._in_flight)
            self._waiting_bytes += request.size
            self._in_flight += 1
            if not commits:
                # Inside the gate, so that nothing can follow the end of the queue.
                self._queue.put(request)
            return commits

    def _write_all(self) -> None:
        is_last = False
        while not is_last:
            first = self._queue.get()
            if first is None:
                return
            batch, count, size = [first], len(first.messages), first.size
            while count < MAX_BATCH_MESSAGES and size < MAX_BATCH_BYTES:
                try:
                    request = self._queue.get_nowait()
                except queue.Empty:
                    break
                if request is None:
                    is_last = True
                    break
                batch.append(request)
                count += len(request.messages)
                size += request.size
            self._serve(batch)

    def _serve(self, batch: Sequence[Request]) -> None:
        """Commit a batch, and give its callers the outcome."""
        failure: LogError | None = OutcomeUnknown(
            f"log {self.path}: the append was interrupted, and may or may not be in the log. Read before you try again"
        )
        try:
            self._commit(batch)
            failure = None
        except LogError as error:
            failure = error
        except Exception as error:  # the callers must hear of it, whatever it is
            failure = LogError(f"log {self.path}: {error!r}")
        finally:
            self._appendable.is_failing = failure is not None
            with self._mutex:
                for request in batch:
                    self._waiting_bytes -= request.size
                self._in_flight -= len(batch)
                if self._waiting_callers or self._is_closed:
                    self._gate.notify_all()
            for request in batch:
                if failure is not None:
                    # One for each caller: they raise it in threads of their own.
                    request.error = failure.again()
                request.finish()

    def _commit(self, batch: Sequence[Request]) -> None:
        """Write a batch in one transaction, or nothing."""
        with self._datastore.writing:
            try:
                connection = self._datastore.writer().raw
                if connection.in_transaction:  # an interrupted caller left it open
                    self._forget()
                    connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    records = self._number(connection, batch)
                    self._recorder.insert_records(connection, records)
                except BaseException:
                    self._forget()
                    roll_back(connection)
                    raise
                self._finish(connection)
            except sqlite3.Error as error:
                self._forget()
                raise log_error(self.path, error) from error
            self.commits += 1
        self._tail.add(records)
        if self._waiters:
            with self._grown:
                self._grown.notify_all()

    def _finish(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A transaction that is still open can be taken back, and then nothing has happened; one that found the disk
            # full SQLite has taken back already. After an error of the disk it is not known what is on it: the
            # connection goes, and the next one reads what there is.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL or (code != sqlite3.SQLITE_IOERR and connection.in_transaction):
                roll_back(connection)
                raise
            self._forget()
            self._datastore.drop_writer()
            raise OutcomeUnknown(
                f"log {self.path}: the disk failed while an append was committed ({error}); it may or may not be in the"
                " log. Read before you try again"
            ) from error

    def check_appendable(self) -> None:
        """Raise why an append fails at the moment, if it does."""
        self._check_open()
        self._appendable.check(self._datastore, self._forget)

    def _number(self, connection: sqlite3.Connection, batch: Sequence[Request]) -> list[Record]:
        """Give every message its offset and its log time, inside the transaction."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._seen_by_writer:
            self._forget()
            self._seen_by_writer = version
            newest = f"SELECT CAST(log_time_ms AS INTEGER) FROM {TABLE} ORDER BY rowid DESC LIMIT 1"
            last = connection.execute(newest).fetchone()
            self._log_time_ms = max(self._log_time_ms, (last and last[0]) or 0)
        self._log_time_ms = now_ms = max(self._log_time_ms, self._clock.now_ms())
        ends = self._ends
        records = []
        for request in batch:
            positions = []
            for partition, key, value in request.messages:
                offset = ends.get(partition)
                if offset is None:
                    offset = _end_offset(connection, partition)
                ends[partition] = offset + 1
                positions.append(_tuple(Position, (partition, offset)))
                records.append(_tuple(Record, (partition, offset, now_ms, key, value, None)))
            request.positions = positions
        return records

    def _forget(self) -> None:
        """What the writer knows of the file may be wrong now."""
        self._ends.clear()
        self._seen_by_writer = None

    # ── reading ──

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`port.Log`)."""
        self._check_process()
        self._check_open()
        records = self._tail.read(partition, from_offset, max_records)
        if records:
            return records
        with self._reading:
            self._check_open()
            try:
                records = read_records(self._reader, partition, from_offset, max_records)
                if not records or records[0].offset != from_offset:
                    self._check_offset(partition, from_offset, found=records[0].offset if records else None)
            except sqlite3.Error as error:
                raise log_error(self.path, error) from error
        return records

    def _check_offset(self, partition: int, offset: int, found: int | None) -> None:
        end = _end_offset(self._reader, partition)
        # Records that came between the two queries are no gap: the next read has them.
        if found is not None or not 0 <= offset <= end:
            raise LogMismatch(
                f"log {self.path}, partition {partition}: it ends at offset {end}, and has no record at {offset}:"
                " records are missing from the file. Restore it from a copy"
            )

    def wait(self, position: Position, timeout_s: float) -> bool:
        """Wait until there is a record at `position` (`port.Log`)."""
        give_up = time.monotonic() + timeout_s
        while True:
            if self.end_offsets()[position.partition] > position.offset:
                return True
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                return False
            with self._grown:
                self._waiters += 1
                self._grown.wait(min(left_s, POLL_S))
                self._waiters -= 1

    def end_offsets(self) -> list[int]:
        """The offset that the next record of each partition will have (`port.Log`)."""
        self._check_process()
        with self._reading:
            self._check_open()
            try:
                return [_end_offset(self._reader, partition) for partition in range(self.partitions)]
            except sqlite3.Error as error:
                raise log_error(self.path, error) from error

    def close(self) -> None:
        """Write what waits, and close the file (`port.Log`). In a forked child, only the parent may."""
        if os.getpid() != self._pid:
            return
        with self._gate:
            if self._is_closed:
                return
            self._is_closed = True
            self._queue.put(None)
            self._gate.notify_all()
            # A caller may be committing its own. The bound is for one that was interrupted before it came to that.
            self._gate.wait_for(lambda: not self._in_flight, self._lock_timeout_s)
        if threading.current_thread() is not self._writer:
            self._writer.join()
        with self._reading:
            self._reader.close()
        # Closing a connection that another thread is in takes the whole process down.
        with self._datastore.writing:
            self._datastore.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed(f"log {self.path} is closed: open it again")

    def _check_process(self) -> None:
        """Asked before any lock is taken: in a forked child, the thread that held it is gone."""
        if os.getpid() != self._pid:
            raise LogError(f"log {self.path} was opened before this process was forked: open it again in the child")


def first_records(file: LogFile, now_ms: int) -> list[Record]:
    """The genesis records of a file's partitions, as the log takes them."""
    messages = genesis_records(file.identity, file.partitions, now_ms)
    return [Record(number, 0, now_ms, key, value) for number, key, value in messages]


def _end_offset(connection: sqlite3.Connection, partition: int) -> int:
    (last,) = connection.execute(
        f"SELECT MAX(originator_version) FROM {TABLE} WHERE originator_id = ?", (str(partition),)
    ).fetchone()
    return 0 if last is None else int(last) + 1
