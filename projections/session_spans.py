"""Sessions from beginning to end: what a history keeps of each, and how those that have ended are found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from lastseen.engine.arguments import check_times
from lastseen.engine.errors import SessionEnd
from lastseen.engine.session import Policy, Status, limit_of
from lastseen.projections.page_cursor import Cursor, Place, decode_cursor, encode_cursor, terms_of

COLUMNS = (
    "key, began_offset, session_id, partition, began_at_ms, began_by, ended_at_ms, ended_offset, ended_by, reason,"
    " owner, last_active_at_ms, deadline_ms, version, policy"
)


class SessionSpan(NamedTuple):
    """One session of a key, from its beginning to its end."""

    key: str
    began_offset: int
    session_id: str
    partition: int
    began_at_ms: int
    began_by: str | None
    """The source of the record that began it."""
    ended_at_ms: int | None
    ended_offset: int | None
    ended_by: str | None
    """The source of the record that ended it; where a limit ended it, of the record that found it past its limit."""
    reason: str | None
    owner: str | None = None
    """Its owner, as of its end; this and what follows is not known of a session that no record has ended."""
    last_active_at_ms: int | None = None
    deadline_ms: int | None = None
    """When it was due, or would have been; `None` if no limit applied."""
    version: int | None = None
    """How many events were applied to it."""
    policy: Policy | None = None

    def lived_within(self, since_ms: int | None, until_ms: int | None) -> bool:
        """Whether it lived at some time from `since_ms` on, and before `until_ms`."""
        if since_ms is not None and self.ended_at_ms is not None and self.ended_at_ms < since_ms:
            return False
        return until_ms is None or self.began_at_ms < until_ms

    @property
    def limit_ms(self) -> int | None:
        """The value of the limit that ended it; `None` if no limit did."""
        return None if self.policy is None else limit_of(self.policy, self.reason)

    def as_dict(self) -> dict[str, Any]:
        """The session as plain JSON values."""
        return {**self._asdict(), "policy": msgspec.to_builtins(self.policy), "limit_ms": self.limit_ms}


class StoredSpan(NamedTuple):
    """A session as its row has it."""

    key: str
    began_offset: int
    session_id: str
    partition: int
    began_at_ms: int
    began_by: str | None
    ended_at_ms: int | None
    ended_offset: int | None
    ended_by: str | None
    reason: str | None
    owner: str | None
    last_active_at_ms: int | None
    deadline_ms: int | None
    version: int | None
    policy: str | None


class SpanPage(NamedTuple):
    """A page of ended sessions; `cursor` fetches the next, and is `None` on the last."""

    spans: list[SessionSpan]
    cursor: str | None


_LIMIT_NAMES = tuple(Policy.__dataclass_fields__)


@lru_cache(maxsize=1_024)
def stored_policy(policy: Policy) -> str:
    """Its limits as a JSON array, in the order of their definition: a fifth of the bytes of an object."""
    return msgspec.json.encode([getattr(policy, name) for name in _LIMIT_NAMES]).decode()


@lru_cache(maxsize=1_024)
def _policy_of(stored: str) -> Policy:
    """The same back; a limit that came later than the row has its default. Raises `ValueError`."""
    limits = msgspec.json.decode(stored, type=list[int | None])
    return Policy(**dict(zip(_LIMIT_NAMES, limits, strict=False)))  # type: ignore[arg-type]


def ended_condition(
    owner: str | None, prefix: str, since_ms: int | None, until_ms: int | None, reason: str | None, cursor: str | None
) -> tuple[str, list[Any]]:
    """The condition, the order and the limit of a page of ended sessions, and their values but for the last.

    Raises `InvalidSetting`.
    """
    after = decode_cursor(cursor, _terms(owner, prefix, reason))
    check_times(since_ms, until_ms)
    terms: list[str] = ["ended_at_ms IS NOT NULL"]
    values: list[Any] = []
    # A plus keeps a column's index out of the plan: one with a narrower condition is to be used.
    ended = "ended_at_ms" if owner is not None or not prefix else "+ended_at_ms"
    for term, value in (
        ("owner = ?", owner),
        ("reason = ?", reason),
        (f"{ended} >= ?", since_ms),
        (f"{ended} < ?", until_ms),
    ):
        if value is not None:
            terms.append(term)
            values.append(value)
    if prefix:
        column = "key" if owner is None else "+key"
        condition, prefix_values = under_prefix(column, prefix)
        terms.append(condition)
        values += prefix_values
    if after is not None:
        terms.append(f"({ended}, ended_offset, partition) < (?, ?, ?)")
        values += [after.place.at, after.place.tie, after.place.partition]
    order = f"{ended} DESC, ended_offset DESC, partition DESC"
    return f"{' AND '.join(terms)} ORDER BY {order} LIMIT ?", values


def page_of(spans: list[SessionSpan], limit: int, owner: str | None, prefix: str, reason: str | None) -> SpanPage:
    """A page of what was found, which is one more than the page's limit if there is another."""
    if len(spans) <= limit:
        return SpanPage(spans, None)
    last = spans[limit - 1]
    place = Place(last.ended_at_ms or 0, last.partition, last.ended_offset or 0)
    return SpanPage(spans[:limit], encode_cursor(Cursor(place, ""), _terms(owner, prefix, reason)))


def _terms(owner: str | None, prefix: str, reason: str | None) -> str:
    """The listing that a cursor belongs to; not its times, since one that is relative is another at each page."""
    return terms_of(f"ended {reason or ''}", Status.ENDED, prefix, owner)


def end_of(span: SessionSpan) -> SessionEnd | None:
    """How a session ended; `None` of one that no record has ended."""
    if span.ended_at_ms is None:
        return None
    place = None if span.ended_offset is None else (span.partition, span.ended_offset)
    return SessionEnd(span.session_id, span.began_at_ms, span.ended_at_ms, span.reason or "", place, span.ended_by)


def span_of(row: StoredSpan) -> SessionSpan:
    """A session from its row. Raises `ValueError` and `TypeError` for a row that is damaged."""
    return SessionSpan(*row[:-1], policy=None if row.policy is None else _policy_of(row.policy))


def under_prefix(column: str, prefix: str) -> tuple[str, list[Any]]:
    """The condition that a key is under a prefix, and its values; `column` is `key`, or `+key` to use no index."""
    condition, values = f"{column} >= ? AND substr(key, 1, ?) = ?", [prefix, len(prefix), prefix]
    end = _after_prefix(prefix)
    return (condition, values) if end is None else (f"{condition} AND {column} < ?", [*values, end])


def _after_prefix(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`; `None` where its last character has no successor."""
    code = ord(prefix[-1]) + 1
    return None if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else prefix[:-1] + chr(code)


def within(terms: Sequence[tuple[str, object]]) -> tuple[str, list[object]]:
    """What a query adds for those of the terms that have a value, and these values."""
    given = [(term, value) for term, value in terms if value is not None]
    return "".join(f" AND {term}" for term, _ in given), [value for _, value in given]
