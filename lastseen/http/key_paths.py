"""Session keys in paths. A key may hold any character but control characters: slashes, percent signs, question marks.

Servers decode the path before they route, and then `a/touch` as a key and `touch` as a verb look the same. So under
`/v1/sessions/` the path is matched as it was sent: a key is one segment, percent-encoded, `/` in it as `%2F`.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from lastseen.api.paths import SESSIONS
from lastseen.api.problems import Problem

_RAW = f"{SESSIONS}/".encode()


class RawKeyPaths:
    """Middleware that has such paths matched as they were sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes | None = scope.get("raw_path")
            if raw is not None and _RAW in raw:
                # In place: the access log reads the route from this same scope.
                scope["path"] = raw.decode("latin-1")
        await self._app(scope, receive, send)


def key_in(segment: str) -> str:
    """The key that a segment of a raw path stands for. Raises `Problem` 422 where it is no UTF-8."""
    if "%" not in segment and segment.isascii():
        return segment
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise Problem(
            422, "invalid-key", "the session key in the path is not UTF-8: percent-encode it as UTF-8"
        ) from None
