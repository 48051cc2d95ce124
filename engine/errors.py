"""Every error that lastseen raises, in one tree.

::

    LastseenError
    ├── InvalidInput                 the caller's input breaks a rule; nothing was written
    │   ├── InvalidKey
    │   ├── InvalidEvent             a field of the event is out of bounds
    │   ├── InvalidPolicy
    │   └── InvalidSetting           configuration, URL or option
    ├── Refused                      well-formed, but the session's state forbids it
    │   ├── SessionNotFound          no session lives under the key, and no ended one is known
    │   ├── SessionEnded             the session has ended; `end` says when and why
    │   ├── SessionExists
    │   ├── StaleSession             another session lives under the key now
    │   ├── SessionSuspended
    │   ├── AlreadyDone              already suspended, active, or not held by this holder
    │   ├── VersionConflict
    │   ├── TooManyHolders
    │   ├── NotDue
    │   ├── SessionHeld
    │   └── ClockSkew                the log's clock and the producer's disagree
    ├── NotOwner                     another engine holds the key's partition: use that engine
    ├── LogError
    │   ├── LogUnavailable           locked, full, read-only or unreachable: try again
    │   │   └── EmitterFull          an emitter's buffer is full
    │   ├── NotDelivered             events that an emitter accepted are not known to be in the log
    │   ├── LogCorrupt               not a log, or damaged
    │   ├── UnsupportedLibrary       lastseen does not support this version of the log's client library
    │   ├── LogTooNew                written by a newer lastseen
    │   ├── LogMismatch              not the checkpoint's log, or truncated before the checkpoint
    │   │   └── NoGenesis            a partition does not begin with a genesis record: not a log, or format 1
    │   └── OutcomeUnknown           the append may or may not have happened
    ├── SnapshotError                the snapshot cannot be written or read
    ├── ExportError                  a file is not a complete and sound export, or cannot be written
    ├── CannotListen                 the service's address is taken, or not this machine's
    └── EngineClosed

Each message names the thing, the limit and the next step. The class is the contract; the words may change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Self

__all__ = [
    "AlreadyDone",
    "CannotListen",
    "ClockSkew",
    "EmitterFull",
    "EngineClosed",
    "ExportError",
    "InvalidEvent",
    "InvalidInput",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidSetting",
    "LastseenError",
    "LogCorrupt",
    "LogError",
    "LogMismatch",
    "LogTooNew",
    "LogUnavailable",
    "NoGenesis",
    "NotDelivered",
    "NotDue",
    "NotOwner",
    "OutcomeUnknown",
    "Refused",
    "SessionEnded",
    "SessionExists",
    "SessionHeld",
    "SessionNotFound",
    "SessionSuspended",
    "SnapshotError",
    "StaleSession",
    "TooManyHolders",
    "UnsupportedLibrary",
    "VersionConflict",
    "shown",
]


def shown(text: object, limit: int = 80) -> str:
    """`text` quoted for a message: control characters escaped, at most `limit` characters of it."""
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else f"{quoted[: limit - 2]}…{quoted[-1]}"


class LastseenError(Exception):
    """Root of the tree: catch this to catch every error that lastseen raises on purpose."""

    def again(self) -> Self:
        """The same error, new: several callers that get one answer each raise an error of their own, with all of it."""
        fresh = type(self)(*self.args)
        fresh.__dict__.update(self.__dict__)
        fresh.__cause__ = self
        return fresh


class InvalidInput(LastseenError, ValueError):
    """The caller's input breaks a rule. Nothing was written."""


class InvalidKey(InvalidInput):
    """A session key is empty, too long, or holds control characters."""


class InvalidEvent(InvalidInput):
    """A field of an event is of the wrong type or out of bounds."""


class InvalidPolicy(InvalidInput):
    """A limit is zero, negative, or not a whole number of milliseconds."""


class InvalidSetting(InvalidInput):
    """A setting, option or URL is unknown or out of range."""


class Refused(LastseenError):
    """The request is well-formed, but the state of the session forbids it. Nothing has changed."""


