"""Web sessions in Starlette and FastAPI, by way of HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import StreamingResponse

import lastseen
from lastseen.adapters.asgi import SessionMiddleware
from lastseen.adapters.cookies import Cookie
from lastseen.adapters.web_sessions import WebSessions
from lastseen.engine.errors import InvalidSetting, LogUnavailable

SITE = "https://shop.test"


def site(sessions: WebSessions, cookie: Cookie | None = None) -> FastAPI:
    """A small shop."""
    app = FastAPI()

    @app.get("/")
    async def show(request: Request) -> dict[str, Any]:
        return {"user": request.session.user, **request.session}  # type: ignore[attr-defined]

    @app.post("/cart/{item}")
    async def put(request: Request, item: str) -> dict[str, Any]:
        request.session.setdefault("cart", []).append(item)
        return dict(request.session)

    @app.post("/login/{user}")
    async def login(request: Request, user: str) -> None:
        request.session.login(user)  # type: ignore[attr-defined]

    @app.post("/logout")
    async def logout(request: Request) -> None:
        request.session.logout()  # type: ignore[attr-defined]

    @app.post("/stream")
    async def stream(request: Request) -> StreamingResponse:
        request.session["seen"] = True

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x"

        return StreamingResponse(parts())

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        socket.session["socket"] = 1
        await socket.accept()
        await socket.send_json(dict(socket.session))
        await socket.close()

    app.add_middleware(SessionMiddleware, sessions=sessions, cookie=cookie)
    return app


Visit = Callable[..., Any]


def browsing(app: FastAPI, visit: Visit, base: str = SITE) -> None:
    """Run a visit with a browser's cookie jar."""

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as browser:
            await visit(browser)

    asyncio.run(run())


def test_a_shopper_comes_and_goes(sessions: WebSessions) -> None:
    async def visit(browser: httpx.AsyncClient) -> None:
        assert (await browser.get("/")).json() == {"user": None}
        assert not browser.cookies
        await browser.post("/cart/tea")
        planted = browser.cookies["__Host-session"]
        await browser.post("/cart/milk")
        assert browser.cookies["__Host-session"] == planted
        await browser.post("/login/ana")
        assert browser.cookies["__Host-session"] != planted
        assert (await browser.get("/")).json() == {"user": "ana", "cart": ["tea", "milk"]}
        await browser.post("/logout")
        assert not browser.cookies
        assert (await browser.get("/")).json() == {"user": None}

    browsing(site(sessions), visit)


def test_the_cookie_is_secure_http_only_and_same_site(sessions: WebSessions) -> None:
    async def visit(browser: httpx.AsyncClient) -> None:
        first = await browser.post("/cart/tea")
        name, *terms = first.headers["set-cookie"].split("; ")
        assert name.startswith("__Host-session=")
        assert terms == ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"]
        assert first.headers["vary"] == "Cookie"
        assert first.headers["cache-control"] == "no-store"
        second = await browser.get("/")
        assert "set-cookie" not in second.headers
        assert second.headers["vary"] == "Cookie"

    browsing(site(sessions), visit)


def test_a_cookie_that_opens_nothing_is_taken_away(sessions: WebSessions) -> None:
    async def visit(browser: httpx.AsyncClient) -> None:
        answer = await browser.get("/", headers={"cookie": "other=1; __Host-session=a.b"})
        assert answer.headers["set-cookie"].startswith("__Host-session=; Max-Age=0; Path=/")
        answer = await browser.post("/cart/tea", headers={"cookie": "__Host-session=a.b"})
        assert not answer.headers["set-cookie"].startswith("__Host-session=a.b")

    browsing(site(sessions), visit)


def test_it_is_saved_before_the_answer_begins(engine: lastseen.Engine, sessions: WebSessions) -> None:
    async def visit(browser: httpx.AsyncClient) -> None:
        async with browser.stream("POST", "/stream") as answer:
            assert engine.count() == 1
            assert "set-cookie" in answer.headers
        assert (await browser.get("/")).json() == {"user": None, "seen": True}

    browsing(site(sessions), visit)


def test_what_cannot_be_saved_is_not_answered_as_if_it_were(
    engine: lastseen.Engine, sessions: WebSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise LogUnavailable("log: the disk is full")

    async def visit(browser: httpx.AsyncClient) -> None:
        monkeypatch.setattr(engine, "create", fail)
        with pytest.raises(LogUnavailable):
            await browser.post("/cart/tea")
        assert not browser.cookies

    browsing(site(sessions), visit)


def test_a_late_save_after_logout_never_revives(engine: lastseen.Engine, sessions: WebSessions) -> None:
    async def visit(browser: httpx.AsyncClient) -> None:
        await browser.post("/cart/tea")
        late = sessions.find(browser.cookies["__Host-session"])
        token = browser.cookies["__Host-session"]
        await browser.post("/logout")
        late["cart"] = ["tea", "late"]
        sessions.save(late, token)
        assert engine.count() == 0
        answer = await browser.get("/", headers={"cookie": f"__Host-session={token}"})
        assert answer.json() == {"user": None}

    browsing(site(sessions), visit)


def test_a_websocket_has_the_session_too(sessions: WebSessions) -> None:
    app = site(sessions)

    async def visit(browser: httpx.AsyncClient) -> None:
        await browser.post("/cart/tea")
        sent = await connected(app, f"__Host-session={browser.cookies['__Host-session']}")
        assert [each["type"] for each in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
        assert json.loads(sent[1]["text"]) == {"cart": ["tea"], "socket": 1}
        assert (await browser.get("/")).json() == {"user": None, "cart": ["tea"], "socket": 1}
        (begun, *_) = await connected(app, "")
        assert b"set-cookie" in dict(begun["headers"]), "one that begins with a socket"

    browsing(app, visit)


async def connected(app: FastAPI, cookie: str) -> list[Any]:
    """All that the site sends over a websocket."""
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": [(b"cookie", cookie.encode())],
             "subprotocols": []}  # fmt: skip
    await app(scope, receive, send)
    return sent


def test_development_over_plain_http(sessions: WebSessions) -> None:
    async def visit(browser: httpx.AsyncClient) -> None:
        await browser.post("/cart/tea")
        assert (await browser.get("/")).json()["cart"] == ["tea"]

    browsing(site(sessions, Cookie(name="session", secure=False)), visit, "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    "how",
    [{"secure": False}, {"name": "a b"}, {"name": ""}, {"name": "s", "same_site": "none", "secure": False},
     {"same_site": "maybe"}],
)  # fmt: skip
def test_a_cookie_that_browsers_would_refuse_is_refused_here(how: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        Cookie(**how)
