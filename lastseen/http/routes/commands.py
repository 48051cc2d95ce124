"""Routes of what happens to a session: touch, suspend, resume, hold, release, rotate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries
from lastseen.api.paths import SESSIONS
from lastseen.api.requests import HoldRequest, ReasonRequest, ReleaseRequest, RotateRequest, TouchRequest
from lastseen.api.responses import Accepted, Session
from lastseen.auth.caller import Caller, Scope
from lastseen.engine.session import SessionView
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.key_paths import key_in
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import body_of, query_of
from lastseen.http.routes.sessions import if_match_version, once, policy_of
from lastseen.http.worker_threads import WorkerThreads

T = TypeVar("T", bound=msgspec.Struct)
_NO_BODY = TouchRequest()


_WAIT_APPLIED = queries.TouchQuery()


class Activity:
    """The handlers."""

    def __init__(self, workers: WorkerThreads) -> None:
        self._workers = workers
        self._engine = workers.engine

    async def touch(self, request: Request) -> Response:
        """Activity; with nothing to carry, together with all others of the moment."""
        key = key_in(request.path_params["key"])
        caller = caller_of(request, Scope.TOUCH, key)
        query = query_of(request, queries.TouchQuery) if request.scope["query_string"] else _WAIT_APPLIED
        has_no_body, has_terms = _scan_headers(request.scope["headers"])
        touch = _NO_BODY if has_no_body else await body_of(request, TouchRequest)
        is_plain = touch.attributes is None and touch.message is None and touch.policy is None
        if is_plain and query.wait == "applied" and not has_terms:
            return await self._response(await self._workers.touch(key, touch.session_id))

        async def execute(event_id: str | None) -> Response:
            touched = await self._workers.call(
                self._engine.touch,
                key,
                attributes=touch.attributes,
                message=touch.message,
                policy=policy_of(touch.policy),
                session_id=touch.session_id,
                if_version=self._version(request, key),
                wait=query.wait,
                event_id=event_id,
            )
            return responses.of_value({"accepted": True}, 202) if touched is None else await self._response(touched)

        return await once(self._workers, caller, request, execute)

    async def suspend(self, request: Request) -> Response:
        """Suspend."""
        return await self._execute(request, Scope.MANAGE, ReasonRequest, self._engine.suspend)

    async def resume(self, request: Request) -> Response:
        """Resume."""
        return await self._execute(request, Scope.MANAGE, ReasonRequest, self._engine.resume)

    async def hold(self, request: Request) -> Response:
        """Take or renew a lease."""
        return await self._execute(request, Scope.TOUCH, HoldRequest, self._engine.take_lease)

    async def release(self, request: Request) -> Response:
        """Release a lease."""
        return await self._execute(request, Scope.TOUCH, ReleaseRequest, self._engine.release)

    async def _execute(
        self, request: Request, scope: Scope, kind: type[msgspec.Struct], command: Callable[..., SessionView]
    ) -> Response:
        """A command with the fields of its body as arguments."""
        key, caller, body = await _key_caller_and_body(request, scope, kind)

        async def execute(_: str | None) -> Response:
            version = self._version(request, key)
            session = await self._workers.call(command, key, **msgspec.structs.asdict(body), if_version=version)
            return await self._response(session)

        return await once(self._workers, caller, request, execute)

    async def rotate(self, request: Request) -> Response:
        """End one and begin another in one step."""
        key, caller, body = await _key_caller_and_body(request, Scope.MANAGE, RotateRequest)

        async def execute(new_session_id: str | None) -> Response:
            begun = None if new_session_id is None else self._engine.get(key)
            if begun is not None and begun.session_id == new_session_id:
                # Another instance did it, or this one before a restart.
                response = await self._response(begun)
                response.headers["Idempotency-Replayed"] = "true"
                return response
            session = await self._workers.call(
                self._engine.rotate,
                key,
                reason=body.reason,
                attributes=body.attributes,
                policy=policy_of(body.policy),
                session_id=body.session_id,
                if_version=self._version(request, key),
                new_session_id=new_session_id,
            )
            return await self._response(session)

        return await once(self._workers, caller, request, execute)

    def _version(self, request: Request, key: str) -> int | None:
        return if_match_version(self._engine.get(key), request) if "if-match" in request.headers else None

    async def _response(self, session: SessionView) -> Response:
        if not session.is_whole:
            await self._workers.call(lambda: session.attributes)
        return responses.of_session(session, self._engine)


async def _key_caller_and_body(request: Request, scope: Scope, kind: type[T]) -> tuple[str, Caller, T]:
    key = key_in(request.path_params["key"])
    caller = caller_of(request, scope, key)
    return key, caller, await body_of(request, kind)


def _scan_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bool, bool]:
    """Whether a request has no body, and whether it has an `If-Match` or an `Idempotency-Key`. Most touches have none
    of these, and need no more."""
    has_no_body, has_terms = True, False
    for name, value in headers:
        if name in (b"if-match", b"idempotency-key"):
            has_terms = True
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            has_no_body = False
    return has_no_body, has_terms


def operations(workers: WorkerThreads) -> list[Operation]:
    """The operations."""
    handlers = Activity(workers)
    reflected = ("ETag", "Position", "Partitions", "Idempotency-Replayed")
    changed = {200: Success("The session, as it is now.", Session, reflected)}
    refused = (404, 409, 410, 412, 415)
    terms = ("If-Match", "Idempotency-Key")

    def path(verb: str) -> str:
        return f"{SESSIONS}/{{key}}/{verb}"

    return [
        Operation(
            "POST", path("touch"), "touchSession", handlers.touch, Scope.TOUCH, "Report activity",
            {**changed, 202: Success("It was accepted; the response does not wait for its outcome.", Accepted,
                                    ("Idempotency-Replayed",))},
            "The idle clock restarts. With `wait=appended` the response comes when the log has accepted it, with"
            " `wait=none` at once.", body=TouchRequest, body_example={"message": {"role": "user", "text": "hello"}},
            query=queries.TouchQuery, headers=terms, problems=refused, tag="activity",
        ),
        Operation(
            "POST", path("suspend"), "suspendSession", handlers.suspend, Scope.MANAGE, "Suspend a session", changed,
            "It neither idles out nor is evicted until it is resumed, or its `suspend_ttl_ms` has passed.",
            body=ReasonRequest, headers=terms, problems=refused, tag="activity",
        ),
        Operation(
            "POST", path("resume"), "resumeSession", handlers.resume, Scope.MANAGE, "Resume a suspended session",
            changed, "Counts as activity.", body=ReasonRequest, headers=terms, problems=refused, tag="activity",
        ),
        Operation(
            "POST", path("hold"), "holdSession", handlers.hold, Scope.TOUCH, "Take or renew a lease", changed,
            "The session does not idle out while a job holds it. The lease lapses by itself after `lease_ms`.",
            body=HoldRequest, needs_body=True, body_example={"holder": "summariser-7", "lease_ms": 60_000},
            headers=terms, problems=refused, tag="activity",
        ),
        Operation(
            "POST", path("release"), "releaseSession", handlers.release, Scope.TOUCH, "Release a lease", changed,
            body=ReleaseRequest, needs_body=True, body_example={"holder": "summariser-7"}, headers=terms,
            problems=refused, tag="activity",
        ),
        Operation(
            "POST", path("rotate"), "rotateSession", handlers.rotate, Scope.MANAGE,
            "End a session and begin another under its key", changed,
            "In one step. Attributes and limits carry over unless they are given.", body=RotateRequest,
            headers=terms, problems=refused, tag="activity",
        ),
    ]  # fmt: skip
