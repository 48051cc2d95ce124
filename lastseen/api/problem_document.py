"""The body of a response that reports an error: a problem document (RFC 9457)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.api.fields import AtMs, PositionText

TYPES = "/problems/"
"""What every `type` begins with. It is a relative reference: programs compare it, people read `detail`."""


class EndedSession(Struct):
    """How a session ended."""

    session_id: str
    began_at_ms: AtMs
    ended_at_ms: AtMs
    reason: Annotated[str, Meta(examples=["idle"])]
    position: PositionText | None
    """The record that ended it, or that found it due; null while no record has."""
    ended_by: str | None
    """The service that wrote that record."""


class ProblemDocument(Struct):
    """An error (RFC 9457). `type` names its kind for programs, `detail` describes it for people."""

    type: Annotated[str, Meta(pattern="^/problems/[a-z-]+$", examples=["/problems/session-ended"])]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    error: str | UnsetType = UNSET
    """The class of the engine's error, if there is one."""
    address: str | UnsetType = UNSET
    """The address of the instance that owns the key's partition."""
    owner: Literal["known", "unnamed", "loading", "vacant", "unknown"] | UnsetType = UNSET
    """What is known of that instance: `known` (at `address`), `unnamed` (it gave no address), `loading` (it is the one
    that answers, and has not caught up yet), `vacant` (there is none at the moment), `unknown` (not known yet)."""
    ended: EndedSession | UnsetType = UNSET

    @property
    def slug(self) -> str:
        """The last part of the type."""
        return self.type.removeprefix(TYPES)
