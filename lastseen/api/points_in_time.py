"""Points in time in requests: a log time, or a position in the log."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from lastseen.api.positions import position_in
from lastseen.api.problems import Problem
from lastseen.engine.clock import ms_from_iso
from lastseen.engine.errors import InvalidInput
from lastseen.engine.log.port import Position

_number = re.compile(r"-?[0-9]{1,15}")

AS_OF = Annotated[
    str,
    Meta(
        pattern="^(-?[0-9]{1,15}|[0-9]{1,5}:[0-9]{1,18}|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        "[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?([Zz]|[+ -](0[0-9]|1[0-4]):[0-5][0-9]))$",
        description="The state at this time, in milliseconds since 1970 or RFC 3339, or right after this record,"
        " partition:offset.",
        examples=["2026-01-31T12:00:00Z"],
    ),
]

_TIME = (
    "-?[0-9]{1,15}|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?([Zz]|[+ -](0[0-9]|1[0-4]):[0-5][0-9])"
)
AT = Annotated[
    str,
    Meta(
        pattern=f"^({_TIME}|[0-9]{{1,5}}:[0-9]{{1,18}})$",
        description="About the session of this time, in milliseconds since 1970 or RFC 3339, or right after this"
        " record, partition:offset. It must have passed.",
        examples=["2026-01-31T12:00:00Z"],
    ),
]
TIME = Annotated[
    str,
    Meta(pattern=f"^({_TIME})$", description="Milliseconds since 1970 or RFC 3339.", examples=["2026-01-31T12:00:00Z"]),
]


def time_in(name: str, text: str) -> int:
    """A log time in milliseconds. Raises `Problem` 422."""
    found = point_in_time(name, text)
    if not isinstance(found, int):
        raise Problem(422, "invalid-parameter", f"{name}: give a time, in milliseconds or RFC 3339")
    return found


def time_or_none(name: str, text: str | UnsetType) -> int | None:
    """The same of a parameter that may be left out."""
    return None if text is UNSET else time_in(name, text)


def point_in_time(name: str, text: str) -> int | Position:
    """A log time in milliseconds, or a position. Raises `Problem` 422."""
    if _number.fullmatch(text):
        return int(text)
    if "T" not in text.upper():
        return position_in(name, text)
    try:
        # In a query a plus denotes a space, and no time contains one.
        return ms_from_iso(text.upper().replace(" ", "+"))
    except InvalidInput:
        raise Problem(
            422, "invalid-parameter", f"{name}: give a time in RFC 3339, such as 2026-01-31T12:00:00Z"
        ) from None
