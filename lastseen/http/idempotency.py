"""Retries that are safe: requests with one `Idempotency-Key` have one effect and one answer.

Those that arrive while the first is in progress wait for its response. A success is remembered; after a failure the
next request tries again. What is remembered is one instance's, and gone when that ends. But the id of the session that
a request creates follows from its key: so the log takes only one such session, whichever instances are asked, and each
of them recognises it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from lastseen.api.problems import Problem
from lastseen.auth.caller import Caller

MAX_REMEMBERED = 10_000
REMEMBER_S = 86_400.0
_form = re.compile(r"[!-~]{1,128}")


@dataclass(slots=True)
class _Remembered:
    """What is known of one key."""

    digest: bytes
    """Of the request's body: another one must not get this one's answer."""
    at_s: float
    task: asyncio.Task[Response] | None = None


class Idempotency:
    """The keys of one instance. To be used in one event loop."""

    def __init__(
        self, log_identity: str, max_keys: int = MAX_REMEMBERED, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log_identity = log_identity
        self._max_keys = max_keys
        self._clock = clock
        self._remembered: dict[tuple[str, str], _Remembered] = {}
        """In the order in which they came."""

    def __len__(self) -> int:
        return len(self._remembered)

    async def once(
        self, caller: Caller, key: str, content: bytes, execute: Callable[[str], Awaitable[Response]]
    ) -> Response:
        """The answer that `run` gives; or gave, when this caller sent the same key before.

        `run` is handed the id for the session that it creates. Raises `Problem` where the key is malformed, or was sent
        with another body.
        """
        if not _form.fullmatch(key):
            raise Problem(422, "invalid-parameter", "Idempotency-Key: give 1 to 128 visible ASCII characters")
        digest, name = hashlib.sha256(content).digest(), (caller.name, key)
        self._forget_old()
        remembered = self._remembered.get(name)
        if remembered is not None and remembered.digest != digest:
            raise different_body()
        if remembered is None:
            remembered = self._remembered[name] = _Remembered(digest, self._clock())
            self._make_room()
        is_first = remembered.task is None or (remembered.task.done() and _has_failed(remembered.task))
        if is_first:
            remembered.task = asyncio.ensure_future(_started(execute, self._session_id(caller, key)))
        assert remembered.task is not None
        # A caller that disconnects leaves the work to those that wait, and its response to the next retry.
        response = await asyncio.shield(remembered.task)
        return response if is_first else _replayed(response)

    def _session_id(self, caller: Caller, key: str) -> str:
        """As long as any other, and as hard to guess as the caller's token. The same on every instance of a log."""
        secret = caller.seed or self._log_identity.encode()
        made = hmac.digest(secret, b"lastseen idempotency\0" + key.encode("ascii"), "sha256")
        return base64.urlsafe_b64encode(made[:16])[:22].decode("ascii")

    def _forget_old(self) -> None:
        oldest_s = self._clock() - REMEMBER_S
        while self._remembered:
            name, remembered = next(iter(self._remembered.items()))
            if remembered.at_s > oldest_s:
                return
            del self._remembered[name]

    def _make_room(self) -> None:
        while len(self._remembered) > self._max_keys:
            del self._remembered[next(iter(self._remembered))]


def different_body() -> Problem:
    """What a key is refused with that came with another request before."""
    return Problem(
        422,
        "idempotency-key-reused",
        "this Idempotency-Key was used with another body before: give each request its own key",
    )


async def _started(execute: Callable[[str], Awaitable[Response]], session_id: str) -> Response:
    return await execute(session_id)


def _has_failed(task: asyncio.Task[Response]) -> bool:
    return task.cancelled() or task.exception() is not None


def _replayed(response: Response) -> Response:
    replayed = Response(bytes(response.body), response.status_code)
    headers = [each for each in response.raw_headers if each[0] != b"idempotency-replayed"]
    replayed.raw_headers = [*headers, (b"idempotency-replayed", b"true")]
    return replayed
