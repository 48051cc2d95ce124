"""Clocks. The clock is read once per call, where the call enters; everything inside receives the time.

All times are UTC, in whole milliseconds since 1970-01-01 (`..._at_ms`).
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Protocol

from lastseen.engine.errors import InvalidInput, shown

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
EARLIEST_MS = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MILLISECOND
LATEST_MS = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MILLISECOND


class Clock(Protocol):
    """The clock that an engine uses."""

    def now_ms(self) -> int:
        """The present time in milliseconds since 1970-01-01 UTC."""
        ...

    def sleep_until(self, deadline_ms: int, wake: threading.Event, at_most_ms: int) -> None:
        """Wait until `deadline_ms` by this clock, until `wake` is set, or for `at_most_ms` of real time."""
        ...


PAUSE_S = 0.000_1


class SystemClock:
    """The operating system's wall clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def sleep_until(self, deadline_ms: int, wake: threading.Event, at_most_ms: int) -> None:
        wake.wait(min(max(deadline_ms - self.now_ms(), 0), at_most_ms) / 1000)


class ManualClock:
    """A clock that a test turns by hand. Sleepers wake when it is turned past their time."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._turned = threading.Condition()

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, by_ms: int) -> int:
        """Turn the clock forward by `by_ms`; returns the new time."""
        return self.set(self._now_ms + by_ms)

    def set(self, now_ms: int) -> int:
        """Turn the clock to `now_ms`, backwards too, as a wall clock may."""
        with self._turned:
            self._now_ms = now_ms
            self._turned.notify_all()
        return now_ms

    def sleep_until(self, deadline_ms: int, wake: threading.Event, at_most_ms: int) -> None:
        # Whatever sets `wake` cannot notify our condition, hence the short slices of real time.
        give_up = time.monotonic() + at_most_ms / 1000
        with self._turned:
            while not wake.is_set() and self._now_ms < deadline_ms and time.monotonic() < give_up:
                self._turned.wait(0.01)


def pause() -> None:
    """Give threads that wait for a lock the time to take it: else it is taken again before they have woken up."""
    time.sleep(PAUSE_S)


def iso_from_ms(at_ms: int) -> str:
    """RFC 3339 text of a time in milliseconds, always with milliseconds and `Z`.

    A time that RFC 3339 cannot write, before year 1 or after 9999 (a deadline may be), is given in milliseconds.
    """
    if not EARLIEST_MS <= at_ms <= LATEST_MS:
        return f"{at_ms} ms"
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@lru_cache(maxsize=256)
def _second(at_s: int) -> str:
    return (EPOCH + timedelta(seconds=at_s)).replace(tzinfo=None).isoformat()


def local_text(at_ms: int, tz: tzinfo) -> str:
    """The same time in a zone, with its offset: `2026-01-31T13:00:00.000+01:00`."""
    try:
        return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(tz).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError):
        return iso_from_ms(at_ms)


def ms_from_iso(text: str) -> int:
    """Milliseconds of an RFC 3339 time with an offset; finer fractions are cut off.

    Raises `InvalidInput` where the text is no such time.
    """
    try:
        moment = datetime.fromisoformat(text)
        return (moment - EPOCH) // _MILLISECOND
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(
            f"{shown(text)} is not a time: give RFC 3339 with an offset, such as 2026-01-31T12:00:00Z"
        ) from None
