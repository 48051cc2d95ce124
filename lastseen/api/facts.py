"""Facts and states as `projections.facts` writes them, into the topics and into the stream of events."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.api.fields import AtMs
from lastseen.engine.events import MAX_KEY_CHARACTERS

Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARACTERS, description="The session key.")]
Kind = Literal["created", "touched", "suspended", "resumed", "held", "released", "ended"]


class SessionState(Struct):
    """A live session, without its attributes and messages."""

    key: Key
    session_id: str
    status: Literal["active", "suspended"]
    version: Annotated[int, Meta(ge=1)]
    owner: str | None
    created_at_ms: AtMs
    last_active_at_ms: AtMs
    deadline_ms: Annotated[int | None, Meta(description="When it is due; null if no limit applies.")]
    holders: Annotated[dict[str, int], Meta(description="Each holder, and when its lease lapses.")]


class Fact(Struct):
    """One effect of an applied record. Ignore a fact that you have already processed: compare (`offset`, `k`)."""

    kind: Kind
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0, description="The record in the log that caused it.")]
    k: Annotated[int, Meta(ge=0, le=1, description="Its number among the effects of the record.")]
    session_id: str
    at_ms: AtMs
    reason: Annotated[str | None, Meta(description="Why the session ended; null for every other kind.")]
    state: Annotated[SessionState | None, Meta(description="The session after it; null once it has ended.")]


class FactEvent(Struct):
    """A fact, as a CloudEvents 1.0 event in structured JSON."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(pattern="^[0-9]+-[0-9]+-[01]$", description="partition-offset-k.")]
    source: str
    type: Annotated[str, Meta(pattern="^lastseen\\.fact\\.[a-z]+\\.v1$")]
    subject: Key
    datacontenttype: Literal["application/json"]
    data: Fact
    time: Annotated[str, Meta(description="RFC 3339; left out if it cannot express the time.")] | UnsetType = UNSET


class StateEvent(Struct):
    """A session's newest state, as a CloudEvents 1.0 event in structured JSON. Once it has ended, a tombstone."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(pattern="^[0-9]+-[0-9]+-[01]$", description="The id of its fact.")]
    source: str
    type: Literal["lastseen.state.v1"]
    subject: Key
    datacontenttype: Literal["application/json"]
    data: SessionState
    time: Annotated[str, Meta(description="RFC 3339; left out if it cannot express the time.")] | UnsetType = UNSET
