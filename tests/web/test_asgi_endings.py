"""What is saved when a response is late, a websocket is refused, or a request is cancelled in the middle of a save."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import lastseen
from lastseen.adapters.asgi import SessionMiddleware
from lastseen.adapters.web_session import WebSession
from lastseen.adapters.web_sessions import AsyncWebSessions, WebSessions
from lastseen.engine.errors import InvalidEvent
from tests.web.visits import visit

Application = Callable[[Any, Any, Any], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}


def served(app: Application, sessions: WebSessions | AsyncWebSessions, token: str | None, kind: str = "http") -> Any:
    """One request to an application behind the middleware: a coroutine that returns all that it sends."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        return {"type": "websocket.connect" if kind == "websocket" else "http.request"}

    cookie = b"" if token is None else f"__Host-session={token}".encode()
    scope = {"type": kind, "path": "/", "headers": [(b"cookie", cookie)]}

    async def run() -> list[Any]:
        await SessionMiddleware(app, sessions)(scope, receive, send)
        return sent

    return run()


def new_token(sent: list[Any]) -> str | None:
    """The token that the response sets, if it sets one."""
    for name, value in sent[0].get("headers", ()):
        if name == b"set-cookie":
            return str(value.decode().partition(";")[0].partition("=")[2])
    return None


# ── changes after the response has begun ──


def test_what_changes_while_a_body_is_sent_is_saved(sessions: WebSessions) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        scope["session"]["n"] = 2
        await send(BODY)

    token = visit(sessions, n=1)
    asyncio.run(served(app, sessions, token))
    assert dict(sessions.find(token)) == {"n": 2}


def test_a_late_logout_ends_the_session(sessions: WebSessions) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        scope["session"].logout()
        await send(BODY)

    token = visit(sessions, user="ana")
    asyncio.run(served(app, sessions, token))
    assert sessions.find(token).is_new


def test_a_late_login_is_refused_before_it_can_leave_an_orphan(engine: lastseen.Engine, sessions: WebSessions) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with pytest.raises(InvalidEvent, match="the response has begun"):
            scope["session"].login("ana")
        await send(BODY)

    asyncio.run(served(app, sessions, None))
    assert engine.count() == 0


def test_a_session_that_begins_after_its_response_is_dropped_with_a_warning(
    engine: lastseen.Engine, sessions: WebSessions, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        scope["session"]["n"] = 1
        await send(BODY)

    with caplog.at_level(logging.WARNING, "lastseen"):
        asyncio.run(served(app, sessions, None))
    assert engine.count() == 0
    assert "it has no cookie" in caplog.text


def test_a_change_after_a_rotation_is_saved_in_the_new_session(sessions: WebSessions) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].login("ana")
        await send(START)
        scope["session"]["n"] = 2
        await send(BODY)

    sent = asyncio.run(served(app, sessions, visit(sessions, n=1)))
    found = sessions.find(new_token(sent))
    assert (found.user, dict(found)) == ("ana", {"n": 2})


def test_a_request_that_changes_nothing_late_writes_once(engine: lastseen.Engine, sessions: WebSessions) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["n"] = 2
        await send(START)
        await send(BODY)

    token = visit(sessions, n=1)
    before = engine._log.end_offsets()[0]
    asyncio.run(served(app, sessions, token))
    assert engine._log.end_offsets()[0] == before + 1


# ── websockets ──


