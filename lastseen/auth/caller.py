"""A caller, and what it may do: as the guard has established it, never as a request claims."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Scope(enum.StrEnum):
    """What a token may be used for."""

    READ = "read"
    """Look: sessions, history, statistics, streams."""
    TOUCH = "touch"
    """Report activity: open, create, touch, hold, release."""
    MANAGE = "manage"
    """Decide over sessions: suspend, resume, rotate, close."""
    ADMIN = "admin"
    """Run the service: prune, snapshots, projections. Includes all of the others."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller, as the guard has recognised it."""

    name: str
    """The name of its token, for log lines; never the token itself."""
    scopes: frozenset[Scope]
    prefix: str = ""
    """All it may see or affect: the sessions whose keys begin so."""
    seed: bytes = field(default=b"", repr=False, compare=False)
    """What every instance knows of this caller, and nobody else can guess; empty where there are no tokens."""

    def may(self, scope: Scope) -> bool:
        """Whether it may do what needs `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def covers(self, key: str) -> bool:
        """Whether a key is within what it may see or affect."""
        return key.startswith(self.prefix)


ANONYMOUS = Caller("anyone", frozenset(Scope))
"""Who calls a service that has no tokens; it listens on the loopback only."""
