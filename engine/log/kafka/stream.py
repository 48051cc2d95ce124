"""Following a topic: a thread fetches ahead of the readers, within bounds, and wakes those that wait for more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from kafka import errors

from lastseen.engine.errors import EngineClosed, LastseenError, LogCorrupt, LogError, LogMismatch
from lastseen.engine.log.kafka.client import log_error
from lastseen.engine.log.kafka.fetch import Fetch, FetchDamaged, OffsetGone
from lastseen.engine.log.kafka.lookup import Lookup
from lastseen.engine.log.kafka.record_runs import Chunk, RecordRun, records_of
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.port import Record

FETCH_WAIT_MS = 100
"""How long the broker holds a fetch for which it has nothing; also how long a change of course may take."""
FETCH_BYTES = 1024 * 1024
BOOTSTRAP_TIMEOUT_MS = 2_000
MIN_AHEAD_BYTES = 2 * 1024 * 1024
IDENTITY_EVERY_S = 2.0
"""How often it is asked whether the topic is still the same."""
RETRY_S = 0.2
_logger = logging.getLogger("lastseen")


class Stream:
    """Where a log's reader stands in each partition, and what comes next there."""

    def __init__(
        self, url: KafkaUrl, ends: list[int], grown: threading.Condition, lookup: Lookup, max_ahead_bytes: int
    ) -> None:
        """`ends` are the ends of the partitions as far as known; it is kept up to date, under `grown`."""
        self._url = url
        self._ends, self._grown, self._lookup = ends, grown, lookup
        self._max_ahead_bytes = max(max_ahead_bytes // len(ends), MIN_AHEAD_BYTES)
        self._runs = [RecordRun(end) for end in ends]
        self._read_at_s = [float("-inf")] * len(ends)
        self._moved: set[int] = set()
        """Partitions whose run begins elsewhere now, which the fetch is to follow."""
        self._gone: dict[int, LogError] = {}
        """Partitions that cannot be followed from where the run ends, and why."""
        self.failure: LogError | None = None
        """Why nothing can be read any more."""
        self.trouble: LastseenError | None = None
        """Why nothing comes at present."""
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lastseen-kafka-stream", daemon=True)
        self._thread.start()

    # ── reading ──

    def read(self, partition: int, offset: int, limit: int) -> list[Record] | None:
        """What has been fetched from `offset` on; `None` if the stream is elsewhere. Raises why there is no more."""
        with self._grown:
            run = self._runs[partition]
            chunks = run.find(offset, limit)
            if not chunks:
                if run.end != offset:
                    return None
                self._raise_if_gone(partition)
                return []
            run.drop_before(offset)
            self._read_at_s[partition] = time.monotonic()
        return records_of(chunks, offset, limit)

    def await_more(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Wait until there is something at `offset`, at which the stream stands, or it stands elsewhere."""
        with self._grown:
            run = self._runs[partition]
            return self._grown.wait_for(
                lambda: run.end != offset or partition in self._gone or self._has_ended(), timeout_s
            )

    def _has_ended(self) -> bool:
        return self.failure is not None or self._is_closed.is_set()

    def _raise_if_gone(self, partition: int) -> None:
        reason = self._gone.get(partition)
        if reason is not None:
            raise type(reason)(*reason.args)

    def passed(self, partition: int, offset: int) -> None:
        """The reader has reached `offset` another way. With `grown` held."""
        self._runs[partition].drop_before(offset)

    def move(self, partition: int, offset: int, idle_s: float) -> None:
        """Go on at `offset`, if no reader has read from where the stream is for so long."""
        with self._grown:
            if time.monotonic() - self._read_at_s[partition] < idle_s:
                return
            self._runs[partition].restart(offset)
            self._gone.pop(partition, None)
            self._moved.add(partition)

    # ── fetching ──

    def _run(self) -> None:
        fetch: Fetch | None = None
        paused: set[int] = set()
        asked_s = time.monotonic()
        while not self._is_closed.is_set():
            try:
                if fetch is None:
                    fetch = Fetch(self._url, FETCH_WAIT_MS, FETCH_BYTES, BOOTSTRAP_TIMEOUT_MS)
                    paused = set()
                    with self._grown:
                        self._moved.clear()
                        fetch.assign({number: run.end for number, run in enumerate(self._runs)})
                self._adjust_fetch(fetch, paused)
                found = fetch.poll(FETCH_WAIT_MS)
                if fetch.may_be_another_topic or time.monotonic() - asked_s >= IDENTITY_EVERY_S:
                    self._lookup.check_identity()
                    asked_s = time.monotonic()
                    fetch.may_be_another_topic = False
                self._take(found)
                self.trouble = None
            except OffsetGone as gone:
                self._report_gap(gone)
            except FetchDamaged as damage:
                self._give_up(damage.partition, damage.error)
            except (LogMismatch, LogCorrupt) as error:
                self._fail(error)
                break
            except EngineClosed:
                break
            except Exception as error:
                trouble = error if isinstance(error, LastseenError) else log_error(self._url, "cannot be read", error)
                if self.trouble is None:
                    _logger.warning("%s", trouble)
                self.trouble = trouble
                self._drop(fetch)
                fetch = None
                self._is_closed.wait(RETRY_S)
        self._drop(fetch)

    def _drop(self, fetch: Fetch | None) -> None:
        if fetch is not None:
            try:
                fetch.close()
            except errors.KafkaError as error:
                _logger.debug("a consumer did not close: %s", error)

    def _adjust_fetch(self, fetch: Fetch, paused: set[int]) -> None:
        """Follow where runs were moved, and fetch no further ahead than is allowed."""
        with self._grown:
            moved, self._moved = self._moved, set()
            for partition in moved:
                fetch.seek(partition, self._runs[partition].end)
            sizes = [run.size for run in self._runs]
            stopped = set(self._gone)
        full = {number for number, size in enumerate(sizes) if size >= self._max_ahead_bytes or number in stopped}
        hungry = {number for number in paused if sizes[number] * 2 < self._max_ahead_bytes and number not in stopped}
        if full - paused:
            fetch.pause(sorted(full - paused))
        if hungry:
            fetch.resume(sorted(hungry))
        paused |= full
        paused -= hungry

    def _take(self, found: dict[int, list[Chunk]]) -> None:
        if not found:
            return
        with self._grown:
            for partition, chunks in found.items():
                if partition not in self._moved:
                    self._add(partition, chunks)
            self._grown.notify_all()

    def _add(self, partition: int, chunks: Sequence[Chunk]) -> None:
        run = self._runs[partition]
        for chunk in chunks:
            if chunk.end <= run.end:
                continue
            if chunk.start > run.end:
                self._gone[partition] = LogMismatch(
                    f"log {self._url}, partition {partition}: after offset {run.end - 1} comes {chunk.start}. The"
                    " topic was compacted, and a log has no gaps: use a topic with cleanup.policy=delete, made with:"
                    " lastseen topics create"
                )
                return
            run.add(chunk)
            self._ends[partition] = max(self._ends[partition], chunk.end)

    def _report_gap(self, gone: OffsetGone) -> None:
        """Find out why there is no record at an offset, and report it to the reader."""
        try:
            self._lookup.check_identity()
            mismatch = gone_error(self._url, self._lookup, gone.partition, self._runs[gone.partition].end)
            ends = self._lookup.end_offsets()
        except LogMismatch as other:
            self._fail(other)
            return
        except LogError:
            return  # it is asked again
        with self._grown:
            # So that a waiting reader reads on, and gets the error.
            self._ends[gone.partition] = max(self._ends[gone.partition], ends[gone.partition])
        self._give_up(gone.partition, mismatch)

    def _give_up(self, partition: int, reason: LogError) -> None:
        """Fetch no more of a partition, whose reader gets the reason."""
        with self._grown:
            if partition not in self._moved:
                self._gone[partition] = reason
            self._grown.notify_all()

    def _fail(self, error: LogError) -> None:
        with self._grown:
            self.failure = error
            self._grown.notify_all()

    def close(self) -> None:
        """Stop fetching, and wait until the thread has ended."""
        self._is_closed.set()
        with self._grown:
            self._grown.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()


def gone_error(url: KafkaUrl, lookup: Lookup, partition: int, offset: int) -> LogMismatch:
    """Why a log has no record at `offset`. Raises `LogUnavailable`."""
    first, end = lookup.first_offset(partition), lookup.end_offsets()[partition]
    if 0 <= offset < first:
        return LogMismatch(
            f"log {url}, partition {partition}: the records before offset {first} were deleted, by retention or by an"
            f" operator, and {offset} was requested: start from a snapshot that was taken after offset {first}, and set"
            " retention.ms=-1 on the topic so that no records are deleted"
        )
    return LogMismatch(
        f"log {url}, partition {partition}: it holds offsets {first} to {end - 1}, and {offset} was requested. If the"
        " partition had that offset before, it was truncated or recreated: restore it, or delete the snapshot"
        " if this log is intended"
    )
