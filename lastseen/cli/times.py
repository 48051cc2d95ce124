"""Times on the command line: what an option may say, and local time on request."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lastseen.engine.log.port import Position

Local = Annotated[bool, typer.Option("--local", help="Read and show times in this machine's time zone, not in UTC.")]
_FORMS = "2026-01-31T12:00:00Z, '2026-01-31 12:00', milliseconds, or a time ago such as 2h."
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Sessions that were last used, or with --status ended ended, at this time or later:"
        " see --until.",
    ),
]  # fmt: skip
Until = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help=f"Sessions that were last used, or with --status ended ended, before this time: {_FORMS}",
    ),
]
SinceThen = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Records of this time or later, or sessions that lived then: see --until."
    ),
]
UntilThen = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help=f"Records, or sessions that began, before this time: {_FORMS}"),
]
_number = re.compile(r"-?[0-9]{5,15}")
_position = re.compile(r"([0-9]{1,5}):([0-9]{1,18})")


class SystemZone(tzinfo):
    """The time zone of this machine, with the offset that it has at each time."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """The offset; of a local time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _: datetime | None) -> timedelta | None:
        """Part of the offset."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """The zone's name."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """The local time of a time in UTC."""
        return moment.replace(tzinfo=UTC).astimezone()


def zone(local: bool) -> tzinfo | None:
    """The zone that times are shown in; `None`: UTC."""
    return SystemZone() if local else None


def time_option(name: str, text: str | None, local: bool) -> int | None:
    """The log time in milliseconds that an option says. Raises `InvalidSetting`."""
    if text is None:
        return None
    from lastseen.embedded.settings import duration_ms
    from lastseen.engine.clock import EPOCH, SystemClock
    from lastseen.engine.errors import InvalidSetting, shown

    if _number.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.astimezone() if local else moment.replace(tzinfo=UTC)
        return (moment - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        pass
    try:
        return SystemClock().now_ms() - duration_ms(name, text)
    except InvalidSetting:
        raise InvalidSetting(
            f"{name} = {shown(text)}: give a time such as 2026-01-31T12:00:00Z or '2026-01-31 12:00', milliseconds"
            " since 1970, or a time ago such as 2h"
        ) from None


def point_option(name: str, text: str | None, local: bool) -> int | Position | None:
    """The same, or a position in the log, partition:offset."""
    from lastseen.engine.log.port import Position

    place = None if text is None else _position.fullmatch(text)
    return time_option(name, text, local) if place is None else Position(int(place[1]), int(place[2]))
