"""Routes of sessions as such: open, look, list, end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries
from lastseen.api.paths import SESSIONS, path_of
from lastseen.api.points_in_time import time_or_none
from lastseen.api.positions import position_text, positions_in
from lastseen.api.problem_document import EndedSession
from lastseen.api.problems import Problem
from lastseen.api.requests import CloseRequest, Limits, OpenRequest
from lastseen.api.responses import Session, SessionPage
from lastseen.auth.caller import Caller, Scope
from lastseen.engine.arguments import ANY
from lastseen.engine.durations import UNCHANGED, Limit, with_limits
from lastseen.engine.errors import SessionExists, SnapshotError
from lastseen.engine.identifiers import new_session_id
from lastseen.engine.log.port import Position
from lastseen.engine.session import Policy, SessionView
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.etags import check_match, etag_of, tags_in, version_in_if_match
from lastseen.http.idempotency import different_body
from lastseen.http.key_paths import key_in
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import body_of, or_any, or_none, point_in_time_of_key, query_of
from lastseen.http.worker_threads import WorkerThreads
from lastseen.projections.live_view import Page
from lastseen.projections.session_spans import SessionSpan

MAX_OPEN_ATTEMPTS = 4
"""How often opening looks again: between the look and the creation another caller may create, and end, a session."""


def policy_of(limits: Limits | None) -> Policy | None:
    """The engine's policy from what a caller sent."""
    if limits is None:
        return None
    return Policy(**{name: getattr(limits, name) for name in limits.__struct_fields__})


def limits_of(wanted: OpenRequest) -> dict[str, Limit]:
    """The single limits that a caller sent."""
    sent = {"idle_ttl": wanted.idle_ttl, "max_age": wanted.max_age, "suspend_ttl": wanted.suspend_ttl}
    return {name: UNCHANGED if value is UNSET else value for name, value in sent.items()}


async def reach(workers: WorkerThreads, min_position: queries.MinPosition, key: str | None = None) -> None:
    """Wait for the positions that a caller has seen, of the key's partition or of those that a listing covers.

    Other positions have no part in the answer. Raises `Problem`, and `NotOwner` where the key is another engine's.
    """
    if min_position is not UNSET:
        engine = workers.engine
        partitions = engine.partitions().served if key is None else {engine.partition_of(key)}
        await workers.reach(positions_in("min_position", min_position), partitions)


def ended_of(life: SessionSpan) -> EndedSession:
    """How a session ended, for the answer."""
    assert life.ended_at_ms is not None
    assert life.reason is not None
    place = None if life.ended_offset is None else position_text(Position(life.partition, life.ended_offset))
    return EndedSession(life.session_id, life.began_at_ms, life.ended_at_ms, life.reason, place, life.ended_by)


def no_live_session(key: str, life: SessionSpan | None) -> Problem:
    """Nothing lives under a key: 410 with when, why and by which record, or 404 if nothing ever did."""
    if life is None or life.ended_at_ms is None:
        return Problem(
            404, "session-not-found", "no session lives or ever lived under this key",
            members={"error": "SessionNotFound"},
        )  # fmt: skip
    ended = ended_of(life)
    where = "no record says so yet" if ended.position is None else f"record {ended.position} says so"
    return Problem(
        410, "session-ended", f"the session under this key has ended: {ended.reason}; {where}",
        members={"error": "SessionEnded", "ended": ended},
    )  # fmt: skip


