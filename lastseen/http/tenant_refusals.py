"""The error of a tenant's command that was pinned to a session which does not live under the key.

The engine knows an ended session by its id alone. A tenant that named the id of another tenant's session would learn
from the response whether that one has ended; so for callers with a prefix only the sessions of the key itself count.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from lastseen.auth.caller import Caller
from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LastseenError, SessionEnded, SessionNotFound, StaleSession
from lastseen.engine.refusals import refusal
from lastseen.engine.verdicts import Verdict
from lastseen.http.key_paths import key_in
from lastseen.http.worker_threads import WorkerThreads

PAGE_SPANS = 1_000
_NOT_LIVE = (SessionEnded, SessionNotFound, StaleSession)


class _Pinned(msgspec.Struct):
    """What is read of a body again."""

    session_id: str | None = None


async def refusal_for(request: Request, error: LastseenError) -> LastseenError:
    """The error that the caller of a request may see in place of `error`: usually `error` itself.

    All errors that may depend on the id take the same way, so that the time does not tell either.
    """
    caller: Caller | None = request.scope.get("state", {}).get("caller")
    if caller is None or not caller.prefix or not isinstance(error, _NOT_LIVE) or "key" not in request.path_params:
        return error
    session_id = await _pinned_to(request)
    if session_id is None:
        return error
    key = key_in(request.path_params["key"])
    workers: WorkerThreads = request.app.state.workers
    try:
        return await workers.call(_refusal_under_key, workers.engine, key, session_id, error)
    except LastseenError as failed:
        return failed


async def _pinned_to(request: Request) -> str | None:
    named: str | None = request.query_params.get("session_id")
    body = await request.body()
    if named is not None or not body:
        return named
    try:
        return msgspec.json.decode(body, type=_Pinned).session_id
    except msgspec.MsgspecError:
        return None  # the route takes no body, and has looked at none


def _refusal_under_key(engine: Engine, key: str, session_id: str, error: LastseenError) -> LastseenError:
    if _has_lived(engine, key, session_id):
        return error
    return refusal(Verdict.NO_SESSION if engine.get(key) is None else Verdict.STALE_SESSION, key)


def _has_lived(engine: Engine, key: str, session_id: str) -> bool:
    after = -1
    while lives := engine.session_spans(key, after_offset=after, limit=PAGE_SPANS):
        if any(life.session_id == session_id for life in lives):
            return True
        after = lives[-1].began_offset
    return False
