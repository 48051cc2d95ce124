"""`SessionMiddleware`: web sessions for Starlette, FastAPI and any other ASGI application.

    app.add_middleware(SessionMiddleware, sessions=WebSessions(engine))

`request.session` is then a `WebSession`. What a request has changed is in the log before the first byte of its response
goes out. What it changes afterwards, while a body is sent or a websocket is open, is saved when the application
returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lastseen.adapters.cookies import Cookie
from lastseen.adapters.web_session import WebSession
from lastseen.adapters.web_sessions import AsyncWebSessions, WebSessions

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
_FIRST = ("http.response.start", "websocket.accept", "websocket.http.response.start")
"""The events whose headers can set a cookie. The last one refuses a websocket with a response of one's own."""


class SessionMiddleware:
    """Gives each request its session, and saves it when the response begins and again when it has ended."""

    def __init__(
        self, app: Application, sessions: WebSessions | AsyncWebSessions, cookie: Cookie | None = None
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._cookie = cookie or Cookie()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        token = self._token(scope)
        exchange = _Exchange(self._sessions, self._cookie, token, await _found(self._sessions, token), send)
        scope["session"] = exchange.session
        await self._app(scope, receive, exchange.send)
        if exchange.session.has_begun_response or scope["type"] == "websocket":
            await exchange.save_late()

    def _token(self, scope: Scope) -> str | None:
        for name, value in scope["headers"]:
            if name == b"cookie":
                token = self._cookie.read(value.decode("latin-1"))
                if token is not None:
                    return token
        return None


class _Exchange:
    """One request and its response, with the session that it has."""

    def __init__(
        self,
        sessions: WebSessions | AsyncWebSessions,
        cookie: Cookie,
        came_with: str | None,
        session: WebSession,
        send: Send,
    ) -> None:
        self._sessions = sessions
        self._cookie = cookie
        self._came_with = came_with
        self._send = send
        self.session = session

    async def send(self, event: Event) -> None:
        """Pass an event of the response on; before the first, save the session."""
        if event["type"] in _FIRST and not self.session.has_begun_response:
            token = await self._save_or_undo()
            self.session.has_begun_response = True
            event = {**event, "headers": [*event.get("headers", ()), *self._headers(token)]}
        elif event["type"] == "websocket.close" and not self.session.has_begun_response:
            self._begin_without_headers()
        await self._send(event)

    async def save_late(self) -> None:
        """Save what has changed since the response began, or without one."""
        if not self.session.has_begun_response:
            self._begin_without_headers()
        await _finish(_save(self._sessions, self.session, self._came_with))

    def _begin_without_headers(self) -> None:
        # No token can be given to the visitor, so only what needs none is saved.
        self.session.has_begun_response = True
        self.session.drop_rotation()

    async def _save_or_undo(self) -> str | None:
        """Save, as a whole even if the request is cancelled meanwhile; then take back the token that cannot be sent."""
        saving = asyncio.ensure_future(_save(self._sessions, self.session, self._came_with))
        try:
            return await asyncio.shield(saving)
        except asyncio.CancelledError:
            await _finish(_undo_after(saving, self._sessions, self.session))
            raise

    def _headers(self, token: str | None) -> list[tuple[bytes, bytes]]:
        # What a response shows may depend on the session, so no cache may give it to another visitor.
        headers = [(b"vary", b"Cookie")]
        if token == self._came_with:
            return headers
        age_s = self._sessions.cookie_age_s(self.session)
        cookie = self._cookie.removed() if token is None else self._cookie.written(token, age_s)
        return [*headers, (b"set-cookie", cookie.encode("latin-1")), (b"cache-control", b"no-store")]


async def _found(sessions: WebSessions | AsyncWebSessions, token: str | None) -> WebSession:
    if isinstance(sessions, WebSessions):
        return await asyncio.to_thread(sessions.find, token)
    return await sessions.find(token)


async def _save(sessions: WebSessions | AsyncWebSessions, session: WebSession, token: str | None) -> str | None:
    if isinstance(sessions, WebSessions):
        return await asyncio.to_thread(sessions.save, session, token)
    return await sessions.save(session, token)


async def _undo_after(
    saving: asyncio.Future[str | None], sessions: WebSessions | AsyncWebSessions, session: WebSession
) -> None:
    await asyncio.wait([saving])
    if saving.exception() is not None:
        return
    if isinstance(sessions, WebSessions):
        await asyncio.to_thread(sessions.undo, session)
    else:
        await sessions.undo(session)


async def _finish(work: Awaitable[Any]) -> None:
    """Await it to its end, also where the caller is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.done():
                break
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
