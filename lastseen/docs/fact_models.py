"""Facts and states as models: what `projections.facts` writes, for the description of the topics."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.engine.events import MAX_KEY_CHARACTERS

AtMs = Annotated[int, Meta(description="UTC, in milliseconds since 1970.")]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARACTERS, description="The session key.")]
Kind = Literal["created", "touched", "suspended", "resumed", "held", "released", "ended"]


class SessionState(Struct, forbid_unknown_fields=True):
    """A live session, without its attributes and messages."""

    key: Key
    session_id: str
    status: Literal["active", "suspended"]
    version: Annotated[int, Meta(ge=1)]
    owner: str | None
    created_at_ms: AtMs
    last_active_at_ms: AtMs
    deadline_ms: Annotated[int | None, Meta(description="When it is due; null if no limit applies.")]
    holders: Annotated[dict[str, int], Meta(description="Who holds it, and until when.")]


class Fact(Struct, forbid_unknown_fields=True):
    """One effect of an applied record. Drop what is not beyond the last `offset` and `k` seen of its partition."""

    kind: Kind
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0, description="The record that caused it, in the log.")]
    k: Annotated[int, Meta(ge=0, le=1, description="Which of the record's effects it is.")]
    session_id: str
    at_ms: AtMs
    reason: Annotated[str | None, Meta(description="Why it ended; null for all else.")]
    state: Annotated[SessionState | None, Meta(description="The session after it; null once it has ended.")]


class FactEvent(Struct):
    """A fact, as a CloudEvents 1.0 event in structured JSON."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(pattern="^[0-9]+-[0-9]+-[01]$", description="partition-offset-k, whoever publishes it.")]
    source: str
    type: Annotated[str, Meta(pattern="^lastseen\\.fact\\.[a-z]+\\.v1$")]
    subject: Key
    datacontenttype: Literal["application/json"]
    data: Fact
    time: Annotated[str, Meta(description="RFC 3339; left out for a time that it cannot write.")] | UnsetType = UNSET


class StateEvent(Struct):
    """A session's newest state, as a CloudEvents 1.0 event in structured JSON. A tombstone when it has ended."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(pattern="^[0-9]+-[0-9]+-[01]$", description="That of the fact it is the state after.")]
    source: str
    type: Literal["lastseen.state.v1"]
    subject: Key
    datacontenttype: Literal["application/json"]
    data: SessionState
    time: Annotated[str, Meta(description="RFC 3339; left out for a time that it cannot write.")] | UnsetType = UNSET
