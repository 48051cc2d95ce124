"""Verdicts: what the fold decided about a record. The numbers enter the digest: none is ever changed."""

from __future__ import annotations

import enum


class Verdict(enum.IntEnum):
    """`APPLIED`, or void for a reason. Checked in the order in which they stand here."""

    APPLIED = 0
    CONTROL = 1
    """No record but a marker of the log, such as Kafka's at the end of a transaction."""
    TRANSACTIONAL = 2
    """A record of a transaction, committed or not: producers must not use transactions."""
    MALFORMED = 3
    """Not a valid event: not JSON, a field missing or out of bounds, or a subject that is not the record's key; or a
    record of a batch that cannot be unpacked."""
    WRONG_PARTITION = 4
    """Its key belongs to another partition of the log: the producer does not choose it by murmur2, as Kafka does."""
    UNKNOWN_TYPE = 5
    """A CloudEvent, but of a type that this log does not know."""
    CLOCK_SKEW = 6
    """Its `time` is more than 60 s ahead of its log time, or more than 10 minutes behind."""
    NO_SESSION = 7
    """Nothing lives under the key, and the id is unknown."""
    STALE_SESSION = 8
    """Another session lives under the key."""
    ENDED = 9
    """The session has ended."""
    VERSION_CONFLICT = 10
    """`if_version` is not the session's version."""
    EXISTS = 11
    """A session lives under the key already."""
    ID_REUSED = 12
    """The session id has been used before."""
    SUSPENDED = 13
    """The session is suspended."""
    ALREADY = 14
    """Nothing to do: already suspended, active, released, or it opens what is open, or another partition."""
    TOO_MANY = 15
    """The session has 16 holders."""
    NOT_DUE = 16
    """The deadline has not come."""
    HELD = 17
    """A job holds the session."""

    @property
    def is_untimed(self) -> bool:
        """Whether such a record is void before its log time counts: it does not even settle a session that is due."""
        return Verdict.APPLIED < self < Verdict.NO_SESSION

    @property
    def label(self) -> str:
        """The name as people and programs read it: `clock_skew`."""
        return self.name.lower()
