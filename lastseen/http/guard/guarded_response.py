"""One request and its answer, as the guard sees them: what was sent, and what happens when it takes too long.

The work on a request is never cancelled for being slow: an append may be in progress, and a response that said
otherwise would be wrong. The caller gets a time-out, which says that the outcome is unknown; the work continues to its
end, and counts against the limit on requests until then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lastseen.api.problems import Problem, problem_of
from lastseen.engine.errors import OutcomeUnknown
from lastseen.http.guard.security_headers import Fields, refuse, with_security_headers

if TYPE_CHECKING:
    from starlette.types import Message, Scope, Send


class TokenRevoked(Exception):
    """The token of an open stream was revoked, or has expired: the stream ends."""


_READS = frozenset(["GET", "HEAD", "OPTIONS"])


class GuardedResponse:
    """The sending side of one request."""

    __slots__ = (
        "_is_finished",
        "_send",
        "_task",
        "_timeout_response",
        "_timer",
        "extra_headers",
        "is_token_valid",
        "scope",
        "status",
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self.extra_headers: Fields = []
        """Header fields that the answer gets besides."""
        self.status = 0
        """Of the answer; 0 before it has begun."""
        self.is_token_valid: Callable[[], bool] | None = None
        """Asked before each piece of a stream: whether its caller may hear it still."""
        self._is_finished = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._timeout_response: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Send a message of the application."""
        if self._is_finished:
            return  # the caller got a time-out
        if message["type"] == "http.response.start":
            message = self._with_security_headers(message)
        elif self.is_token_valid is not None and not self.is_token_valid():
            await self._end_stream()
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.end()

    async def _end_stream(self) -> None:
        if not self._is_finished:
            self._is_finished = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        raise TokenRevoked

    def _with_security_headers(self, message: Message) -> Message:
        self.status = message["status"]
        fields = with_security_headers(message.get("headers", []), self.extra_headers, self.scope["scheme"] == "https")
        return {**message, "headers": fields}

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, if nothing was answered yet."""
        if self.status == 0 and not self._is_finished:
            await refuse(self.send, problem, self.scope["method"] == "HEAD")

    def start_timer(self, seconds: float) -> None:
        """From now on the answer may take this long."""
        self._task = asyncio.current_task()
        current_response.set(self)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_out, seconds)

    def end(self) -> None:
        """The application is done."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def timed_out(self) -> bool:
        """Whether the caller got a time-out."""
        return self._timeout_response is not None

    @property
    def lost_its_token(self) -> bool:
        """Whether this is a stream that was ended since its caller may not hear it any more."""
        return self._is_finished and self.is_token_valid is not None

    @property
    def was_aborted(self) -> bool:
        """Whether the caller was too slow to read the response, and its connection is closed."""
        return self._is_finished and self._timeout_response is None

    def _time_out(self, seconds: float) -> None:
        self._is_finished = True
        if self.status == 0:
            # Through a task, for `send` may wait; kept here, since the loop holds tasks only weakly.
            self._timeout_response = asyncio.get_running_loop().create_task(self._send_timeout(seconds))
        elif self._task is not None:
            # The answer has begun, so the work is done, and all that is left is a caller that does not take it.
            self._task.cancel()

    async def _send_timeout(self, seconds: float) -> None:
        if self.scope["method"] in _READS:
            problem = Problem(
                503,
                "too-slow",
                f"the response took longer than {seconds:g} s: try again later, or request less at a time",
                headers={"Retry-After": "1"},
            )
        else:
            problem = problem_of(
                OutcomeUnknown(
                    f"the response took longer than {seconds:g} s; the request is still in progress, and may or may"
                    " not take effect: read before you try again"
                )
            )

        async def send(message: Message) -> None:
            await self._send(
                self._with_security_headers(message) if message["type"] == "http.response.start" else message
            )

        await refuse(send, problem, self.scope["method"] == "HEAD")


current_response: ContextVar[GuardedResponse | None] = ContextVar("current_response", default=None)
"""The response that the current request waits for: what only reads asks it whether its caller still does."""
