"""Many callers' appends on their way into a topic: joined by partition into whole batches, bounded, answered in time.

Theory of operation. A partition's batches follow one another: kafka-python sends the next when the broker has
acknowledged the last. So a caller that finds nothing in flight hands its messages over at once; what arrives meanwhile
waits, and goes together when the answer is in. Where full batches wait, a few are handed over ahead, so that the
producer never has to wait for us. The thread that brings work to a partition, a caller's or the one that has
the answer to an earlier batch, serves it, one at a time.

There is no thread of our own on that way. One makes the producer, at first and whenever the last one was spoilt, and
answers what grows too old meanwhile; another calls back those who did not wait.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from lastseen.engine.errors import EngineClosed, LastseenError, LogError, LogMismatch, LogUnavailable, OutcomeUnknown
from lastseen.engine.log.kafka.batching import Append, Lane, Piece, cut, record_positions
from lastseen.engine.log.kafka.client import Unreachable, log_error
from lastseen.engine.log.kafka.producer import Delivered, Failed, Outcome, Producer
from lastseen.engine.log.kafka.records import MAX_BATCH_BYTES
from lastseen.engine.log.kafka.secrets import without_secrets
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.port import Message, Position

GRACE_S = 5.0
"""How much longer than its time an append waits for the producer's word on it."""
RETRY_S = 0.2
LOOK_EVERY_S = 1.0
"""How often appends without a waiting caller are checked for their age."""
_logger = logging.getLogger("lastseen")
Written = Callable[[int, Sequence[Message], Delivered], None]
"""Called for each batch that the broker has written, before its callers get their answers."""


