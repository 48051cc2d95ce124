"""How far what is folded lies behind the log, and how far the log's clock is from this machine's.

Sampled once a second by the engine's background thread, and on each request. Nothing is counted between two samples,
so a touch pays nothing for it; the answers are as exact as the samples are frequent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lastseen.engine.errors import LastseenError
from lastseen.engine.lifecycle import MAX_AHEAD_MS, MAX_BEHIND_MS
from lastseen.engine.log.port import Log
from lastseen.projections.partition import Partition

SKEW_COUNTS_MS = 60_000
"""For how long a record of ours that was void for its clock counts: then a write may be tried again."""
REMEMBERED = 120
"""Looks that are remembered; what is behind for longer is known by the log times alone."""


class Lag(NamedTuple):
    """How far one partition's view is behind the log."""

    partition: int
    records: int
    """Records in the log that are not folded yet."""
    ms: int
    """For how long the first of them has waited, at the most as far as is known; 0 if there is none."""


class LogWatch:
    """Watches the partitions that are present. Safe to call from many threads."""

    def __init__(
        self,
        log: Log,
        present: Callable[[], Sequence[Partition]],
        last_skew: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        """`last_skew` gives the log time of our own last record if it was void for its clock (`Follower`)."""
        # Where the log knows its ends without asking a broker, no broker is asked.
        self._ends: Callable[[], list[int]] = getattr(log, "known_ends", log.end_offsets)
        self._present = present
        self._last_skew = last_skew
        self._skew_seen: tuple[tuple[int, int], int] | None = None
        """The newest of these, and when it was first seen here."""
        self._lock = threading.Lock()
        self._looks: deque[tuple[int, list[int]]] = deque(maxlen=REMEMBERED)
        self._newest: tuple[int, int] | None = None
        """When it was looked at last, and the newest log time then."""
        self.skew_ms: int | None = None
        """The log's clock less this machine's, as far as it is certain; `None` until something was logged."""

    def look(self, now_ms: int) -> list[Lag]:
        """How far each partition is behind at `now_ms`. Raises `LogError` where the log does not answer."""
        with self._lock:
            return self._look(now_ms)

    def void_gap_ms(self, now_ms: int) -> int | None:
        """The log's clock less this machine's, where every record that is sent now is void; `None` where none is known
        to be. It is known from log time that is further ahead than an event may be behind, which is so until the clock
        is right; and from a record of ours that was void, which counts for a minute."""
        with self._lock:
            newest_ms = max((each.log_time_ms for each in self._present() if not each.importing), default=0)
            if newest_ms - now_ms > MAX_BEHIND_MS:
                return newest_ms - now_ms
            last = self._last_skew()
            if last is None:
                self._skew_seen = None
                return None
            if self._skew_seen is None or self._skew_seen[0] is not last:
                self._skew_seen = (last, now_ms)
            seen_ms = self._skew_seen[1]
            gap_ms = last[1] - seen_ms
            is_void = not -MAX_AHEAD_MS <= gap_ms <= MAX_BEHIND_MS  # else the clock was corrected before this look
            return gap_ms if is_void and 0 <= now_ms - seen_ms < SKEW_COUNTS_MS else None

    def sample(self, now_ms: int) -> None:
        """Look, for what later looks will make of it; errors of the log are reported elsewhere."""
        try:
            self.look(now_ms)
        except LastseenError:
            return

    def _look(self, now_ms: int) -> list[Lag]:
        partitions = list(self._present())
        folded = [(each.number, each.checkpoint, each.log_time_ms) for each in partitions]
        ends = self._ends()
        lags = [Lag(number, max(ends[number] - checkpoint, 0), 0) for number, checkpoint, _ in folded]
        waited = {number: self._waiting_since(number, checkpoint, now_ms) for number, checkpoint, _ in folded}
        self._looks.append((now_ms, ends))
        for place, (number, checkpoint, log_time_ms) in enumerate(folded):
            if lags[place].records:
                # It was appended after the last one that is folded, and not after it was first seen here.
                since_ms = max(waited[number], log_time_ms if checkpoint else 0)
                lags[place] = lags[place]._replace(ms=max(now_ms - since_ms, 0))
        # Imported history has times of its own, which say nothing of a clock.
        if not any(lag.records for lag in lags) and not any(each.importing for each in partitions):
            newest_ms = max((log_time_ms for _, _, log_time_ms in folded), default=0)
            self._compare_clocks(now_ms, newest_ms)
        return lags

    def _waiting_since(self, number: int, checkpoint: int, now_ms: int) -> int:
        return next((at_ms for at_ms, ends in self._looks if ends[number] > checkpoint), now_ms)

    def _compare_clocks(self, now_ms: int, newest_ms: int) -> None:
        """The newest record was appended between the last look and this one: its log time says what the log's clock
        said then."""
        last, self._newest = self._newest, (now_ms, newest_ms)
        if newest_ms > now_ms:
            self.skew_ms = newest_ms - now_ms
        elif last is not None and newest_ms > last[1]:
            self.skew_ms = min(newest_ms - last[0], 0)
