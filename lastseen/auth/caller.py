"""A caller and its rights, as the guard has authenticated it, never as a request claims."""

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
    """An authenticated caller."""

    name: str
    """The name of its token, for log lines; never the token itself."""
    scopes: frozenset[Scope]
    prefix: str = ""
    """It may read and change only sessions whose keys begin with this text."""
    seed: bytes = field(default=b"", repr=False, compare=False)
    """A secret of this caller that every instance knows; empty if there are no tokens."""

    def may(self, scope: Scope) -> bool:
        """Whether it has `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def covers(self, key: str) -> bool:
        """Whether it may read and change sessions under a key."""
        return key.startswith(self.prefix)


ANONYMOUS = Caller("anyone", frozenset(Scope))
"""The caller of a service without tokens, which listens on the loopback only."""
