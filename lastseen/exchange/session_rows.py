"""A row of an export of sessions, and the records that lead to that very session: checked before any is written.

A session begins without limits, its messages get their own times, it is held as it was, and its last activity brings
its limits; then it is suspended, if it was. The times of a row may go back, as log times do when a clock is set back:
the records keep them, and follow each other by the latest time so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError

from lastseen.engine import events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import checked, encode
from lastseen.engine.errors import InvalidInput
from lastseen.engine.lifecycle import MAX_AHEAD_MS
from lastseen.engine.log.port import Record
from lastseen.engine.session import MAX_HOLDERS, Policy
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Partition

SOURCE = "/import"
MAX_PAUSES = 1_000
"""Times that a session was suspended and resumed, in the records of one row."""


class TimedEvent(NamedTuple):
    """A record of a row."""

    at_ms: int
    """Where it stands among the records of all rows: the latest time of its row so far, its own included."""
    value: bytes


class _Message(msgspec.Struct):
    """A message of a session, and its time."""

    at_ms: int
    event_id: str
    value: Any


class _Row(msgspec.Struct):
    """What an import reads of a row."""

    key: str
    session_id: str
    status: str
    created_at_ms: int
    last_active_at_ms: int
    suspended_at_ms: int | None
    suspended_ms: int = msgspec.field(name="parked_ms")
    policy: dict[str, Any]
    holders: dict[str, int]
    attributes: dict[str, Any]
    messages: list[_Message]


class SessionRows:
    """Reads the rows of one file, no two of which may share a key or a session id."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self.keys: dict[str, str] = {}
        """Key → session id of each valid row."""
        self._ids: set[str] = set()

    def events_of(self, fields: Mapping[str, Any]) -> list[TimedEvent]:
        """The records that lead to a row's session. Raises `InvalidInput` where they cannot, with the reason."""
        try:
            row = msgspec.convert(fields, _Row)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"it is not a session: {error}") from None
        self._check(row)
        limits = _policy(row.policy)
        found = list(_in_order(_events(row, limits)))
        _check_result(row, limits, found, self._now_ms)
        self.keys[row.key] = row.session_id
        self._ids.add(row.session_id)
        return found

    def _check(self, row: _Row) -> None:
        if row.key in self.keys:
            raise InvalidInput("another row has the same key")
        if row.session_id in self._ids:
            raise InvalidInput("another row has the same session_id")
        newest_ms = max(row.last_active_at_ms, row.suspended_at_ms or 0)
        if newest_ms > self._now_ms + MAX_AHEAD_MS:
            raise InvalidInput(
                f"its last change is {(newest_ms - self._now_ms) / 1000:,.0f} s in the future by this machine's clock,"
                f" and the log accepts up to {MAX_AHEAD_MS // 1000} s: check the clock, and import again"
            )
        if max([row.created_at_ms, *(each.at_ms for each in row.messages)]) > row.last_active_at_ms:
            raise InvalidInput("its last activity is earlier than its creation or one of its messages")
        if len({each.event_id for each in row.messages}) < len(row.messages):
            raise InvalidInput("two of its messages have the same event_id")
        if len(row.holders) > MAX_HOLDERS:
            raise InvalidInput(f"it has {len(row.holders)} holders, and a session has {MAX_HOLDERS} at most")


def _policy(fields: dict[str, Any]) -> Policy:
    try:
        return Policy(**fields)
    except (ValidationError, TypeError) as error:
        raise InvalidInput(f"its policy is invalid: {error}") from None


def _in_order(found: Iterator[tuple[int, bytes]]) -> Iterator[TimedEvent]:
    latest_ms = None
    for at_ms, value in found:
        latest_ms = at_ms if latest_ms is None else max(latest_ms, at_ms)
        yield TimedEvent(latest_ms, value)