class Writer:
    """Takes appends in, and answers each within its time. Safe to call from many threads."""

    def __init__(
        self,
        url: KafkaUrl,
        partitions: int,
        connect: Callable[[], Producer],
        on_written: Written,
        max_waiting_bytes: int,
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self._url = url
        self._connect = connect
        self._on_written = on_written
        self._max_waiting_bytes = max_waiting_bytes
        self._max_batch_bytes = max_batch_bytes
        self._timeout_s = url.delivery_timeout_ms / 1000
        self._lanes = [Lane(number, max_batch_bytes) for number in range(partitions)]
        self._gate = threading.Condition()
        self._waiting_bytes = 0
        self._unanswered = 0
        """Appends accepted and not yet settled."""
        self._producer: Producer | None = None
        self._connecting: threading.Thread | None = None
        self._stop_connecting = threading.Event()
        self._unusable: list[Producer] = []
        self._answers: queue.SimpleQueue[Append | None] = queue.SimpleQueue()
        self._resolver: threading.Thread | None = None
        self._is_closed = False
        self.batches = 0
        """Batches written by this process."""
        self.producers = 0
        """Producers made: one, and one more each time that one was spoilt."""

    # ── taking in ──

    def append(self, messages: Sequence[Message], sizes: Sequence[int]) -> list[Position]:
        """Append and wait. `sizes` are the bytes that the messages take. Raises `LogError`, `EngineClosed`."""
        append = Append(messages, sum(sizes), None)
        self._submit(append, sizes, may_wait=True)
        if not append.wait(append.created_s + self._timeout_s - time.monotonic()):
            self._fail_late()
            append.wait(GRACE_S)
        return append.result()

    def append_soon(self, messages: Sequence[Message], sizes: Sequence[int]) -> Future[list[Position]]:
        """Append without waiting. Raises `LogUnavailable` when too much is in flight, `EngineClosed`."""
        future: Future[list[Position]] = Future()
        # What is on its way to the broker cannot be called back.
        future.set_running_or_notify_cancel()
        self._submit(Append(messages, sum(sizes), future), sizes, may_wait=False)
        return future

    def _submit(self, append: Append, sizes: Sequence[int], *, may_wait: bool) -> None:
        pieces = cut(append, sizes, self._max_batch_bytes)
        append.unfinished = len(pieces)
        with self._gate:
            self._check_open()
            while self._waiting_bytes and self._waiting_bytes + append.size > self._max_waiting_bytes:
                left_s = append.created_s + self._timeout_s - time.monotonic()
                if not may_wait or left_s <= 0:
                    raise LogUnavailable(
                        f"log {self._url}: {self._waiting_bytes} bytes wait to be acknowledged, and the limit is"
                        f" {self._max_waiting_bytes}; wait for earlier appends, or write more slowly"
                    )
                self._gate.wait(left_s)
                self._check_open()
            self._waiting_bytes += append.size
            self._unanswered += 1
            for partition, piece in pieces:
                self._lanes[partition].put(piece)
            if self._producer is None and self._connecting is None:
                self._start_connecting()
            if append.future is not None and self._resolver is None:
                self._resolver = threading.Thread(
                    target=self._resolve_futures, name="lastseen-kafka-futures", daemon=True
                )
                self._resolver.start()
        for partition in {partition for partition, _ in pieces}:
            self._serve(self._lanes[partition])

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed(f"log {self._url} is closed: open it again")

    # ── handing over ──

    def _serve(self, lane: Lane) -> None:
        """Hand over what is ready of a partition, unless another thread does so, which then sees it too."""
        while True:
            late: list[Append] = []
            with self._gate:
                producer = self._producer
                if lane.is_sending or producer is None or not lane.is_ready():
                    return
                self._take_late(lane, late)
                pieces = lane.take_batch() if lane.pieces else []
                lane.is_sending = True
                lane.in_flight += bool(pieces)
            try:
                self._answer(late)
                if pieces:
                    self._send_batch(producer, lane, pieces)
            finally:
                with self._gate:
                    lane.is_sending = False

    def _take_late(self, lane: Lane, finished: list[Append], trouble: LogError | None = None) -> None:
        """Give up on what could not be handed over in its time; on all, if waiting cannot help. With the gate held."""
        now_s = time.monotonic()
        is_permanent = trouble is not None and not isinstance(trouble, Unreachable)
        says = (
            "the broker did not acknowledge earlier appends in time; try again" if trouble is None else trouble.args[0]
        )
        while lane.pieces and (is_permanent or now_s >= lane.pieces[0].append.created_s + self._timeout_s):
            error = trouble if is_permanent else LogUnavailable(f"log {self._url}: {says}")
            self._finish(lane.take(), error, finished)

    def _fail_late(self) -> None:
        """Answer appends that wait behind others, and whose time has run out."""
        finished: list[Append] = []
        with self._gate:
            for lane in self._lanes:
                self._take_late(lane, finished)
        self._answer(finished)

    def _send_batch(self, producer: Producer, lane: Lane, pieces: list[Piece]) -> None:
        messages = pieces[0].messages
        if len(pieces) > 1:
            messages = [message for piece in pieces for message in piece.messages]

        is_settled = False

        def on_outcome(outcome: Outcome) -> None:
            nonlocal is_settled
            if not is_settled:
                is_settled = True
                self._settle(producer, lane, pieces, messages, outcome)

        try:
            # The oldest comes first: by its time the whole batch is judged.
            producer.send_batch(lane.number, messages, pieces[0].append.created_s, on_outcome)
        except Exception as error:
            on_outcome(Failed(error, may_be_written=False, is_unusable=True))
        except BaseException as error:
            interrupted = LogUnavailable(f"the append was interrupted: {error!r}")
            on_outcome(Failed(interrupted, may_be_written=True, is_unusable=True))
            raise

    # ── answering ──

    def _settle(
        self, producer: Producer, lane: Lane, pieces: list[Piece], messages: Sequence[Message], outcome: Outcome
    ) -> None:
        """Take the outcome of a batch. Mostly on the producer's thread."""
        finished: list[Append] = []
        error: LastseenError | None = None
        if isinstance(outcome, Delivered):
            try:
                self._on_written(lane.number, messages, outcome)
            except LogMismatch as mismatch:
                error = mismatch
        else:
            error = self._error_of(outcome)
        start = 0
        for piece in pieces:
            end = start + len(piece.messages)
            if error is None and isinstance(outcome, Delivered):
                record_positions(piece, lane.number, outcome.offsets[start:end])
            start = end
        with self._gate:
            lane.in_flight -= 1
            self.batches += error is None
            for piece in pieces:
                self._finish(piece, error, finished)
            if isinstance(outcome, Failed) and outcome.is_unusable and producer is self._producer:
                self._unusable.append(producer)
                self._producer = None
                if self._connecting is None:
                    self._start_connecting()
        self._answer(finished)
        self._serve(lane)

    def _error_of(self, failed: Failed) -> LastseenError:
        if failed.may_be_written:
            return OutcomeUnknown(
                f"log {self._url}: the broker did not acknowledge an append, and may have written it"
                f" ({without_secrets(str(failed.error))[:300]}): read before you try again"
            )
        error = log_error(self._url, "could not take an append", failed.error)
        return LogUnavailable(*error.args) if isinstance(error, Unreachable) else error

    def _finish(self, piece: Piece, error: LastseenError | None, finished: list[Append]) -> None:
        """One piece of an append less is on its way. With the gate held."""
        append = piece.append
        append.unfinished -= 1
        if error is None:
            append.written += 1
        elif append.error is None or isinstance(error, OutcomeUnknown):
            # One for each caller: they raise it in threads of their own.
            append.error = error.again()
        if not append.unfinished:
            self._waiting_bytes -= append.size
            finished.append(append)

    def _answer(self, finished: list[Append]) -> None:
        for append in finished:
            append.finish()
            if append.future is not None:
                self._answers.put(append)
        if finished:
            with self._gate:
                # After the answers, so that `close` finds them all in the queue.
                self._unanswered -= len(finished)
                self._gate.notify_all()

    def _resolve_futures(self) -> None:
        while True:
            try:
                append = self._answers.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                self._fail_late()
                continue
            if append is None:
                return
            append.resolve()

    # ── the producer ──

    def _start_connecting(self) -> None:
        self._connecting = threading.Thread(target=self._make_producer, name="lastseen-kafka-connect", daemon=True)
        self._connecting.start()

    def _make_producer(self) -> None:
        """Discard a spoilt producer, and make a new one, for as long as an append waits for one."""
        while True:
            with self._gate:
                unusable, self._unusable = self._unusable, []
            for old in unusable:
                self._discard(old)
            producer: Producer | None = None
            trouble: LogError | None = None
            try:
                producer = self._connect()
            except LogError as error:
                trouble = error
            except Exception as error:
                trouble = log_error(self._url, "cannot be written", error)
            finished: list[Append] = []
            with self._gate:
                if producer is not None:
                    self.producers += 1
                    self._producer, self._connecting = producer, None
                    break
                for lane in self._lanes:
                    self._take_late(lane, finished, trouble)
                is_wanted = any(lane.pieces for lane in self._lanes)
                if not is_wanted:
                    # The next append starts again.
                    self._connecting = None
            self._answer(finished)
            if not is_wanted:
                return
            self._stop_connecting.wait(RETRY_S)
        for lane in self._lanes:
            self._serve(lane)

    def _discard(self, producer: Producer) -> None:
        try:
            producer.close()
        except Exception as error:  # whatever it is, the next producer must be made
            _logger.warning("log %s: a producer did not close cleanly: %r", self._url, error)

    def close(self) -> None:
        """Finish the requests in flight, within their time, and release the producer. May be called again."""
        with self._gate:
            if self._is_closed:
                return
            self._is_closed = True
            self._gate.notify_all()
            self._gate.wait_for(lambda: not self._unanswered, self._timeout_s + GRACE_S)
            self._stop_connecting.set()
            connecting = self._connecting
        self._answers.put(None)
        if connecting is not None:
            connecting.join()
        with self._gate:
            producers = [each for each in (*self._unusable, self._producer) if each is not None]
            self._unusable, self._producer = [], None
        for producer in producers:
            self._discard(producer)
        if self._resolver is not None and threading.current_thread() is not self._resolver:
            self._resolver.join()
