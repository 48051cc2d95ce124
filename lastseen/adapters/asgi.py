"""`SessionMiddleware`: web sessions for Starlette, FastAPI and any other ASGI application.

    app.add_middleware(SessionMiddleware, sessions=WebSessions(engine))

`request.session` is then a `WebSession`. What a request has changed is in the log before the first byte of its answer
goes out; changes that are made while the body is being sent are not saved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lastseen.adapters.cookies import Cookie
from lastseen.adapters.web_sessions import WebSessions

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
_FIRST = ("http.response.start", "websocket.accept")


class SessionMiddleware:
    """Gives each request its session, and saves it when the answer begins."""

    def __init__(self, app: Application, sessions: WebSessions, cookie: Cookie | None = None) -> None:
        self._app = app
        self._sessions = sessions
        self._cookie = cookie or Cookie()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        came_with = self._token(scope)
        session = scope["session"] = await asyncio.to_thread(self._sessions.find, came_with)
        is_saved = False

        async def save_and_send(event: Event) -> None:
            nonlocal is_saved
            if event["type"] in _FIRST and not is_saved:
                is_saved = True
                token = await asyncio.to_thread(self._sessions.save, session, came_with if session.view else None)
                event["headers"] = [*event.get("headers", ()), *self._headers(came_with, token)]
            await send(event)

        await self._app(scope, receive, save_and_send)

    def _token(self, scope: Scope) -> str | None:
        for name, value in scope["headers"]:
            if name == b"cookie":
                token = self._cookie.read(value.decode("latin-1"))
                if token is not None:
                    return token
        return None

    def _headers(self, came_with: str | None, token: str | None) -> list[tuple[bytes, bytes]]:
        # What an answer shows may depend on the session, so no cache may give it to another visitor.
        headers = [(b"vary", b"Cookie")]
        if token == came_with:
            return headers
        cookie = self._cookie.removed() if token is None else self._cookie.written(token)
        return [*headers, (b"set-cookie", cookie.encode("latin-1")), (b"cache-control", b"no-store")]
