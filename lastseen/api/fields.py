"""The fields that requests and responses share, with their bounds and their descriptions in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from lastseen.engine.events import MAX_KEY_CHARACTERS
from lastseen.engine.log.port import Position
from lastseen.engine.session import MAX_LIMIT_MS

_NO_CONTROL = "[^\\u0000-\\u001f\\u007f-\\u009f]"

Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        pattern=f"^{_NO_CONTROL}+$",
        description="The subject of the session: any text without control characters.",
        examples=["discord:guild1:chan2:user3"],
    ),
]
SessionId = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_-]{22,128}$",
        description="Pins the request to this session.",
        examples=["h3Zq0mJ5Tn2b8c1xYw9KfA"],
    ),
]
Holder = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=f"^{_NO_CONTROL}+$",
        description="The name of the job that holds the session.",
        examples=["summariser-7"],
    ),
]
Reason = Annotated[
    str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$", description="The reason, as one lower-case word.", examples=["logout"])
]
Limit = Annotated[int, Meta(gt=0, le=MAX_LIMIT_MS, description="Milliseconds; null means no limit.")]
AtMs = Annotated[int, Meta(description="UTC, in milliseconds since 1970.", examples=[1_700_000_000_000])]
RecordPosition = Annotated[
    Position, Meta(description="Partition and offset of a record in the log.", examples=[[0, 1234]])
]
PositionText = Annotated[
    str, Meta(pattern="^[0-9]+:-?[0-9]+$", description="partition:offset of a record in the log.", examples=["0:1234"])
]
Attributes = Annotated[
    dict[str, Any],
    Meta(description="State that services keep with the session: at most 16 KiB of JSON, 16 levels deep."),
]
KINDS = ("created", "touched", "suspended", "resumed", "held", "released", "ended")
FactKinds = Annotated[
    str,
    Meta(
        pattern=f"^({'|'.join(KINDS)})(,({'|'.join(KINDS)}))*$",
        description="Only facts of these kinds, separated by commas.",
        examples=["created,ended"],
    ),
]