class SessionEnd(NamedTuple):
    """How a session ended."""

    session_id: str
    began_at_ms: int
    ended_at_ms: int
    reason: str
    position: tuple[int, int] | None = None
    """Partition and offset of the record that ended it, or that found it due; `None` while no record has."""
    ended_by: str | None = None
    """The source of that record."""


class SessionNotFound(Refused, LookupError):
    """No session lives under the key, and no ended one is known."""

    key: str | None = None
    session_id: str | None = None
    """The id that the call named."""


class SessionEnded(Refused, LookupError):
    """The session has ended and never comes back; `end` says when and why, as far as that is known."""

    key: str | None = None
    session_id: str | None = None
    end: SessionEnd | None = None


class SessionExists(Refused):
    """A session already lives under the key, or the id has been used before."""


class StaleSession(Refused):
    """Another session lives under the key now."""


class SessionSuspended(Refused):
    """The session is suspended: resume it first."""


class AlreadyDone(Refused):
    """The session is in that state already."""


class VersionConflict(Refused):
    """The session has changed since the caller read it."""


class TooManyHolders(Refused):
    """The session has reached the limit on holders."""


class NotDue(Refused):
    """The session's deadline has not passed."""


class SessionHeld(Refused):
    """A background job holds the session."""


class ClockSkew(Refused):
    """The log's clock and the producer's clock differ by more than the fold tolerates."""


class OwnerState(StrEnum):
    """What an engine knows of the owner of a partition that it does not serve."""

    KNOWN = "known"
    """Another engine owns it; its address is given."""
    UNNAMED = "unnamed"
    """Another engine owns it, which joined without an address."""
    LOADING = "loading"
    """This engine owns it, and has not caught up with the log."""
    VACANT = "vacant"
    """No engine owns it: the last owner is gone, and the next is not chosen yet."""
    UNKNOWN = "unknown"
    """This engine does not know the owner yet."""


class NotOwner(LastseenError):
    """This engine holds only its own partitions, and another engine holds the key's. Nothing was written."""

    def __init__(self, message: str, address: str | None = None, owner: OwnerState | None = None) -> None:
        super().__init__(message)
        self.address = address
        """Where the owner of the key's partition is to be reached, if it said so when it joined."""
        self.owner = owner or (OwnerState.UNKNOWN if address is None else OwnerState.KNOWN)
        """What is known of the owner. Without an address, ask again in a moment, or ask another engine."""


class LogError(LastseenError):
    """The log cannot be read or written."""


class LogUnavailable(LogError):
    """The log is locked, full, read-only or unreachable. Nothing was written; try again."""


class EmitterFull(LogUnavailable):
    """The emitter's buffer is full. It accepted the first `taken` events of the call, and none of the others."""

    taken = 0


class NotDelivered(LogError):
    """Events that the emitter accepted are not known to be in the log; three counts say how many, and why."""

    failed = 0
    """Not in the log: it was unavailable for too long, or refused them."""
    unknown = 0
    """Sent, and never acknowledged: they may be in the log."""
    waiting = 0
    """Still being sent; another flush reports their outcome."""


class LogCorrupt(LogError):
    """The file is not a log of lastseen, or it is damaged."""


class UnsupportedLibrary(LogError):
    """A client library under the log differs from the versions that lastseen supports: install one of those."""


class LogTooNew(LogError):
    """The log was written by a newer lastseen than this one."""


class LogMismatch(LogError):
    """The log is not the checkpoint's, or it was truncated before the checkpoint."""


class NoGenesis(LogMismatch):
    """A partition does not begin with a genesis record: what was opened is no log, or one of format 1."""


class OutcomeUnknown(LogError):
    """The append failed, and may still have taken effect. Read before you try again."""


class SnapshotError(LastseenError):
    """The snapshot cannot be written or read."""


class ExportError(LastseenError):
    """An export cannot be written, or a file is not a complete and sound export of the expected kind."""


class CannotListen(LastseenError):
    """The service cannot listen on its address: another program uses it, or it is not an address of this machine."""


class EngineClosed(LastseenError):
    """The engine, or its log, has been closed."""
