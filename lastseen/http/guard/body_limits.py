"""Bodies of requests: read whole before anything is done, within bounds of bytes, nesting and time."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from lastseen.api.problems import Problem
from lastseen.auth.caller import ANONYMOUS, Caller

if TYPE_CHECKING:
    from starlette.types import Message, Receive

    from lastseen.http.guard.limits import Limits

_NOT_BRACKETS_OR_QUOTES = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
CLOSE = {"Connection": "close"}
"""With an answer that leaves the rest of a body unread."""


class ClientDisconnected(Exception):
    """The caller has disconnected in the middle of its request: no response can be sent."""


def is_too_deep(body: bytes, max_depth: int) -> bool:
    """Whether JSON is nested deeper than this. Says yes, too, to most of what is no JSON and may make a parser dive.

    Cheaper than parsing: it counts brackets, and only where there are many looks at how they are nested.
    """
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return False
    # What is escaped goes first, then no quote is left but those around strings. Strings without brackets are two
    # quotes by now; two strings next to each other become one, which changes nothing around them.
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    marks = plain.translate(_ONE_KIND, _NOT_BRACKETS_OR_QUOTES).replace(b'""', b"")
    nested = b"".join(marks.split(b'"')[::2]) if b'"' in marks else marks
    if b"[" * (max_depth + 1) in nested:
        return True
    for _ in range(max_depth):
        # Each round takes away the innermost level, wherever it is.
        shorter = nested.replace(b"[]", b"")
        if len(shorter) == len(nested):
            break
        nested = shorter
    opened = nested.count(b"[")
    # What is left over: deeper levels, or brackets that do not match, where a parser stops before it gets deep.
    return opened > max_depth or 2 * opened == len(nested) > 0


class BodyReader:
    """Reads bodies, and knows how many bytes of them there are at the moment."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0
        self._held_by_token: Counter[str] = Counter()
        """Name of a token → the bytes of its bodies, while it has any."""
        self._share_bytes = max(limits.max_waiting_body_bytes // 2, limits.max_body_bytes)
        """What one token may hold of all: two cannot be kept out by a third."""

    async def read(self, receive: Receive, declared_bytes: int | None, caller: Caller) -> bytes:
        """The whole body of a request. Raises `Problem` 408, 413, 422 or 503, and `ClientGone`.

        The body counts as held until it is passed to `release`.
        """
        limits = self._limits
        if declared_bytes is not None and declared_bytes > limits.max_body_bytes:
            raise self._too_large()
        if declared_bytes is not None:
            self._check_room(caller, declared_bytes)
        chunks: list[bytes] = []
        held_bytes = 0
        try:
            async with asyncio.timeout(limits.upload_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected
                    chunk: bytes = message.get("body", b"")
                    chunks.append(chunk)
                    held_bytes += len(chunk)
                    self._hold(caller, len(chunk))
                    if held_bytes > limits.max_body_bytes:
                        raise self._too_large()
                    self._check_room(caller, 0)
                    if not message.get("more_body", False):
                        break
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if is_too_deep(body, limits.max_json_depth):
                raise Problem(
                    422,
                    "too-deep",
                    f"the body is nested deeper than {limits.max_json_depth} levels, or its brackets do not match",
                )
            return body
        except TimeoutError:
            self._hold(caller, -held_bytes)
            raise Problem(
                408,
                "upload-too-slow",
                f"the body did not arrive within {limits.upload_s:g} s: nothing was done, send it again",
                headers=CLOSE,
            ) from None
        except BaseException:
            self._hold(caller, -held_bytes)
            raise

    def release(self, body: bytes, caller: Caller) -> None:
        """The request is over: its body counts as held no longer."""
        self._hold(caller, -len(body))

    def _hold(self, caller: Caller, more_bytes: int) -> None:
        self.held_bytes += more_bytes
        self._held_by_token[caller.name] += more_bytes
        if not self._held_by_token[caller.name]:
            del self._held_by_token[caller.name]

    def _check_room(self, caller: Caller, more_bytes: int) -> None:
        of_token = self._held_by_token[caller.name] + more_bytes
        if self.held_bytes + more_bytes > self._limits.max_waiting_body_bytes or (
            caller is not ANONYMOUS and of_token > self._share_bytes
        ):
            raise self._too_much_held()

    def _too_large(self) -> Problem:
        return Problem(
            413,
            "body-too-large",
            f"the body is larger than {self._limits.max_body_bytes} bytes: send it in smaller parts",
            headers=CLOSE,
        )

    def _too_much_held(self) -> Problem:
        return Problem(
            503,
            "overloaded",
            "too many large bodies are in progress: nothing was done, try again in a second",
            headers={"Retry-After": "1", **CLOSE},
        )


class ReplayedBody:
    """Hands a body that was read already to the application; after it, whatever the caller does next."""

    __slots__ = ("_body", "_receive")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}
