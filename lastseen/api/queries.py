"""The query parameters of each operation, with their bounds.

A parameter that is left out is `UNSET`: in a query `null` is text.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.api.fields import FactKinds, Reason, SessionId
from lastseen.api.points_in_time import AS_OF, AT, TIME

MAX_PAGE = 1_000
MinPosition = (
    Annotated[
        str,
        Meta(
            pattern="^[0-9]{1,5}:[0-9]{1,18}(,[0-9]{1,5}:[0-9]{1,18}){0,99}$",
            max_length=2_500,
            description="Wait until this instance has folded these records: a `Position` of an earlier response.",
            examples=["0:1234"],
        ),
    ]
    | UnsetType
)
Prefix = (
    Annotated[str, Meta(min_length=1, max_length=512, description="Only keys that begin with this text.")] | UnsetType
)


class ReadQuery(Struct, forbid_unknown_fields=True):
    """How to read one session, or its messages."""

    as_of: AS_OF | UnsetType = UNSET
    min_position: MinPosition = UNSET


class ListQuery(Struct, forbid_unknown_fields=True):
    """Which sessions to list."""

    status: Literal["active", "suspended"] | UnsetType = UNSET
    prefix: Prefix = UNSET
    owner: (
        Annotated[
            str, Meta(min_length=1, max_length=512, description="Only sessions whose attribute `owner` has this value.")
        ]
        | UnsetType
    ) = UNSET
    since: TIME | UnsetType = UNSET
    """Only those that were last used at this time or later."""
    until: TIME | UnsetType = UNSET
    """Only those that were last used before this time."""
    sort: Annotated[
        Literal["lru", "deadline", "created"],
        Meta(description="Least recently used first, soonest due first, or oldest first."),
    ] = "lru"
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    cursor: (
        Annotated[str, Meta(min_length=1, max_length=200, description="The cursor of an earlier page.")] | UnsetType
    ) = UNSET
    min_position: MinPosition = UNSET


class EndedQuery(Struct, forbid_unknown_fields=True):
    """Which of the ended sessions to list."""

    owner: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=512,
                description="Only sessions whose attribute `owner` had this value at the end.",
            ),
        ]
        | UnsetType
    ) = UNSET
    prefix: Prefix = UNSET
    since: TIME | UnsetType = UNSET
    """Only those that ended at this time or later."""
    until: TIME | UnsetType = UNSET
    """Only those that ended before this time."""
    reason: Reason | UnsetType = UNSET
    """Only those that ended for this reason."""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    cursor: (
        Annotated[str, Meta(min_length=1, max_length=200, description="The cursor of an earlier page.")] | UnsetType
    ) = UNSET
    min_position: MinPosition = UNSET


class TouchQuery(Struct, forbid_unknown_fields=True):
    """The outcome that a touch waits for."""

    wait: Literal["applied", "appended", "none"] = "applied"


class HistoryQuery(Struct, forbid_unknown_fields=True):
    """A page of a key's history."""

    after: Annotated[int, Meta(ge=-1, le=2**53, description="Continue after this offset: the cursor of a page.")] = -1
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    of: Annotated[
        Literal["records", "lives"],
        Meta(description="Every record with its verdict, or how each session began and ended."),
    ] = "records"
    since: TIME | UnsetType = UNSET
    """Only records of this time or later; only lives that had not ended before it."""
    until: TIME | UnsetType = UNSET
    """Only records, or beginnings of lives, before this time."""
    owner: (
        Annotated[
            str,
            Meta(min_length=1, max_length=512, description="With `of=lives`: only those with this owner."),
        ]
        | UnsetType
    ) = UNSET
    min_position: MinPosition = UNSET


class ExplainQuery(Struct, forbid_unknown_fields=True):
    """Which session of a key to explain, and as of when."""

    at: AT | UnsetType = UNSET
    session_id: SessionId | UnsetType = UNSET
    min_position: MinPosition = UNSET


class StreamQuery(Struct, forbid_unknown_fields=True):
    """The facts to stream."""

    prefix: Prefix = UNSET
    type: FactKinds | UnsetType = UNSET
    ticket: (
        Annotated[
            str,
            Meta(
                max_length=4_096,
                description="A ticket, instead of a token and of `prefix` and `type`, which it names: for an"
                " `EventSource`.",
            ),
        ]
        | UnsetType
    ) = UNSET
    last_event_id: (
        Annotated[
            str,
            Meta(
                max_length=20_000,
                description="The same as the header Last-Event-ID, for clients that cannot set it at first."
                " The header wins if both are given. `0` starts at the beginning of the log.",
            ),
        ]
        | UnsetType
    ) = UNSET


class EmptyQuery(Struct, forbid_unknown_fields=True):
    """No parameters."""
