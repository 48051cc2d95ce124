"""Who is calling, and what that caller may do. The guard finds it out; no request can say it of itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from lastseen.http.problems import Problem


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


OTHER_KEYS = "this token is for other keys: the key must begin with the token's prefix"

ANYONE = Caller("anyone", frozenset(Scope))
"""Who calls a service that has no tokens; it listens on the loopback only."""


def caller_of(connection: HTTPConnection, scope: Scope, key: str | None = None) -> Caller:
    """The caller of a request that needs `scope`, for `key` if it is about one. Raises `Problem` 403.

    A key outside of the caller's prefix is refused before anything is looked up, so that neither the answer nor the
    time it takes depends on what is there.
    """
    caller: Caller = connection.scope["state"]["caller"]
    if not caller.may(scope):
        raise Problem(403, "forbidden", f"this token does not have the scope {scope.value}: use one that has it")
    if key is not None and not caller.covers(key):
        raise Problem(403, "forbidden", OTHER_KEYS)
    return caller
