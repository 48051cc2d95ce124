"""Verdicts: what the fold decided about a record. The numbers enter the digest: none is ever changed."""

from __future__ import annotations

import enum


class Verdict(enum.IntEnum):
    """`APPLIED`, or void for a reason. Checked in the order in which they stand here."""

    APPLIED = 0
    MALFORMED = 1
    """Not a valid event: not JSON, a field missing or out of bounds, or a subject that is not the record's key."""
    UNKNOWN_TYPE = 2
    """A CloudEvent, but of a type that this log does not know."""
    CLOCK_SKEW = 3
    """Its `time` is more than 60 s ahead of its log time, or more than 10 minutes behind."""
    NO_SESSION = 4
    """Nothing lives under the key, and the id is unknown."""
    STALE_SESSION = 5
    """Another session lives under the key."""
    ENDED = 6
    """The session has ended."""
    VERSION_CONFLICT = 7
    """`if_version` is not the session's version."""
    EXISTS = 8
    """A session lives under the key already."""
    ID_REUSED = 9
    """The session id has been used before."""
    SUSPENDED = 10
    """The session is suspended."""
    ALREADY = 11
    """Nothing to do: already suspended, active, released, or the import is closed."""
    TOO_MANY = 12
    """The session has 16 holders."""
    NOT_DUE = 13
    """The deadline has not come."""
    HELD = 14
    """A job holds the session."""

    @property
    def label(self) -> str:
        """The name as people and programs read it: `clock_skew`."""
        return self.name.lower()
