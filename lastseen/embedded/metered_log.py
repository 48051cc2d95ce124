"""A log that counts and times what this engine appends to it. All else goes straight to the log itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic, perf_counter_ns
from typing import Any

from lastseen.embedded.histogram import Durations
from lastseen.engine.errors import LastseenError
from lastseen.engine.log.port import Log, Message, Position

STANDS_AFTER_S, STANDS_FOR_S = 2.0, 10.0
"""Appends have failed for so long before that counts, and the last one so recently: then one may be tried again."""


class MeteredLog:
    """Stands before a log (`engine.log.port.Log`). An append costs a quarter of a microsecond more for it."""

    def __init__(self, log: Log, check_writable: Callable[[], None] = lambda: None) -> None:
        """`check_writable` raises where this engine must not append."""
        self.log = log
        self._check_writable = check_writable
        self.durations = Durations()
        """Of appends with a waiting caller, however many events they held."""
        self.appended = 0
        """Events that the log has acknowledged."""
        self.failures: Counter[str] = Counter()
        """Appends that failed, by the name of the error."""
        self._failing: tuple[float, float, LastseenError] | None = None
        """Since no append succeeded: when the first and the last one failed, and how."""
        self._append = log.append
        self.read, self.wait, self.end_offsets, self.close = log.read, log.wait, log.end_offsets, log.close

    @property
    def identity(self) -> str:
        """Names this very log."""
        return self.log.identity

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return self.log.partitions

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Append all messages, and count them (`port.Log`)."""
        self._check_writable()
        began_ns = perf_counter_ns()
        try:
            positions = self._append(messages)
        except LastseenError as error:
            self._note_failure(error)
            raise
        self._failing = None
        elapsed_ns = perf_counter_ns() - began_ns
        durations = self.durations
        # What `add` does, without the call: this is on the way of every touch.
        durations.counts[elapsed_ns.bit_length()] += 1
        durations.total_ns += elapsed_ns
        self.appended += len(positions)
        return positions

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        """Append all messages without waiting (`port.Log`); they are counted when the log has them."""
        self._check_writable()
        future = self.log.append_soon(messages)
        future.add_done_callback(self._count)
        return future

    def _count(self, future: Future[list[Position]]) -> None:
        error = future.exception()
        if error is None:
            self._failing = None
            self.appended += len(future.result())
        else:
            self._note_failure(error)

    def _note_failure(self, error: BaseException) -> None:
        self.failures[type(error).__name__] += 1
        if isinstance(error, LastseenError):
            now_s = monotonic()
            self._failing = (now_s if self._failing is None else self._failing[0], now_s, error)

    def standing_failure(self) -> LastseenError | None:
        """The error of appends that have failed for a while without any that succeeded; `None` if they do not."""
        failing = self._failing
        if failing is None or failing[1] - failing[0] < STANDS_AFTER_S or monotonic() - failing[1] > STANDS_FOR_S:
            return None
        return failing[2]

    def __getattr__(self, name: str) -> Any:
        """What only some kinds of log have."""
        return getattr(self.log, name)
