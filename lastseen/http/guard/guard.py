"""The guard before the routes: it authenticates callers and enforces the limits on requests.

One piece of plain ASGI middleware, since every request passes it. What it refuses it refuses before the body is read,
cheapest first: host and page, size of the head, token, rate, load. Tokens are taken from the `Authorization` field and
never from an address, which ends up in logs and histories.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from lastseen.api.paths import EVENT_STREAM
from lastseen.api.problem_document import TYPES
from lastseen.api.problems import Problem
from lastseen.auth.caller import ANONYMOUS, Caller
from lastseen.auth.token_file import TokenFile
from lastseen.http.guard.access_log import Write, access_line, write_json
from lastseen.http.guard.body_limits import CLOSE, BodyReader, ClientDisconnected, ReplayedBody
from lastseen.http.guard.concurrency import ConcurrencyLimit
from lastseen.http.guard.guarded_response import GuardedResponse
from lastseen.http.guard.limits import Limits
from lastseen.http.guard.live_tokens import LiveTokens
from lastseen.http.guard.origins import Origins, allowed_hosts, check_exposure, is_address
from lastseen.http.guard.overload import AdaptiveLimit
from lastseen.http.guard.probes import PROBES
from lastseen.http.guard.rate_limit import RateLimiter
from lastseen.http.guard.request_head import bearer_token, body_bytes, read_head, token_refused
from lastseen.http.guard.stream_tickets import checked_ticket, ticket_in

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["OPEN_PATHS", "UNAUTHENTICATED", "Guard", "allowed_hosts", "check_exposure", "guard"]

UNAUTHENTICATED = Caller("unauthenticated", frozenset())
"""The caller of a path that needs no token. It has no scope."""
OPEN_PATHS = PROBES
METRICS = "/metrics"
IS_UNKNOWN_HOST = "is_unknown_host"
"""In `scope["state"]`: whether the request names a host that is none of the service's. Such a caller may be a page that
points its own name here, and gets no details."""
TICKET = "ticket"
"""In `scope["state"]`: the ticket of a stream whose caller sent no token."""
OPEN_FOLDERS = (TYPES,)
STREAM_PATHS = frozenset([EVENT_STREAM])
SMALL_BODY_BYTES = 65_536
"""What is refused with a larger body, or one of unknown length, ends its connection."""

_logger = logging.getLogger("lastseen.http")


class Tokens(Protocol):
    """Authenticates callers by their tokens."""

    def caller(self, secret: bytes) -> Caller | None:
        """The caller that a token authenticates; `None` for an invalid token. Raises `Problem`."""
        ...

    def named(self, name: str) -> Caller | None:
        """The caller whose token has a name; `None` without a valid one. Raises `Problem`."""
        ...

    def now_ms(self) -> int:
        """The time by which tokens expire."""
        ...


class Guard:
    """Middleware that authenticates requests, enforces the limits, and sets `scope["state"]["caller"]`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens | None = None,
        origins: Origins | None = None,
        limits: Limits | None = None,
        open_paths: Iterable[str] = OPEN_PATHS,
        stream_paths: Iterable[str] = STREAM_PATHS,
        write: Write = write_json,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._origins = Origins(allowed_hosts("127.0.0.1")) if origins is None else origins
        self._limits = limits = Limits() if limits is None else limits
        self._open_paths, self._stream_paths = frozenset(open_paths), frozenset(stream_paths)
        self._write = write
        self._bodies = BodyReader(limits)
        self._rate_limiter = None if limits.requests_per_s is None else RateLimiter(limits.requests_per_s, limits.burst)
        self._requests = ConcurrencyLimit(
            "requests are in progress", limits.max_requests, AdaptiveLimit(limits.max_requests)
        )
        self._streams = ConcurrencyLimit("event streams are open", limits.max_streams)

    @property
    def requests(self) -> int:
        """The number of requests in progress."""
        return self._requests.in_use

    @property
    def streams(self) -> int:
        """The number of open event streams."""
        return self._streams.in_use

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # WebSockets are not served
            return
        began_s = time.monotonic()
        response = GuardedResponse(scope, send)
        caller: Caller | None = None
        size: int | None = 0
        try:
            head = read_head(scope, self._limits)
            is_open = scope["path"] in self._open_paths or scope["path"].startswith(OPEN_FOLDERS)
            if self._is_preflight(scope, head, response, is_open):
                await _answer_preflight(response)
                return
            size = body_bytes(head)
            caller = UNAUTHENTICATED if is_open else self._authenticate(scope, head)
            scope.setdefault("state", {})["caller"] = caller
            if is_open:
                await self._serve(scope, receive, response, size)
            else:
                cors = response.extra_headers
                if self._rate_limiter is not None:
                    response.extra_headers = cors + self._rate_limiter.take(caller.name, size or 0, began_s)
                if scope["path"] in self._stream_paths:
                    await self._serve_stream(scope, receive, response, self._token_check(scope, head, caller))
                else:
                    await self._serve_request(scope, receive, response, size, cors)
        except Problem as problem:
            if size is None or size > SMALL_BODY_BYTES:
                problem.headers.update(CLOSE)  # the rest of it is not read
            await response.refuse(problem)
        except ClientDisconnected:
            pass
        finally:
            response.end()
            self._write(
                access_line(scope, response.status, time.monotonic() - began_s, None if caller is None else caller.name)
            )

    def _is_preflight(self, scope: Scope, head: dict[bytes, bytes], response: GuardedResponse, is_open: bool) -> bool:
        host = head.get(b"host")
        any_host = scope["path"] in PROBES
        if any_host:
            scope.setdefault("state", {})[IS_UNKNOWN_HOST] = not self._origins.knows(host)
        elif scope["path"] == METRICS:
            # Prometheus names a pod by its address. What has a token is no page, and no page can bend an address.
            any_host = (self._tokens is not None and not is_open) or is_address(host)
        response.extra_headers = self._origins.check(host, head.get(b"origin"), any_host=any_host)
        return bool(response.extra_headers) and scope["method"] == "OPTIONS"

    def _authenticate(self, scope: Scope, head: dict[bytes, bytes]) -> Caller:
        if self._tokens is None:
            return ANONYMOUS
        if scope["path"] in self._stream_paths and b"authorization" not in head:
            text = ticket_in(scope["query_string"])
            if text is not None:
                holder, ticket = checked_ticket(text, self._tokens.named, self._tokens.now_ms())
                scope.setdefault("state", {})[TICKET] = ticket
                return holder
        caller = self._tokens.caller(bearer_token(head))
        if caller is None:
            raise token_refused()
        return caller

    def _token_check(self, scope: Scope, head: dict[bytes, bytes], caller: Caller) -> Callable[[], bool] | None:
        tokens = self._tokens
        if tokens is None:
            return None
        secret = None if TICKET in scope["state"] else bearer_token(head)

        def is_token_valid() -> bool:
            try:
                found = tokens.named(caller.name) if secret is None else tokens.caller(secret)
                # A token that was revoked and created again under its name is another.
                return found is not None and found == caller and found.seed == caller.seed
            except Problem:  # the tokens cannot be read: fail closed
                return False

        return is_token_valid

    async def _serve_stream(
        self, scope: Scope, receive: Receive, response: GuardedResponse, is_token_valid: Callable[[], bool] | None
    ) -> None:
        """Serve a stream for as long as its token is good: the request was let in once, and may go on for days."""
        caller: Caller = scope["state"]["caller"]
        with self._streams.slot(caller):
            response.is_token_valid = is_token_valid
            try:
                await self._app(scope, receive, response.send)
            except BaseException:
                if not response.lost_its_token:
                    raise

    async def _serve_request(
        self,
        scope: Scope,
        receive: Receive,
        response: GuardedResponse,
        size: int | None,
        cors: list[tuple[bytes, bytes]],
    ) -> None:
        """Serve a request that takes a place: once its body has arrived, until the work is done, even if the caller is
        gone. Bodies that do not arrive keep no others out."""
        caller: Caller = scope["state"]["caller"]
        if size == 0:
            with self._requests.slot(caller):
                await self._run_app(scope, receive, response)
            return
        self._requests.check(caller)  # what is refused is refused before its body is read
        body = await self._bodies.read(receive, size, caller)
        try:
            if size is None and self._rate_limiter is not None:
                remainder = self._rate_limiter.charge(caller.name, len(body), time.monotonic())
                response.extra_headers = cors + remainder
            with self._requests.slot(caller):
                await self._run_app(scope, ReplayedBody(body, receive), response)
        finally:
            self._bodies.release(body, caller)

    async def _serve(self, scope: Scope, receive: Receive, response: GuardedResponse, size: int | None) -> None:
        if size == 0:
            await self._run_app(scope, receive, response)
            return
        caller: Caller = scope["state"]["caller"]
        body = await self._bodies.read(receive, size, caller)
        try:
            await self._run_app(scope, ReplayedBody(body, receive), response)
        finally:
            self._bodies.release(body, caller)

    async def _run_app(self, scope: Scope, receive: Receive, response: GuardedResponse) -> None:
        response.start_timer(self._limits.request_s)
        try:
            await self._app(scope, receive, response.send)
        except asyncio.CancelledError:
            if not response.was_aborted:
                raise
            # We cancelled it ourselves; the server sees an unfinished response, and closes the connection.
        except Exception:
            if not response.timed_out:
                raise
            # The connection may be at its next request already, and must not pay for this one.
            _logger.exception("a request that had timed out failed later")


async def _answer_preflight(response: GuardedResponse) -> None:
    fields = [*Origins.preflight(), (b"content-length", b"0")]
    await response.send({"type": "http.response.start", "status": 204, "headers": fields})
    await response.send({"type": "http.response.body", "body": b""})


def guard(
    *,
    host: str,
    token_file: str | None = None,
    hosts: Iterable[str] = (),
    origins: Iterable[str] = (),
    limits: Limits | None = None,
    open_paths: Iterable[str] = OPEN_PATHS,
    write: Write = write_json,
) -> Callable[[ASGIApp], Guard]:
    """The guard of a service that listens on `host`: give it the application. Raises `InvalidSetting`.

    `hosts` are names that it goes by, `origins` are web pages elsewhere that may use it, such as
    `https://console.example.org`. Without a token file only what listens on the loopback is served.
    """
    check_exposure(host, has_tokens=token_file is not None)
    tokens = None if token_file is None else LiveTokens(TokenFile(token_file))
    known = Origins(allowed_hosts(host, hosts), origins)
    paths = frozenset(open_paths)
    return lambda app: Guard(app, tokens=tokens, origins=known, limits=limits, open_paths=paths, write=write)
