"""Comparing two logs by the results of their folds, whatever their partitions are.

Offsets differ between a log and its copy, and so do digests. Everything else must be the same: every live session field
by field, its attributes and messages, the counters, and how each ended session ended. Sessions are compared one by one.
Bodies and endings may be more than memory holds. So each body is a chain of hashes over all that changed it, and the
hashes of endings are added up in `BUCKETS` sums, by key; where two sums differ, the logs are folded once more for the
endings of just that bucket.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from lastseen.engine import events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Ending, Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition
from lastseen.projections.statistics import Statistics

BUCKETS = 4_096
MOST_BUCKETS = 3
"""How many differing buckets are examined: together they cost one more fold of both logs."""
_encode = msgspec.json.Encoder().encode
_COUNTED = ("live", "live_by_status", "created", "applied", "ended", "longest_ms")
_LOG_EVENTS = tuple(events.NAMES[kind] for kind in events.LOG_EVENTS)
EndingLines = defaultdict[str, list[str]]
"""Key → its endings, a line each."""


class Difference(NamedTuple):
    """One difference."""

    what: str
    """`session`, `ending`, `statistic` or `record`."""
    name: str
    source: Any
    copy: Any


class Ledger:
    """The effects of a log's records that its live sessions do not show: counters, bodies and endings."""

    def __init__(self, partitions: int) -> None:
        self.statistics = Statistics(partitions)
        self.bodies: list[dict[str, bytes]] = [{} for _ in range(partitions)]
        """For each partition, by session id, the hash of a live session's body, if it has one."""
        self.endings = [0] * BUCKETS

    def take(self, partition: Partition, outcome: Outcome) -> None:
        """Add the next outcome of a partition, before the partition folds another."""
        _, event, verdict, at_ms, session, ended, ending = outcome
        self.statistics.follow(partition, (outcome,))
        bodies = self.bodies[partition.number]
        if ended is not None and ending is not None:
            line = ending_line(ended, ending, bodies.pop(ended.session_id, b""))
            bucket = bucket_of(ended.key)
            self.endings[bucket] += int.from_bytes(blake2b(line.encode(), digest_size=16).digest(), "big")
        if session is None or verdict is not Verdict.APPLIED:
            return
        if type(event) is events.Touched:
            patch, message = event.data.attributes, event.data.message
            if patch is not None or message is not None:
                step = patch, message, None if message is None else (event.id, at_ms), session.policy.max_messages
                before = bodies.get(session.session_id, b"")
                bodies[session.session_id] = blake2b(before + _encode(step), digest_size=16).digest()
        elif type(event) is events.Created and event.data.attributes:
            bodies[session.session_id] = blake2b(_encode(event.data.attributes), digest_size=16).digest()


def bucket_of(key: str) -> int:
    """Which sum the endings of a key are in."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % BUCKETS


def ending_line(ended: Session, ending: Ending, body: bytes) -> str:
    """A session's life and end, in a line that no other session shares."""
    return (
        f"{ended.session_id} created {iso_from_ms(ended.created_at_ms)}, last active"
        f" {iso_from_ms(ended.last_active_at_ms)}, version {ended.version}, ended {iso_from_ms(ending.at_ms)}:"
        f" {ending.reason}; carried {body.hex() or 'nothing'}; {ended.key}"
    )


def session_fields(session: Session | None, body: bytes) -> dict[str, Any] | None:
    """Everything about a live session that does not depend on its position in the log."""
    if session is None:
        return None
    return {
        "key": session.key,
        "session_id": session.session_id,
        "policy": session.policy,
        "created_at_ms": session.created_at_ms,
        "last_active_at_ms": session.last_active_at_ms,
        "version": session.version,
        "suspended_at_ms": session.suspended_at_ms,
        "suspended_ms": session.suspended_ms,
        "leases": session.leases,
        "owner": session.owner,
        "attributes and messages": body.hex() or None,
    }