def socket(change: Callable[[WebSession], None], *events: dict[str, Any]) -> Application:
    """An application that changes the session and answers a websocket with these events."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        change(scope["session"])
        for event in events:
            await send(dict(event))

    return app


REFUSED = {"type": "websocket.close", "code": 1008}
DENIED = {"type": "websocket.http.response.start", "status": 403, "headers": []}
ACCEPTED = {"type": "websocket.accept", "headers": []}
ANSWERS = {"refused": (REFUSED,), "denied": (DENIED,), "accepted": (ACCEPTED, REFUSED), "not answered": ()}


@pytest.mark.parametrize("events", ANSWERS.values(), ids=ANSWERS)
def test_a_logout_in_a_websocket_is_saved_however_it_ends(sessions: WebSessions, events: Any) -> None:
    token = visit(sessions, user="ana")
    asyncio.run(served(socket(lambda session: session.logout(), *events), sessions, token, "websocket"))
    assert sessions.find(token).is_new


@pytest.mark.parametrize("events", ANSWERS.values(), ids=ANSWERS)
def test_a_change_in_a_websocket_is_saved_however_it_ends(sessions: WebSessions, events: Any) -> None:
    token = visit(sessions, n=1)
    asyncio.run(served(socket(lambda session: session.update(n=2), *events), sessions, token, "websocket"))
    assert dict(sessions.find(token)) == {"n": 2}


@pytest.mark.parametrize("way", ["refused", "not answered"])
def test_a_login_that_a_refused_websocket_cannot_deliver_leaves_the_old_session(
    engine: lastseen.Engine, sessions: WebSessions, way: str
) -> None:
    token = visit(sessions, n=1)
    for came_with in (token, None):
        app = socket(lambda session: session.login("ana"), *ANSWERS[way])
        asyncio.run(served(app, sessions, came_with, "websocket"))
    found = sessions.find(token)
    assert (found.user, dict(found)) == (None, {"n": 1})
    assert engine.count() == 1


def test_a_denied_websocket_can_carry_a_new_token(sessions: WebSessions) -> None:
    token = visit(sessions, n=1)
    app = socket(lambda session: session.login("ana"), *ANSWERS["denied"])
    sent = asyncio.run(served(app, sessions, token, "websocket"))
    assert sessions.find(new_token(sent)).user == "ana"


# ── a request that is cancelled in the middle of a save ──


@pytest.mark.parametrize("came_with_session", [True, False])
def test_a_save_that_is_cancelled_leaves_no_orphan_and_the_old_cookie_works(
    engine: lastseen.Engine, sessions: WebSessions, came_with_session: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = visit(sessions, n=1) if came_with_session else None
    save = sessions.save

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].login("ana")
        await send(START)

    async def cancelled_while_it_saves() -> None:
        loop = asyncio.get_running_loop()
        is_saving, goes_on = asyncio.Event(), threading.Event()

        def slow_save(session: WebSession, came_with: str | None) -> str | None:
            saved = save(session, came_with)
            loop.call_soon_threadsafe(is_saving.set)
            goes_on.wait()
            return saved

        monkeypatch.setattr(sessions, "save", slow_save)
        request = asyncio.ensure_future(served(app, sessions, token))
        await is_saving.wait()
        request.cancel()
        await asyncio.sleep(0)  # waits: for the cancellation to be delivered, one turn of the loop
        request.cancel()  # level-triggered cancellation asks again
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(cancelled_while_it_saves())
    assert sessions.sessions_of("ana") == []
    assert engine.count() == (1 if came_with_session else 0)
    if came_with_session:
        found = sessions.find(token)
        assert (found.user, dict(found)) == (None, {"n": 1})


def test_an_undo_of_what_was_used_meanwhile_changes_nothing(sessions: WebSessions) -> None:
    token = visit(sessions, n=1)
    session = sessions.find(token)
    session.login("ana")
    new = sessions.save(session, token)
    visit(sessions, new, user="bob")
    sessions.undo(session)
    assert sessions.find(token).is_new


# ── on an asynchronous engine ──


async def a_shopper(sessions: AsyncWebSessions) -> None:
    async def put(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].setdefault("cart", []).append("tea")
        await send(dict(START))

    async def log_in(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].login("ana", remember=True)
        await send(dict(START))

    planted = new_token(await served(put, sessions, None))
    assert new_token(await served(put, sessions, planted)) is None
    sent = await served(log_in, sessions, planted)
    token = new_token(sent)
    assert any(b"Max-Age=7776000" in value for _, value in sent[0]["headers"])
    found = await sessions.find(token)
    assert (found.user, dict(found), (await sessions.find(planted)).is_new) == ("ana", {"cart": ["tea", "tea"]}, True)
    assert await sessions.is_live(found)
    assert [each.owner for each in await sessions.sessions_of("ana")] == ["ana"]
    assert await sessions.end_all("ana") == 1
    assert not await sessions.is_live(found)


def test_a_shopper_on_an_asynchronous_engine(tmp_path: Any) -> None:
    async def shop() -> None:
        async with await lastseen.open_async(f"sqlite:///{tmp_path / 'log.db'}") as engine:
            await a_shopper(AsyncWebSessions(engine))

    asyncio.run(shop())
