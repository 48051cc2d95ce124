"""Who writes, counted: records and voids by the `source` that each record names, in bounded memory.

A source is what a producer says of itself, and a hostile one may make up a new source for each record. So at most
`MAX_NAMED` sources have counters of their own; the rest share `OTHER`. A source gets a counter when it is first seen,
while there are free ones. Later, at every `REVIEW_RECORDS` records, a source that wrote much takes the counter of the
one that wrote least. A counter starts at 0 when a source gets it and never decreases, so that its rate is right; and
each record counts once, for its source or for `OTHER`.

Not part of the state: counts begin with the process, and start from 0 after a restart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from lastseen.engine.events import MAX_RECORD_BYTES

MAX_NAMED = 50
"""Sources with counters of their own."""
MAX_WAITING = 1_024
"""Sources without, of which it is known how much they wrote since the last review."""
REVIEW_RECORDS = 16_384
NOTABLE_RECORDS = REVIEW_RECORDS // 64
"""A source that wrote less since the last review takes no counter from another."""
OTHER = "other"
"""Sources that have no counter of their own. A source of this very name counts here, too."""
UNKNOWN = "unknown"
"""Records that name no source, such as what is no JSON. A source of this very name counts here, too."""
_SHARED = frozenset((OTHER, UNKNOWN))

_is_source = re.compile("[^\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]{1,256}").fullmatch


class _Named(msgspec.Struct):
    source: str


_read_source = msgspec.json.Decoder(_Named).decode


def source_of(value: bytes | None) -> str:
    """The source that a record names which holds no valid event, if it is JSON that names one; else `UNKNOWN`."""
    if value is None or len(value) > MAX_RECORD_BYTES:
        return UNKNOWN
    try:
        source = _read_source(value).source
    except (msgspec.DecodeError, ValueError, RecursionError):
        return UNKNOWN
    return source if _is_source(source) else UNKNOWN


class SourceCounts:
    """The counters of one source."""

    __slots__ = ("records", "reviewed", "void")

    def __init__(self) -> None:
        self.records = 0
        self.void: Counter[str] = Counter()
        """By verdict."""
        self.reviewed = 0
        """What `records` was at the last review."""


class SourceReport(NamedTuple):
    """What is known of one source."""

    source: str
    records: int
    void: Mapping[str, int]
    """By verdict."""


class Sources:
    """Counters by source. Not thread-safe: the caller holds the view's lock."""

    def __init__(self) -> None:
        self.counts = {OTHER: SourceCounts(), UNKNOWN: SourceCounts()}
        """By source. Read by `Statistics`, which saves a call a record; written here only."""
        self._waiting: dict[str, int] = {}
        self._until_review = REVIEW_RECORDS

    def counts_of(self, source: str) -> SourceCounts:
        """Where a record of this source is to be counted."""
        found = self.counts.get(source)
        if found is not None:
            return found
        if len(self.counts) < len(_SHARED) + MAX_NAMED:
            return self.counts.setdefault(source, SourceCounts())
        if source in self._waiting or len(self._waiting) < MAX_WAITING:
            self._waiting[source] = self._waiting.get(source, 0) + 1
        return self.counts[OTHER]

    def end_batch(self, records: int) -> None:
        """So many records were counted since the last call."""
        self._until_review -= records
        if self._until_review <= 0:
            self._review()

    def _review(self) -> None:
        """Give the counters of those that wrote least to those without one that wrote more."""
        notable = [(count, source) for source, count in self._waiting.items() if count >= NOTABLE_RECORDS]
        least = sorted(
            (counts.records - counts.reviewed, source)
            for source, counts in self.counts.items()
            if source not in _SHARED
        )
        for (count, source), (recent, named) in zip(sorted(notable, reverse=True), least, strict=False):
            if count > recent:
                del self.counts[named]
                self.counts[source] = SourceCounts()
        for counts in self.counts.values():
            counts.reviewed = counts.records
        self._waiting.clear()
        self._until_review = REVIEW_RECORDS

    def report(self) -> list[SourceReport]:
        """All counters, those of the sources that wrote most first, then `OTHER` and `UNKNOWN`."""
        busiest_first = sorted(self.counts.items(), key=lambda item: (item[0] in _SHARED, -item[1].records, item[0]))
        return [SourceReport(source, counts.records, dict(counts.void)) for source, counts in busiest_first]
