"""What the query of each operation may say, with its bounds. What is not said is `UNSET`, for `null` is text here."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.api.models import Reason, SessionId
from lastseen.api.points_in_time import AS_OF

KINDS = ("created", "touched", "suspended", "resumed", "held", "released", "ended")
MAX_PAGE = 1_000
MinPosition = (
    Annotated[
        str,
        Meta(
            pattern="^[0-9]{1,5}:[0-9]{1,18}(,[0-9]{1,5}:[0-9]{1,18}){0,99}$",
            max_length=2_500,
            description="Answer only when this instance has folded these records: the `Position` of an earlier answer.",
            examples=["0:1234"],
        ),
    ]
    | UnsetType
)
Prefix = Annotated[str, Meta(max_length=512, description="Only of keys that begin so.")]


class Looking(Struct, forbid_unknown_fields=True):
    """How to look at one session, or at its messages."""

    as_of: AS_OF | UnsetType = UNSET
    min_position: MinPosition = UNSET


class Listing(Struct, forbid_unknown_fields=True):
    """Which sessions to list."""

    status: Literal["active", "suspended"] | UnsetType = UNSET
    prefix: Prefix = ""
    owner: (
        Annotated[str, Meta(max_length=512, description="Only those whose attribute `owner` is this.")] | UnsetType
    ) = UNSET
    sort: Annotated[
        Literal["lru", "deadline", "created"],
        Meta(description="Least recently used first, soonest due first, or oldest first."),
    ] = "lru"
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    cursor: (
        Annotated[str, Meta(min_length=1, max_length=200, description="The cursor of an earlier page.")] | UnsetType
    ) = UNSET
    min_position: MinPosition = UNSET


class Closing(Struct, forbid_unknown_fields=True):
    """How to end a session."""

    reason: Reason = "deleted"
    session_id: SessionId | UnsetType = UNSET


class Waiting(Struct, forbid_unknown_fields=True):
    """What a touch waits for."""

    wait: Literal["applied", "appended", "none"] = "applied"


class PastPage(Struct, forbid_unknown_fields=True):
    """Which page of a key's past."""

    after: Annotated[int, Meta(ge=-1, le=2**53, description="Go on after this offset: the cursor of a page.")] = -1
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    of: Annotated[
        Literal["records", "lives"],
        Meta(description="Every record with its verdict, or how each session began and ended."),
    ] = "records"
    min_position: MinPosition = UNSET


class Explaining(Struct, forbid_unknown_fields=True):
    """How to explain."""

    min_position: MinPosition = UNSET


class Listening(Struct, forbid_unknown_fields=True):
    """What to listen to."""

    prefix: Prefix = ""
    type: (
        Annotated[
            str,
            Meta(
                pattern=f"^({'|'.join(KINDS)})(,({'|'.join(KINDS)}))*$",
                description="Only facts of these kinds, with commas between.",
                examples=["created,ended"],
            ),
        ]
        | UnsetType
    ) = UNSET
    last_event_id: (
        Annotated[
            str,
            Meta(
                max_length=20_000,
                description="What the header Last-Event-ID says, for clients that cannot send it at first; the header"
                " counts where both are there. `0`: all that the log holds.",
            ),
        ]
        | UnsetType
    ) = UNSET


class Nothing(Struct, forbid_unknown_fields=True):
    """There is nothing to say."""