def _events(row: _Row, limits: Policy) -> Iterator[tuple[int, bytes]]:
    """The records of a row with their own times. Raises `InvalidInput`."""
    count = 0

    def event(kind: type[Any], at_ms: int, data: Any, event_id: str | None = None) -> tuple[int, bytes]:
        nonlocal count
        count += 1
        made = checked(
            lambda: kind(
                id=event_id or f"import-{row.session_id}-{count}", source=SOURCE, subject=row.key,
                time=iso_from_ms(at_ms), data=data(),
            )
        )  # fmt: skip
        return at_ms, encode(made)

    def touch(at_ms: int, event_id: str | None = None, **members: Any) -> tuple[int, bytes]:
        return event(events.Touched, at_ms, lambda: events.TouchedData(session_id=row.session_id, **members), event_id)

    def reasoned(kind: type[Any], at_ms: int) -> tuple[int, bytes]:
        return event(kind, at_ms, lambda: events.ReasonedData(session_id=row.session_id))

    yield event(
        events.Created, row.created_at_ms,
        lambda: events.CreatedData(
            # No limit but the one on messages: the times in between must neither end it nor shorten a lease.
            session_id=row.session_id, policy=Policy(max_hold_ms=None, max_messages=limits.max_messages),
            attributes=row.attributes,
        ),
    )  # fmt: skip
    left_ms, at_ms = row.suspended_ms, row.created_at_ms
    for message in [*row.messages, None]:
        next_ms = row.last_active_at_ms if message is None else message.at_ms
        suspended_ms = min(left_ms, max(next_ms - at_ms, 0))
        if suspended_ms:
            # When it was suspended in between is not known, only for how long, and that no message came then.
            yield reasoned(events.Suspended, at_ms)
            yield reasoned(events.Resumed, at_ms + suspended_ms)
            left_ms -= suspended_ms
        if message is not None:
            yield touch(message.at_ms, message.event_id, message=message.value)
        at_ms = max(at_ms, next_ms)
    for starts_ms, ends_ms in _further_pauses(row, left_ms):
        yield reasoned(events.Suspended, starts_ms)
        yield reasoned(events.Resumed, ends_ms)
    for holder, until_ms in sorted(row.holders.items()):
        if until_ms > row.last_active_at_ms:
            data = {"session_id": row.session_id, "holder": holder, "lease_ms": until_ms - row.last_active_at_ms}
            yield event(events.Held, row.last_active_at_ms, lambda data=data: events.HeldData(**data))
    yield touch(row.last_active_at_ms, policy=limits)
    if row.suspended_at_ms is not None:
        yield reasoned(events.Suspended, row.suspended_at_ms)


def _further_pauses(row: _Row, left_ms: int) -> Iterator[tuple[int, int]]:
    """Time spent suspended beyond the time between creation and last activity: a clock was set back meanwhile."""
    span_ms = row.last_active_at_ms - row.created_at_ms
    if left_ms > span_ms * MAX_PAUSES:
        raise InvalidInput(f"it was suspended for {row.suspended_ms} ms, which does not fit between its times")
    while left_ms > 0:
        yield row.created_at_ms, row.created_at_ms + min(left_ms, span_ms)
        left_ms -= span_ms


def _check_result(row: _Row, limits: Policy, found: list[TimedEvent], now_ms: int) -> None:
    """Fold the records, and raise `InvalidInput` unless each applies and the session is that of the row."""
    partition = Partition(0)
    partition.importing = True  # as after the record at offset 0, which opens the import
    for offset, (_, value) in enumerate(found, start=1):
        verdict = partition.fold(Record(0, offset, now_ms, row.key, value)).verdict
        if verdict is not Verdict.APPLIED:
            raise InvalidInput(f"no session can be like this row: the fold calls one of its records {verdict.label}")
    session = partition.find(row.key)
    leases = {holder: until_ms for holder, until_ms in row.holders.items() if until_ms > row.last_active_at_ms}
    wanted = {
        "status": row.status, "created_at_ms": row.created_at_ms, "last_active_at_ms": row.last_active_at_ms,
        "suspended_at_ms": row.suspended_at_ms, "parked_ms": row.suspended_ms, "policy": limits, "holders": leases,
    }  # fmt: skip
    found_of = None if session is None else {
        "status": session.status.value, "created_at_ms": session.created_at_ms,
        "last_active_at_ms": session.last_active_at_ms, "suspended_at_ms": session.suspended_at_ms,
        "parked_ms": session.suspended_ms, "policy": session.policy, "holders": session.leases or {},
    }  # fmt: skip
    if found_of != wanted:
        differing = [name for name, value in wanted.items() if found_of is None or found_of[name] != value]
        raise InvalidInput(f"no session can be like this row: {', '.join(differing)} contradict the rest of the row")