class Sessions:
    """The handlers."""

    def __init__(self, workers: WorkerThreads) -> None:
        self._workers = workers
        self._engine = workers.engine

    # ── opening ──

    async def open(self, request: Request) -> Response:
        """Open or create."""
        caller = caller_of(request, Scope.TOUCH)
        wanted = await body_of(request, OpenRequest)
        caller_of(request, Scope.TOUCH, wanted.key)
        return await once(
            self._workers, caller, request, lambda session_id: self._workers.call(self._open, wanted, session_id)
        )

    def _open(self, wanted: OpenRequest, session_id: str | None) -> Response:
        """`session_id` is for the session that is created. If one has it, an earlier request with the key made that."""
        policy, limits = policy_of(wanted.policy), limits_of(wanted)
        earlier_session = None if session_id is None else self._engine.get_by_id(session_id)
        if earlier_session is not None and earlier_session.key != wanted.key:
            raise different_body()
        for attempt in range(MAX_OPEN_ATTEMPTS):
            found = self._engine.get(wanted.key)
            if found is not None and found.session_id == session_id:
                return self._created_before(found, wanted, policy)
            if found is not None and wanted.if_exists == "open" and not wanted.touch:
                return self._response(found)
            try:
                if wanted.touch and wanted.if_exists == "open":
                    # The engine decides in one step whether it touches or creates.
                    chosen = session_id or new_session_id()
                    opened = self._engine.open(
                        wanted.key, attributes=wanted.attributes, policy=policy, touch=True, session_id=chosen, **limits
                    )
                    if opened.session_id != chosen:
                        return self._response(opened)
                    return self._response(opened, 201, {"Location": path_of(wanted.key)})
                created = self._engine.create(
                    wanted.key, attributes=wanted.attributes, policy=policy, session_id=session_id, **limits
                )
            except SessionExists:
                earlier = self._engine.get(wanted.key)
                if earlier is not None and earlier.session_id == session_id:
                    # Another instance made it, or an earlier try that did not hear of it.
                    return self._created_before(earlier, wanted, policy)
                if earlier is None and session_id is not None:
                    self._check_not_ended(wanted.key, session_id)
                if wanted.if_exists == "refuse" or attempt == MAX_OPEN_ATTEMPTS - 1:
                    raise
            else:
                return self._response(created, 201, {"Location": path_of(wanted.key)})
        raise AssertionError

    def _created_before(self, session: SessionView, wanted: OpenRequest, policy: Policy | None) -> Response:
        """The answer to a request that was carried out before, here or on another instance."""
        is_untouched = session.version == 1
        limits = with_limits(policy or session.policy, **limits_of(wanted))
        differs = dict(session.attributes) != (wanted.attributes or {}) or limits != session.policy
        if is_untouched and differs:
            raise different_body()
        return self._response(session, 201, {"Location": path_of(wanted.key), "Idempotency-Replayed": "true"})

    def _check_not_ended(self, key: str, session_id: str) -> None:
        life = self._engine.last_session_span(key)
        if life is not None and life.session_id == session_id and life.ended_at_ms is not None:
            raise no_live_session(key, life)

    def _response(self, session: SessionView, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        members = _previous_of(session) if status == HTTPStatus.CREATED else {}
        return responses.of_session(session, self._engine, status, headers, members)

    # ── looking ──

    async def get(self, request: Request) -> Response:
        """Look at one."""
        key = key_in(request.path_params["key"])
        caller_of(request, Scope.READ, key)
        if request.scope["query_string"]:
            query = query_of(request, queries.ReadQuery)
            await reach(self._workers, query.min_position, key)
            if query.as_of is not UNSET:
                return await self._workers.read_past(self._as_of, key, query.as_of)
        session = self._engine.get(key)
        if session is None:
            raise no_live_session(key, await self._workers.call(self._engine.last_session_span, key))
        check_match(request.headers.get("if-match"), session.version)
        if_none_match = request.headers.get("if-none-match")
        if if_none_match is not None:
            tags = tags_in("If-None-Match", if_none_match.replace("W/", ""))
            if tags is None or str(session.version) in tags:
                return responses.nothing(304, {"ETag": etag_of(session.version)})
        if not session.is_whole:
            return await self._workers.call(self._response, session)
        return self._response(session)

    def _as_of(self, key: str, text: str) -> Response:
        at = point_in_time_of_key(self._engine, key, "as_of", text)
        session = self._engine.as_of(key, at)
        if session is None:
            raise Problem(
                404, "session-not-found", "no session lived under this key then", members={"error": "SessionNotFound"}
            )
        return self._response(session)

    async def list(self, request: Request) -> Response:
        """List live ones."""
        caller = caller_of(request, Scope.READ)
        wanted = query_of(request, queries.ListQuery)
        await reach(self._workers, wanted.min_position)
        prefix = narrow_prefix(caller.prefix, or_none(wanted.prefix) or "")
        if prefix is None:
            return responses.of_value({"sessions": [], "cursor": None})
        return await self._workers.call(self._list, wanted, prefix, caller.prefix)

    def _list(self, wanted: queries.ListQuery, prefix: str, own: str) -> Response:
        if own:
            # Else the time that it takes would tell of the sessions of others.
            self._engine.register_prefixes([own])
        page: Page = self._engine.list(
            sort=wanted.sort, status=or_any(wanted.status), prefix=prefix or ANY, owner=or_any(wanted.owner),
            since_ms=time_or_none("since", wanted.since), until_ms=time_or_none("until", wanted.until),
            limit=wanted.limit, cursor=or_none(wanted.cursor),
        )  # fmt: skip
        body = {"sessions": [session.as_dict() for session in page.sessions], "cursor": page.cursor}
        partitions = {session.partition for session in page.sessions}
        return responses.of_value(body, headers=responses.reflecting(self._engine, partitions))

    # ── ending ──

    async def delete(self, request: Request) -> Response:
        """End one."""
        key = key_in(request.path_params["key"])
        caller = caller_of(request, Scope.MANAGE, key)
        closing = query_of(request, CloseRequest)
        return await once(self._workers, caller, request, lambda _: self._close(request, key, closing))

    async def close(self, request: Request) -> Response:
        """End one, with a body that says why."""
        key = key_in(request.path_params["key"])
        caller = caller_of(request, Scope.MANAGE, key)
        closing = await body_of(request, CloseRequest)
        return await once(self._workers, caller, request, lambda _: self._close(request, key, closing))

    async def _close(self, request: Request, key: str, closing: CloseRequest) -> Response:
        version = if_match_version(self._engine.get(key), request)
        await self._workers.call(
            self._engine.close, key, reason=closing.reason, session_id=or_none(closing.session_id), if_version=version
        )
        return responses.nothing(204, responses.reflecting(self._engine, [self._engine.partition_of(key)]))


def _previous_of(session: SessionView) -> dict[str, Any]:
    """How the session before ended, if it is known. The new one has begun, whether the history can be read or not."""
    try:
        previous = session.previous
    except SnapshotError:
        return {}
    return {} if previous is None else {"previous": previous._asdict()}


def if_match_version(current: SessionView | None, request: Request) -> int | None:
    """The version that a command is pinned to by `If-Match`."""
    return version_in_if_match(request.headers.get("if-match"), None if current is None else current.version)


async def once(
    workers: WorkerThreads,
    caller: Caller,
    request: Request,
    execute: Callable[[str | None], Awaitable[Response]],
) -> Response:
    """The answer of `execute`, or that which an earlier request with the same `Idempotency-Key` got.

    `execute` is handed an id that follows from the key, for what it writes; `None` where the request has no key.
    """
    name = request.headers.get("idempotency-key")
    if name is None:
        return await execute(None)
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    asked = "\n".join((request.method, path, query, request.headers.get("if-match", ""), "")).encode()
    return await workers.idempotency.once(caller, name, asked + await request.body(), execute)


def narrow_prefix(own: str, requested: str) -> str | None:
    """The prefix of a listing for a caller that sees the prefix `own` only; `None` where nothing can be in both."""
    if requested.startswith(own):
        return requested
    return own if own.startswith(requested) else None


def operations(workers: WorkerThreads) -> list[Operation]:
    """The operations."""
    sessions = Sessions(workers)
    session = Success("The session.", Session, ("ETag", "Position", "Partitions"))
    opened = ("ETag", "Position", "Partitions", "Idempotency-Replayed")
    to_session = {
        "look": {"operationId": "getSession", "parameters": {"key": "$response.body#/key"}},
        "touch": {"operationId": "touchSession", "parameters": {"key": "$response.body#/key"}},
        "close": {"operationId": "closeSession", "parameters": {"key": "$response.body#/key"}},
        "explain": {"operationId": "explainSession", "parameters": {"key": "$response.body#/key"}},
    }
    gone = Success("It has ended.", headers=("Position", "Partitions", "Idempotency-Replayed"))
    return [
        Operation(
            "GET", f"{SESSIONS}/{{key}}", "getSession", sessions.get, Scope.READ, "Read a session",
            {200: session, 304: Success("It has the version that If-None-Match names.", headers=("ETag",))},
            "A peek: it never touches. For a session that has ended the response is 410, with when, why, and by"
            " which record.",
            query=queries.ReadQuery, headers=("If-Match", "If-None-Match"), problems=(404, 409, 410, 412),
        ),
        Operation(
            "POST", SESSIONS, "openSession", sessions.open, Scope.TOUCH, "Open a session",
            {
                200: Success("A live session existed.", Session, opened),
                201: Success("It was created.", Session, (*opened, "Location")),
            },
            "The session that lives under the key, or a new one. Opening a live one does not touch it, unless `touch`"
            " is true: then it is touched in the same step, and no eviction comes between opening it and using it.",
            body=OpenRequest, needs_body=True,
            body_example={"key": "discord:guild1:chan2:user3", "attributes": {"owner": "user3"}},
            headers=("Idempotency-Key",), problems=(409, 410, 415), links={200: to_session, 201: to_session},
        ),
        Operation(
            "GET", SESSIONS, "listSessions", sessions.list, Scope.READ, "List live sessions",
            {200: Success("One page.", SessionPage, ("Position", "Partitions"))},
            "Visits every live session, or those of one owner.", query=queries.ListQuery, problems=(409,),
        ),
        Operation(
            "DELETE", f"{SESSIONS}/{{key}}", "deleteSession", sessions.delete, Scope.MANAGE, "End a session",
            {204: gone}, query=CloseRequest, headers=("If-Match", "Idempotency-Key"), problems=(404, 409, 410, 412),
        ),
        Operation(
            "POST", f"{SESSIONS}/{{key}}/close", "closeSession", sessions.close, Scope.MANAGE,
            "End a session, saying why", {204: gone}, body=CloseRequest, body_example={"reason": "logout"},
            headers=("If-Match", "Idempotency-Key"), problems=(404, 409, 410, 412, 415),
        ),
    ]  # fmt: skip
