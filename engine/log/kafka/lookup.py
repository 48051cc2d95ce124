"""Questions that the broker answers at once: where partitions begin and end, whether the topic is still the same, and
which record is at an offset that no reader was about to read.

On clients of their own, so that no answer waits behind a fetch that waits for records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from kafka import KafkaAdminClient, errors

from lastseen.engine.errors import EngineClosed, LogError, LogMismatch, LogUnavailable
from lastseen.engine.log.kafka.client import Unreachable, log_error, open_admin
from lastseen.engine.log.kafka.fetch import Fetch, FetchDamaged, OffsetGone
from lastseen.engine.log.kafka.record_runs import Chunk, RecordRun, records_of
from lastseen.engine.log.kafka.topic import identity_of
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.port import Record

ANSWER_TIMEOUT_S = 10.0
"""After that the broker counts as unreachable."""
TRY_TIMEOUT_MS = 1_000
PAGE_BYTES = 256 * 1024
PAGE_WAIT_MS = 10
RETRY_S = 0.1
_T = TypeVar("_T")


class Lookup:
    """Asks the broker. Safe to call from many threads; one question at a time."""

    def __init__(self, url: KafkaUrl, identity: str, partitions: int, admin: KafkaAdminClient) -> None:
        self._url = url
        self._identity, self._partitions = identity, partitions
        self._admin: KafkaAdminClient | None = admin
        self._fetch: Fetch | None = None
        self._lock = threading.Lock()
        self._page = (-1, RecordRun())
        """The partition that was read last, and the records fetched beyond those requested."""
        self._is_closed = False

    def end_offsets(self) -> list[int]:
        """The offset of the next record in each partition. Raises `LogUnavailable`, `LogMismatch`, `EngineClosed`."""
        with self._lock:
            return self._ask(lambda fetch: fetch.offsets(range(self._partitions), TRY_TIMEOUT_MS, first=False))

    def first_offset(self, partition: int) -> int:
        """The first offset that a partition still has. Raises like `end_offsets`."""
        with self._lock:
            return self._ask(lambda fetch: fetch.offsets([partition], TRY_TIMEOUT_MS, first=True))[0]

    def check_identity(self) -> None:
        """Raise `LogMismatch` if the topic is gone, was recreated, or has other partitions."""
        with self._lock:
            self._check_identity()

    def _check_identity(self) -> None:
        self._check_open()
        if self._admin is None:
            self._admin = open_admin(self._url)
        try:
            found = identity_of(self._admin, self._url)
        except LogError:
            # It may know the brokers from long ago.
            admin, self._admin = self._admin, None
            admin.close()
            raise
        if found is None:
            raise LogMismatch(
                f"log {self._url}: the topic has been deleted while it was open. If it was moved, open it at its new"
                " address; the snapshot belongs to the deleted topic"
            )
        if found[0] != self._identity:
            raise LogMismatch(
                f"log {self._url}: the topic was deleted and recreated: it has the id {found[0]}, and was opened with"
                f" {self._identity}. If the new topic is intended, delete the snapshot and the history, and open"
                " it again"
            )
        if found[1] != self._partitions:
            raise LogMismatch(
                f"log {self._url}: the topic has {found[1]} partitions now, and had {self._partitions}: keys would map"
                " to other partitions. Copy the log into a new topic with as many partitions as you need"
            )

    def page(self, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from an `offset` on, at which there is one. Raises the same, and `LogCorrupt`."""
        with self._lock:
            held, run = self._page
            chunks = run.find(offset, limit) if held == partition else ()
            if not chunks:
                run = RecordRun(offset)
                self._page = partition, run
                chunks = self._ask(lambda fetch: self._fetch_page(fetch, partition, offset, limit, run))
        return records_of(chunks, offset, limit)

    def page_end(self, partition: int) -> int | None:
        """Where the last page that was fetched ends, if it was of this partition."""
        held, run = self._page
        return run.end if held == partition else None

    def _fetch_page(self, fetch: Fetch, partition: int, offset: int, limit: int, run: RecordRun) -> Sequence[Chunk]:
        fetch.assign({partition: offset})
        try:
            for chunk in fetch.poll(TRY_TIMEOUT_MS).get(partition, ()):
                if chunk.start > run.end:
                    break
                run.add(chunk)
        finally:
            fetch.pause([partition])
        chunks = run.find(offset, limit)
        if not chunks:
            raise errors.KafkaTimeoutError("no record arrived in time")
        return chunks

    def _ask(self, question: Callable[[Fetch], _T]) -> _T:
        """An answer, from another client if this one has none: it may know the brokers from long ago."""
        give_up = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            self._check_open()
            try:
                if self._fetch is None:
                    self._fetch = Fetch(self._url, PAGE_WAIT_MS, PAGE_BYTES, TRY_TIMEOUT_MS)
                return question(self._fetch)
            except OffsetGone:
                raise
            except FetchDamaged as damage:
                raise damage.error from None
            except (errors.KafkaError, Unreachable, KeyError, AttributeError) as error:
                self._drop_fetch()
                trouble = log_error(self._url, "cannot be read", error)
                if time.monotonic() > give_up or not isinstance(trouble, Unreachable):
                    raise LogUnavailable(*trouble.args) from None
            self._check_identity_soon(give_up)
            time.sleep(RETRY_S)

    def _check_identity_soon(self, give_up: float) -> None:
        try:
            self._check_identity()
        except LogUnavailable:
            if time.monotonic() > give_up:
                raise

    def _drop_fetch(self) -> None:
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed(f"log {self._url} is closed: open it again")

    def close(self) -> None:
        """Release the clients."""
        self._is_closed = True
        with self._lock:
            self._drop_fetch()
            if self._admin is not None:
                self._admin.close()
                self._admin = None
