"""Where a listener is in the log: for each partition the first fact that it has not had. Also the ids of events.

An `EventSource` sends the id of the last event when it connects again, to this instance or another, before or after a
restart; so an id names a place in every partition, and the log that they are places in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from lastseen.api.problems import Problem
from lastseen.projections.facts import FactId

BEGINNING = "0"
"""The id of the beginning of the log."""
_form = re.compile(r"([0-9a-f]{8}):([0-9+,]+)")
_part = re.compile(r"([0-9]{1,18})(?:\+([0-9]))?")


def log_fingerprint(identity: str) -> str:
    """A log's identity, in short."""
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


class StreamCursor:
    """One listener's places."""

    def __init__(self, fingerprint: str, offsets: Sequence[int]) -> None:
        self._fingerprint = fingerprint
        self._next = [(offset, 0) for offset in offsets]
        self._texts = [str(offset) for offset in offsets]

    @classmethod
    def of(cls, fingerprint: str, partitions: int, event_id: str) -> StreamCursor:
        """The places after the event with this id. Raises `Problem`."""
        if event_id == BEGINNING:
            return cls(fingerprint, [0] * partitions)
        match = _form.fullmatch(event_id)
        parts = [] if match is None else [_part.fullmatch(part) for part in match[2].split(",")]
        if match is None or None in parts:
            raise Problem(422, "invalid-parameter", "Last-Event-ID: give the id of an event of this stream, or 0")
        if match[1] != fingerprint or len(parts) != partitions:
            raise Problem(
                409, "another-log",
                "Last-Event-ID is of another log than this service's: read the state again, and connect without it",
            )  # fmt: skip
        cursor = cls(fingerprint, [0] * partitions)
        for number, part in enumerate(parts):
            assert part is not None
            cursor._set(number, (int(part[1]), int(part[2] or 0)))
        return cursor

    @property
    def id(self) -> str:
        """The id of the last event."""
        return f"{self._fingerprint}:{','.join(self._texts)}"

    def offset(self, partition: int) -> int:
        """The first offset whose facts were not all sent."""
        return self._next[partition][0]

    def advance_past(self, fact_id: FactId) -> bool:
        """Move behind a fact; whether it is news."""
        partition, offset, k = fact_id
        if (offset, k) < self._next[partition]:
            return False
        self._set(partition, (offset, k + 1))
        return True

    def move_to(self, partition: int, offset: int) -> None:
        """Move behind all facts of the records before an offset."""
        if (offset, 0) > self._next[partition]:
            self._set(partition, (offset, 0))

    def _set(self, partition: int, position: tuple[int, int]) -> None:
        self._next[partition] = position
        self._texts[partition] = f"{position[0]}+{position[1]}" if position[1] else str(position[0])
