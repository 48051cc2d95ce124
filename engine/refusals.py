"""From verdicts to errors: what a command raises when the fold voids, or would void, its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lastseen.engine import errors
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.errors import shown
from lastseen.engine.session import MAX_HOLDERS, Session
from lastseen.engine.verdicts import Verdict

_ERRORS: dict[Verdict, tuple[type[errors.LastseenError], str]] = {
    Verdict.CONTROL: (errors.InvalidEvent, "the log has a control marker at its offset; report this"),
    Verdict.TRANSACTIONAL: (errors.InvalidEvent, "the log holds it as part of a transaction; report this"),
    Verdict.MALFORMED: (errors.InvalidEvent, "the log holds it in a form that cannot be read back; report this"),
    Verdict.WRONG_PARTITION: (errors.InvalidEvent, "the log holds it in another partition than the key's; report this"),
    Verdict.UNKNOWN_TYPE: (errors.InvalidEvent, "its type is unknown; report this"),
    Verdict.CLOCK_SKEW: (
        errors.ClockSkew,
        "this machine's clock and the log's differ by more than 60 s ahead or 10 minutes behind; set the clocks right",
    ),
    Verdict.NO_SESSION: (errors.SessionNotFound, "no session lives under it; `open` or `create` one"),
    Verdict.STALE_SESSION: (errors.StaleSession, "another session lives under it now; read it again with `get`"),
    Verdict.ENDED: (
        errors.SessionEnded,
        "the session has ended and does not come back; `explain` says why, `open` begins a new one",
    ),
    Verdict.VERSION_CONFLICT: (
        errors.VersionConflict,
        "the session has changed since it was read; read it again with `get` and decide again",
    ),
    Verdict.EXISTS: (errors.SessionExists, "a session lives under it already; `open` returns it, `rotate` replaces it"),
    Verdict.ID_REUSED: (errors.SessionExists, "the session id was used before; leave it out and a new one is made"),
    Verdict.SUSPENDED: (errors.SessionSuspended, "the session is suspended; `resume` it first"),
    Verdict.ALREADY: (errors.AlreadyDone, "it is already in that state: nothing to do"),
    Verdict.TOO_MANY: (
        errors.TooManyHolders,
        f"{MAX_HOLDERS} holders have live leases, and that is the limit; release one, or wait until one lapses",
    ),
    Verdict.NOT_DUE: (errors.NotDue, "its deadline has not passed"),
    Verdict.HELD: (errors.SessionHeld, "a job holds it; release it, or `close` it, which ends it while held"),
}


R = TypeVar("R")
KnownEnd = Callable[[str, str | None], errors.SessionEnd | None]
"""How the latest session of a key ended, or the one with an id, if that is known. Its cost is bounded."""


def refusal(
    verdict: Verdict, key: str, session: Session | None = None, session_id: str | None = None
) -> errors.LastseenError:
    """The typed error for a void verdict on a record of `key`, whose call named `session_id`."""
    kind, says = _ERRORS[verdict]
    version = f" (version {session.version})" if session is not None and verdict is Verdict.VERSION_CONFLICT else ""
    error = kind(f"session key {shown(key)}{version}: {says}")
    if isinstance(error, errors.SessionNotFound | errors.SessionEnded):
        error.key = key
        error.session_id = session.session_id if session is not None else session_id
    return error


def ended(key: str, end: errors.SessionEnd) -> errors.SessionEnded:
    """The error for a session of which it is known how it ended."""
    says = _ERRORS[Verdict.ENDED][1].replace("has ended", f"ended {iso_from_ms(end.ended_at_ms)} ({end.reason})")
    error = errors.SessionEnded(f"session key {shown(key)}: {says}")
    error.key, error.session_id, error.end = key, end.session_id, end
    return error


def with_end(error: errors.LastseenError, known_end: KnownEnd) -> errors.LastseenError:
    """`error`, or, if it says that no session lives and one is known to have ended, what says when and why.

    The caller holds no lock: `known_end` may read a file.
    """
    if not isinstance(error, errors.SessionNotFound | errors.SessionEnded) or error.key is None:
        return error
    if isinstance(error, errors.SessionEnded) and error.end is not None:
        return error
    end = known_end(error.key, error.session_id)
    return error if end is None else ended(error.key, end)


def with_ends(results: list[R], known_end: KnownEnd) -> list[R]:
    """The results of a bulk command, each error of which is given `with_end`."""
    for place, result in enumerate(results):
        if isinstance(result, errors.LastseenError):
            results[place] = with_end(result, known_end)  # type: ignore[assignment]
    return results


def unread_outcome(failure: errors.LastseenError) -> errors.OutcomeUnknown:
    """The error of a call whose append is in the log, and whose verdict cannot be had."""
    return errors.OutcomeUnknown(
        f"the append is in the log, and its outcome cannot be read ({failure}). Read before you try again"
    )
