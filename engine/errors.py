"""Every error that lastseen raises, in one tree.

::

    LastseenError
    ├── InvalidInput                 the caller's input breaks a rule; nothing was written
    │   ├── InvalidKey
    │   ├── InvalidEvent             a field of the event is out of bounds
    │   ├── InvalidPolicy
    │   └── InvalidSetting           configuration, URL or option
    ├── Refused                      well-formed, but the session's state forbids it
    │   ├── SessionNotFound          nothing lives under the key, or the id was never seen
    │   ├── SessionEnded             it lived, and has ended
    │   ├── SessionExists
    │   ├── StaleSession             another session lives under the key now
    │   ├── SessionSuspended
    │   ├── AlreadyDone              already suspended, active, or not held by this holder
    │   ├── VersionConflict
    │   ├── TooManyHolders
    │   ├── NotDue
    │   ├── SessionHeld
    │   └── ClockSkew                the log's clock and ours disagree
    ├── NotOwner                     another engine holds this part of the sessions: ask that one
    ├── LogError
    │   ├── LogUnavailable           locked, full, read-only or unreachable: try again
    │   │   └── EmitterFull          as many bytes wait in an emitter as may
    │   ├── NotDelivered             events that an emitter took in are not known to be in the log
    │   ├── LogCorrupt               not a log, or damaged
    │   ├── UnsupportedLibrary       the client library under the log is not one that lastseen knows
    │   ├── LogTooNew                written by a newer lastseen
    │   ├── LogMismatch              another log than the checkpoint's, or cut behind it
    │   │   └── NoGenesis            a partition does not begin with a genesis record: not a log, or format 1
    │   └── OutcomeUnknown           the append may or may not have happened
    ├── SnapshotError                the snapshot cannot be written or read
    ├── ExportError                  a file is no whole and sound export, or cannot be written
    ├── CannotListen                 the service's address is taken, or not this machine's
    └── EngineClosed

Each message names the thing, the limit and the next step. The class is the contract; the words may change.
"""

from __future__ import annotations

from enum import StrEnum

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
    """Root of the tree: catch this to catch everything that lastseen raises on purpose."""


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


class SessionNotFound(Refused, LookupError):
    """No session lives under the key, and the engine remembers none that ended."""


class SessionEnded(Refused, LookupError):
    """The session has ended and never comes back."""


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
    """The session has as many holders as it may have."""


class NotDue(Refused):
    """The session's deadline has not come."""


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
    """This engine holds only its own partitions, and the key is in another engine's. Nothing was written."""

    def __init__(self, message: str, address: str | None = None, owner: OwnerState | None = None) -> None:
        super().__init__(message)
        self.address = address
        """Where the owner of the key's partition is to be reached, if it said so when it joined."""
        self.owner = owner or (OwnerState.UNKNOWN if address is None else OwnerState.KNOWN)
        """What is known of the owner. Without an address, ask again in a moment, or ask another engine."""


class LogError(LastseenError):
    """The log cannot be read or written."""


class LogUnavailable(LogError):
    """The log is locked, full, read-only or out of reach. Nothing was written; try again."""


class EmitterFull(LogUnavailable):
    """As many bytes wait as may. Of the call's events the first `taken` were taken in, the others were not."""

    taken = 0


class NotDelivered(LogError):
    """Events that were taken in are not known to be in the log; the counts say how many, and in which way."""

    failed = 0
    """Not in the log: it was out of reach for too long, or refused them."""
    unknown = 0
    """Sent, and never acknowledged: in the log, or not."""
    waiting = 0
    """Still on their way; another flush tells what becomes of them."""


class LogCorrupt(LogError):
    """The file is not a log of lastseen, or it is damaged."""


class UnsupportedLibrary(LogError):
    """A client library under the log differs from the versions that lastseen supports: install one of those."""


class LogTooNew(LogError):
    """The log was written by a newer lastseen than this one."""


class LogMismatch(LogError):
    """The log is not the one that the checkpoint speaks of, or it was cut behind the checkpoint."""


class NoGenesis(LogMismatch):
    """A partition does not begin with a genesis record: what was opened is no log, or one of format 1."""


class OutcomeUnknown(LogError):
    """The append failed in such a way that it may still have happened. Read before you try again."""


class SnapshotError(LastseenError):
    """The snapshot cannot be written or read."""


class ExportError(LastseenError):
    """A file cannot be written as an export, or is no whole and sound one of what is wanted."""


class CannotListen(LastseenError):
    """The service cannot listen on its address: another program does, or the address is not this machine's."""


class EngineClosed(LastseenError):
    """The engine, or its log, has been closed."""
