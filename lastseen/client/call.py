"""One call of a client, without any I/O: the request, the meaning of the response, and whether it may be sent twice.

A 421 (another instance owns the key's partition) and a 503 with `Retry-After` say that nothing was appended: any call
may be sent again after them. Whatever goes wrong after an append is a 504, `OutcomeUnknown`; then, as without a
response, it is unknown whether the service has acted. A call is then sent again only if that is harmless:

- reads, `open`, plain touches, leases: twice is as good as once;
- `create`: its `Idempotency-Key` makes the service recognise it;
- `close`, `suspend`, `resume`, `update` and touches with attributes or limits: only if `session_id` pins them, since
  another session may live under the key by then. What says that it is done already (ended, suspended, …) is then
  success;
- `rotate`, pinned: it cannot happen twice, but another caller may have ended the session: `OutcomeUnknown`;
- a message would be stored twice, so a touch that carries one is never repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import msgspec

from lastseen.api.paths import path_of
from lastseen.engine.codec import check_key
from lastseen.engine.errors import InvalidEvent, LastseenError

R = TypeVar("R")
Errors = tuple[type[LastseenError], ...]


class Response(NamedTuple):
    """An answer of the service, whole."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case."""
    content: bytes


class NoResponse(NamedTuple):
    """No answer came."""

    why: str
    may_have_acted: bool
    """Whether the request may have reached the service."""
    timed_out: bool = False
    """Whether the time for it ran out."""
    was_queued: bool = False
    """Whether it waited in this client all the time, for one of its connections: that says nothing of the service."""


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A request and its meaning."""

    method: str
    path: str
    read: Callable[[Response], R]
    """The result in an answer of success. Raises `msgspec.DecodeError` for what is none."""
    query: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    """The session key that it is about: its partition's owner is asked."""
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = False
    """Whether it may be sent again when its outcome is unknown."""
    is_read: bool = False
    """Whether it changes nothing."""
    waits_for_position: bool = False
    """Whether it can wait for what this client has seen before (`min_position`)."""
    none_errors: Errors = ()
    """Refusals that mean `None`."""
    done_errors: Errors = ()
    """After an unknown outcome, refusals that say that it is done."""
    then: Call[R] | None = None
    """What gets the result where it was done so; nothing, if there is none."""
    follow: Callable[[R], Call[R] | None] | None = None
    """The call that a result leads to; its result is the result. It has a time of its own."""
    unclear_errors: Errors = ()
    """After an unknown outcome: refusals that an earlier try of this call, or another caller, may have caused."""


def body(request: msgspec.Struct) -> bytes:
    """The body of a request. Raises `InvalidEvent` for what JSON cannot express."""
    try:
        return msgspec.json.encode(request)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"the content of the request is not JSON: {error}") from None


def path_for(key: str, verb: str | None = None) -> str:
    """The path of a session, or of a command on it. Raises `InvalidKey`."""
    check_key(key)
    return path_of(key, verb)
