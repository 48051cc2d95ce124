"""From verdicts to errors: what a command raises when the fold voids, or would void, its record."""

from __future__ import annotations

from lastseen.engine import errors
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


def refusal(verdict: Verdict, key: str, session: Session | None = None) -> errors.LastseenError:
    """The typed error for a void verdict on a record of `key`."""
    kind, says = _ERRORS[verdict]
    version = f" (version {session.version})" if session is not None and verdict is Verdict.VERSION_CONFLICT else ""
    return kind(f"session key {shown(key)}{version}: {says}")


def unread_outcome(failure: errors.LastseenError) -> errors.OutcomeUnknown:
    """The error of a call whose append is in the log, and whose verdict cannot be had."""
    return errors.OutcomeUnknown(
        f"the append is in the log, and its outcome cannot be read ({failure}). Read before you try again"
    )
