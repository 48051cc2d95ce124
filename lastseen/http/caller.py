"""The caller of a request, checked against the scope and the key that the request needs."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from lastseen.api.problems import Problem
from lastseen.auth.caller import Caller, Scope

OTHER_KEYS = "this token is for other keys: the key must begin with the token's prefix"


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
