"""Sessions of a web site on an engine or a client: a random token in a cookie, and only hashes of it in the log.

`WebSessions` waits for the log, for threads and WSGI; `AsyncWebSessions` is for event loops. Both follow the rules of
`web_session_rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lastseen.adapters.web_session import View, WebSession
from lastseen.adapters.web_session_rules import Call, Steps, WebSessionRules
from lastseen.aio.engine import AsyncEngine
from lastseen.embedded.engine import Engine
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LastseenError

if TYPE_CHECKING:  # httpx, which they need, is not installed with every extra
    from lastseen.client.async_client import AsyncClient
    from lastseen.client.client import Client

T = TypeVar("T")


class _Site:
    """What the sessions of a site are under, whichever way they wait."""

    def __init__(
        self,
        engine: Any,
        *,
        idle_ttl: int | str = "30m",
        max_age: int | str | None = "12h",
        touch_precision: int | str | None = "1m",
        remember_idle_ttl: int | str = "30d",
        remember_max_age: int | str | None = "90d",
        grace: int | str | None = None,
        prefix: str = "web:",
    ) -> None:
        """`idle_ttl` ends a session so long after its last request, `max_age` so long after its last login or rotation;
        `remember_idle_ttl` and `remember_max_age` do so where the visitor is to be remembered (`WebSession.persist`).

        A request within `touch_precision` of the last one writes nothing, and the idle limit allows as much more; give
        `None` to have every request in the log. For `grace` after a rotation without a login the old token still opens
        the session, for requests in parallel and responses that were lost; `None`: it does not. Raises
        `InvalidSetting`.
        """
        self.engine = engine
        self.rules = WebSessionRules(
            idle_ttl=idle_ttl, max_age=max_age, touch_precision=touch_precision, remember_idle_ttl=remember_idle_ttl,
            remember_max_age=remember_max_age, grace=grace, prefix=prefix,
        )  # fmt: skip
        self._now_ms = _clock_of(engine)

    def cookie_age_s(self, session: WebSession) -> int | None:
        """How long, in seconds, the browser is to keep the cookie of a saved session; `None`: until it is closed."""
        return self.rules.cookie_age_s(session)


class WebSessions(_Site):
    """The sessions of a site, on an `Engine` or a `Client`. Safe to use from many threads."""

    engine: Engine | Client

    def find(self, token: str | None) -> WebSession:
        """The session that a token opens; where it opens none an empty one, of which nothing is written."""
        return _session_of(self._run(self.rules.find(token, self._now_ms())))

    def save(self, session: WebSession, token: str | None) -> str | None:
        """Write what a request has changed, and that it came. Returns the token that the visitor is to have from now
        on; `None` if none.

        What was ended meanwhile stays ended: then nothing is written. Once `session.has_begun_response`, changes are
        written, and a new session is not begun. Raises `LogError`, `InvalidEvent` for values that are no JSON or take
        too much room, and `VersionConflict` where others change it all the time.
        """
        return self._run(self.rules.save(session, token))

    def undo(self, session: WebSession) -> None:
        """Take back a new token that `save` made and the visitor did not receive. Raises `LogError`."""
        self._run(self.rules.undo(session))

    def sessions_of(self, user: str) -> list[View]:
        """The live sessions of a user. Raises `InvalidSetting` for what is no user's name, `None` included."""
        return self._run(self.rules.sessions_of(user))

    def end_all(self, user: str, *, reason: str = "logout", but: WebSession | None = None) -> int:
        """Log a user out everywhere, or everywhere but here; returns how many sessions were ended.

        Raises `InvalidSetting` for what is no user's name: `None` is a visitor who has not logged in.
        """
        return self._run(self.rules.end_all(user, reason, but))

    def is_live(self, session: WebSession) -> bool:
        """Whether a session that was found earlier has not ended since: for open websockets and long responses."""
        return self._run(self.rules.is_live(session))

    def _run(self, steps: Steps[T]) -> T:
        advance: Callable[[], Call] = partial(steps.send, None)
        while True:
            try:
                wanted = advance()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                result = getattr(self.engine, wanted.method)(*wanted.arguments, **wanted.options)
            except LastseenError as error:
                advance = partial(steps.throw, error)
            else:
                advance = partial(steps.send, result)


class AsyncWebSessions(_Site):
    """The sessions of a site, on an `AsyncEngine` or an `AsyncClient`: the methods of `WebSessions` as coroutines."""

    engine: AsyncEngine | AsyncClient

    async def find(self, token: str | None) -> WebSession:
        """As `WebSessions.find`."""
        return _session_of(await self._run(self.rules.find(token, self._now_ms())))

    async def save(self, session: WebSession, token: str | None) -> str | None:
        """As `WebSessions.save`."""
        return await self._run(self.rules.save(session, token))

    async def undo(self, session: WebSession) -> None:
        """As `WebSessions.undo`."""
        await self._run(self.rules.undo(session))

    async def sessions_of(self, user: str) -> list[View]:
        """As `WebSessions.sessions_of`."""
        return await self._run(self.rules.sessions_of(user))

    async def end_all(self, user: str, *, reason: str = "logout", but: WebSession | None = None) -> int:
        """As `WebSessions.end_all`."""
        return await self._run(self.rules.end_all(user, reason, but))

    async def is_live(self, session: WebSession) -> bool:
        """As `WebSessions.is_live`."""
        return await self._run(self.rules.is_live(session))

    async def _run(self, steps: Steps[T]) -> T:
        advance: Callable[[], Call] = partial(steps.send, None)
        while True:
            try:
                wanted = advance()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                result = await getattr(self.engine, wanted.method)(*wanted.arguments, **wanted.options)
            except LastseenError as error:
                advance = partial(steps.throw, error)
            else:
                advance = partial(steps.send, result)


def _session_of(found: tuple[View, str | None] | None) -> WebSession:
    return WebSession() if found is None else WebSession(*found)


def _clock_of(engine: Any) -> Callable[[], int]:
    """The time that the engine judges by; a client's service has a clock of its own, which is as good as ours."""
    embedded = getattr(engine, "engine", engine)
    return embedded.now_ms if isinstance(embedded, Engine) else SystemClock().now_ms
