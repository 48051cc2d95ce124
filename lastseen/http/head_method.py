"""`HEAD`: what `GET` would answer, without its body (RFC 9110, 9.3.2)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

GET, HEAD = "GET", "HEAD"


def methods_of(method: str) -> set[str]:
    """The methods that a route for this one takes: what can be read, can be looked at."""
    return {method, HEAD} if method == GET else {method}


class HeadResponses:
    """Middleware that keeps the body of an answer to `HEAD` back; its header fields say what `GET` would send.

    Servers do so themselves; other callers of the application, such as tests and gateways in this process, do not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == HEAD
        await self._app(scope, receive, _without_body(send) if is_head else send)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head
