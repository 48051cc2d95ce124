"""The times of entries: UTC, and comparable with the local times without a zone that gateways use.

The old store's times had no zone, and the gateway compares them with `datetime.now()`, and subtracts them from it.
Python refuses that for a time with a zone, so these read a time without one as this machine's local time, as the
gateway means it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, overload


class EntryTime(datetime):
    """A time in UTC. A time without a zone beside it, in a comparison or a difference, is local time.

    Its hash is that of the moment, as of every time with a zone: do not mix both kinds as keys of one dictionary.
    """

    def __lt__(self, other: Any) -> bool:
        return super().__lt__(_zoned(other))

    def __le__(self, other: Any) -> bool:
        return super().__le__(_zoned(other))

    def __gt__(self, other: Any) -> bool:
        return super().__gt__(_zoned(other))

    def __ge__(self, other: Any) -> bool:
        return super().__ge__(_zoned(other))

    def __eq__(self, other: object) -> bool:
        return super().__eq__(_zoned(other))

    def __ne__(self, other: object) -> bool:
        return super().__ne__(_zoned(other))

    def __hash__(self) -> int:
        return super().__hash__()

    @overload  # type: ignore[override]
    def __sub__(self, other: datetime) -> timedelta: ...

    @overload
    def __sub__(self, other: timedelta) -> EntryTime: ...

    def __sub__(self, other: datetime | timedelta) -> Any:
        return super().__sub__(_zoned(other))

    def __rsub__(self, other: datetime) -> timedelta:
        return super().__rsub__(_zoned(other))  # type: ignore[no-any-return,misc]


def _zoned(other: Any) -> Any:
    return other.astimezone() if isinstance(other, datetime) and other.tzinfo is None else other


def utc(text: str, zone: tzinfo | None = None) -> EntryTime:
    """A time as the old store wrote it, in UTC: without an offset it is of `zone`, or this machine's local time."""
    at = EntryTime.fromisoformat(text)
    return (at if at.tzinfo or zone is None else at.replace(tzinfo=zone)).astimezone(UTC)


def time_of(at_ms: int) -> EntryTime:
    """A log time as a time that says its zone."""
    return EntryTime.fromtimestamp(at_ms / 1000, UTC)


def ms_of(at: datetime) -> int:
    """A time in milliseconds; one without a zone is local."""
    return round(at.timestamp() * 1000)