class Folded:
    """The state that a log's records fold to."""

    def __init__(self, partitions: Sequence[Partition], ledger: Ledger) -> None:
        self.partitions = partitions
        self._ledger = ledger
        self._strays: dict[str, list[tuple[Session, bytes]]] = defaultdict(list)
        """The sessions in another partition than their key's. There are none if all producers use the same
        partitioner."""
        for partition in partitions if len(partitions) > 1 else ():
            for session in partition.by_id.values():
                if partition_of(session.key, len(partitions)) != partition.number:
                    self._strays[session.key].append((session, self._body(partition, session)))

    def _body(self, partition: Partition, session: Session) -> bytes:
        return self._ledger.bodies[partition.number].get(session.session_id, b"")

    def find(self, key: str) -> list[tuple[Session, bytes]]:
        """The sessions under a key, and the hashes of their bodies: more than one if it is in two partitions."""
        partition = self.partitions[partition_of(key, len(self.partitions))]
        session = partition.find(key)
        found = [] if session is None else [(session, self._body(partition, session))]
        return found + self._strays.get(key, [])

    def live_keys(self) -> Iterator[str]:
        """Every key with a live session, once."""
        for partition in self.partitions:
            for session in partition.by_id.values():
                if partition.number == partition_of(session.key, len(self.partitions)):
                    yield session.key
        yield from (key for key in self._strays if len(self.find(key)) == len(self._strays[key]))

    def statistics(self) -> dict[str, Any]:
        """The counters, without those that differ in a copy: void records and the marks of imports."""
        report = self._ledger.statistics.report(self.partitions)
        for mark in _LOG_EVENTS:
            report["applied"].pop(mark, None)
        return {name: report[name] for name in _COUNTED}


def session_differences(source: Folded, copy: Folded) -> Iterator[Difference]:
    """The differences between the live sessions."""
    for key in source.live_keys():
        wanted = [session_fields(*each) for each in source.find(key)]
        found = [session_fields(*each) for each in copy.find(key)]
        if wanted != found:
            yield Difference("session", key, *_unlike(wanted, found))
    for key in copy.live_keys():
        if not source.find(key):
            yield Difference("session", key, None, "live")


def _unlike(wanted: list[Any], found: list[Any]) -> tuple[Any, Any]:
    """The differing fields of two sessions; where there is not one of each, how many there are."""
    if len(wanted) != 1 or len(found) != 1:
        return f"{len(wanted)} live", f"{len(found)} live"
    one, other = wanted[0], found[0]
    fields = [name for name in one if one[name] != other[name]]
    return {name: one[name] for name in fields}, {name: other[name] for name in fields}


def statistic_differences(source: Folded, copy: Folded, replacements: int) -> Iterator[Difference]:
    """The differences between the counters; the copy has `replacements` expiries that the source does not have."""
    wanted, found = source.statistics(), copy.statistics()
    if replacements:
        wanted["applied"]["expired"] = wanted["applied"].get("expired", 0) + replacements
    for name in wanted:
        if wanted[name] != found[name]:
            yield Difference("statistic", name, wanted[name], found[name])


def ending_differences(
    one: Ledger, other: Ledger, read: Callable[[set[int]], tuple[EndingLines, EndingLines]]
) -> Iterator[Difference]:
    """The differences between the endings; `read` returns the endings in some buckets of both logs."""
    unlike = [bucket for bucket in range(BUCKETS) if one.endings[bucket] != other.endings[bucket]]
    if not unlike:
        return
    wanted, found = read(set(unlike[:MOST_BUCKETS]))
    for key in sorted(wanted.keys() | found.keys()):
        if sorted(wanted[key]) != sorted(found[key]):
            missing, surplus = set(wanted[key]) - set(found[key]), set(found[key]) - set(wanted[key])
            yield Difference("ending", key, min(missing, default=None), min(surplus, default=None))
    if len(unlike) > MOST_BUCKETS:
        yield Difference("ending", f"and keys of {len(unlike) - MOST_BUCKETS} more buckets", None, None)


def ending_lines(outcomes: Iterable[tuple[Ledger, Partition, Outcome]], buckets: set[int]) -> EndingLines:
    """The endings in some buckets."""
    lines: EndingLines = defaultdict(list)
    for ledger, partition, outcome in outcomes:
        ended, ending = outcome.ended, outcome.ending
        if ended is not None and ending is not None and bucket_of(ended.key) in buckets:
            body = ledger.bodies[partition.number].get(ended.session_id, b"")
            lines[ended.key].append(ending_line(ended, ending, body))
        ledger.take(partition, outcome)
    return lines
