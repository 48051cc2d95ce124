"""Routes of the past: records and lives of a key, why it lives or ended, its messages."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries
from lastseen.api.paths import ENDED, SESSIONS
from lastseen.api.points_in_time import time_or_none
from lastseen.api.problems import Problem
from lastseen.api.responses import EndedPage, Explanation, HistoryPage, Message, Messages, Record, SessionSpan
from lastseen.auth.caller import Scope
from lastseen.engine.arguments import ANY
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.key_paths import key_in
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import or_any, or_none, point_in_time_of_key, query_of
from lastseen.http.routes.sessions import narrow_prefix, reach
from lastseen.http.worker_threads import WorkerThreads
from lastseen.projections import session_spans


class KeyHistory:
    """The handlers."""

    def __init__(self, workers: WorkerThreads) -> None:
        self._workers = workers
        self._engine = workers.engine

    async def history(self, request: Request) -> Response:
        """A page of records, or of lives."""
        key, query = await self._key_and_query(request, queries.HistoryQuery)
        return await self._workers.call(self._session_spans if query.of == "lives" else self._history, key, query)

    def _history(self, key: str, query: queries.HistoryQuery) -> Response:
        # One more than asked for tells whether there is another page.
        if query.owner is not UNSET:
            raise Problem(422, "invalid-parameter", "owner: it chooses among lives; add of=lives")
        found = self._engine.history(
            key, after_offset=query.after, since_ms=time_or_none("since", query.since),
            until_ms=time_or_none("until", query.until), limit=query.limit + 1,
        )  # fmt: skip
        rows = [Record(**(entry._asdict() | {"verdict": entry.verdict.label})) for entry in found[: query.limit]]
        return responses.of_value(HistoryPage(rows[-1].offset if len(found) > query.limit else None, records=rows))

    def _session_spans(self, key: str, query: queries.HistoryQuery) -> Response:
        found = self._engine.session_spans(
            key, after_offset=query.after, since_ms=time_or_none("since", query.since),
            until_ms=time_or_none("until", query.until), owner=or_any(query.owner), limit=query.limit + 1,
        )  # fmt: skip
        spans = [_span(life) for life in found[: query.limit]]
        cursor = spans[-1].began_offset if len(found) > query.limit else None
        return responses.of_value(HistoryPage(cursor, lives=spans))

    async def explain(self, request: Request) -> Response:
        """Why."""
        key, query = await self._key_and_query(request, queries.ExplainQuery)
        return await self._workers.call(self._explain, key, query, caller_of(request, Scope.READ, key).prefix)

    def _explain(self, key: str, query: queries.ExplainQuery, within: str) -> Response:
        at = None if query.at is UNSET else point_in_time_of_key(self._engine, key, "at", query.at)
        found = self._engine.explain(key, at=at, session_id=or_none(query.session_id), within=within)
        # Not `asdict`, which would make a plain object of the limits.
        return responses.of_value(Explanation(**{field.name: getattr(found, field.name) for field in fields(found)}))

    async def ended(self, request: Request) -> Response:
        """A page of ended sessions."""
        caller = caller_of(request, Scope.READ)
        query = query_of(request, queries.EndedQuery)
        await reach(self._workers, query.min_position)
        prefix = narrow_prefix(caller.prefix, or_none(query.prefix) or "")
        if prefix is None:
            return responses.of_value(EndedPage([], None))
        return await self._workers.call(self._ended, query, prefix)

    def _ended(self, query: queries.EndedQuery, prefix: str) -> Response:
        found = self._engine.ended_sessions(
            owner=or_any(query.owner),
            prefix=prefix or ANY,
            since_ms=time_or_none("since", query.since),
            until_ms=time_or_none("until", query.until),
            reason=or_any(query.reason),
            limit=query.limit,
            cursor=or_none(query.cursor),
        )
        return responses.of_value(EndedPage([_span(span) for span in found.spans], found.cursor))

    async def messages(self, request: Request) -> Response:
        """The newest messages, now or then."""
        key, query = await self._key_and_query(request, queries.ReadQuery)
        as_of = or_none(query.as_of)
        call = self._workers.call if as_of is None else self._workers.read_past
        found = await call(self._messages, key, as_of)
        return responses.of_value(Messages(found))

    def _messages(self, key: str, as_of: str | None) -> list[Message]:
        if as_of is None:
            found = self._engine.messages(key)
        else:
            found = self._engine.messages_as_of(key, point_in_time_of_key(self._engine, key, "as_of", as_of))
        return [Message(each.offset, each.event_id, each.at_ms, msgspec.Raw(each.json)) for each in found]

    async def _key_and_query(self, request: Request, kind: type[Any]) -> tuple[str, Any]:
        key = key_in(request.path_params["key"])
        caller_of(request, Scope.READ, key)
        query = query_of(request, kind)
        await reach(self._workers, query.min_position, key)
        return key, query


def _span(span: session_spans.SessionSpan) -> SessionSpan:
    return SessionSpan(**span._asdict(), limit_ms=span.limit_ms)


def operations(workers: WorkerThreads) -> list[Operation]:
    """The operations."""
    handlers = KeyHistory(workers)
    return [
        Operation(
            "GET", f"{SESSIONS}/{{key}}/history", "readHistory", handlers.history, Scope.READ,
            "Every record of a key, or each of its sessions", {200: Success("One page.", HistoryPage)},
            "In the order of the log, each record with its verdict.", query=queries.HistoryQuery, tag="past",
            problems=(409,),
        ),
        Operation(
            "GET", f"{SESSIONS}/{{key}}/explain", "explainSession", handlers.explain, Scope.READ,
            "Why a session lives, and until when; or why it ended", {200: Success("Why.", Explanation)},
            "Works for any key: one that no record names is `unknown`. With `at` it is about the session of that time,"
            " as it was then, and says what became of it since; with `session_id` about that very session.",
            query=queries.ExplainQuery, tag="past", problems=(404, 409),
        ),
        Operation(
            "GET", ENDED, "listEndedSessions", handlers.ended, Scope.READ, "List ended sessions",
            {200: Success("One page, the latest end first.", EndedPage)},
            "By owner, prefix, time and reason. A session that is due is among them once a record has ended it.",
            query=queries.EndedQuery, tag="past", problems=(409,),
        ),
        Operation(
            "GET", f"{SESSIONS}/{{key}}/messages", "readMessages", handlers.messages, Scope.READ,
            "The newest messages of a session", {200: Success("The messages, oldest first.", Messages)},
            "Of the live one, or with `as_of` of the one that lived then.", query=queries.ReadQuery, tag="past",
            problems=(404, 409),
        ),
    ]  # fmt: skip
