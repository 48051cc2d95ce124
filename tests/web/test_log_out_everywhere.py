"""Logging a user out everywhere: in few appends, and never for a visitor who has not logged in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import lastseen
from lastseen.adapters.web_sessions import WebSessions
from lastseen.engine.errors import InvalidSetting
from tests.web.visits import visit

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "web-login.md"


@pytest.mark.parametrize("user", [None, "", "u" * 257, 7, b"ana", ["ana"], True])
def test_only_a_users_name_is_a_user(engine: lastseen.Engine, sessions: WebSessions, user: Any) -> None:
    token = visit(sessions, user="ana")
    with pytest.raises(InvalidSetting, match="user ="):
        sessions.end_all(user)
    with pytest.raises(InvalidSetting, match="user ="):
        sessions.sessions_of(user)
    assert sessions.find(token).user == "ana"
    assert engine.count() == 1


def test_a_site_has_a_prefix_of_its_own(engine: lastseen.Engine) -> None:
    with pytest.raises(InvalidSetting, match="prefix ="):
        WebSessions(engine, prefix="")


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The documentation's own application."""
    program = re.search(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    assert program is not None
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(program[1], namespace)
    with namespace["sessions"].engine:
        yield namespace


def test_an_anonymous_visitor_ends_no_session_of_the_documentations_application(documented: dict[str, Any]) -> None:
    sessions: WebSessions = documented["sessions"]

    async def attack() -> None:
        transport = httpx.ASGITransport(documented["app"])
        async with (
            httpx.AsyncClient(transport=transport, base_url="https://shop.test") as ana,
            httpx.AsyncClient(transport=transport, base_url="https://shop.test") as stranger,
        ):
            assert (await ana.post("/login/ana")).status_code == 200
            refused = await stranger.post("/logout-everywhere")
            assert refused.status_code == 401
            assert len(sessions.sessions_of("ana")) == 1
            assert (await ana.post("/logout-everywhere")).json() == 1
            assert sessions.sessions_of("ana") == []

    asyncio.run(attack())


def test_the_documentations_websocket_closes_after_a_log_out_everywhere(documented: dict[str, Any]) -> None:
    sessions: WebSessions = documented["sessions"]
    token = visit(sessions, user="ana")

    async def chat() -> list[Any]:
        sent: list[Any] = []
        texts = iter(["hello", "still here"])

        async def receive() -> Any:
            if not sent:
                return {"type": "websocket.connect"}
            text = next(texts)
            if text == "still here":
                assert sessions.end_all("ana") == 1
            return {"type": "websocket.receive", "text": text}

        async def send(event: Any) -> None:
            sent.append(event)

        scope = {"type": "websocket", "path": "/chat", "query_string": b"", "subprotocols": [],
                 "headers": [(b"cookie", f"__Host-session={token}".encode())]}  # fmt: skip
        await documented["app"](scope, receive, send)
        return sent

    accepted, echo, closed = asyncio.run(chat())
    assert [accepted["type"], echo["text"]] == ["websocket.accept", "hello"]
    assert (closed["type"], closed["code"]) == ("websocket.close", 4401)


def test_sessions_are_ended_a_thousand_in_an_append(
    engine: lastseen.Engine, sessions: WebSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = visit(sessions, user="ana")
    for _ in range(2_100):
        visit(sessions, user="ana")
    bob = visit(sessions, user="bob")
    appends: list[int] = []
    append = engine._log.append

    def counted(messages: Any) -> Any:
        appends.append(len(messages))
        return append(messages)

    monkeypatch.setattr(engine._log, "append", counted)
    assert sessions.end_all("ana", but=sessions.find(here)) == 2_100
    assert appends == [1_000, 1_000, 100]
    assert sessions.find(here).user == "ana"
    assert sessions.find(bob).user == "bob"


def test_a_session_that_ended_meanwhile_is_not_counted(
    engine: lastseen.Engine, sessions: WebSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [visit(sessions, user="ana") for _ in range(3)]
    close_many = engine.close_many

    def close_one_before(keys: Any, **options: Any) -> Any:
        leaving = sessions.find(tokens[0])
        leaving.logout()
        sessions.save(leaving, tokens[0])
        return close_many(keys, **options)

    monkeypatch.setattr(engine, "close_many", close_one_before)
    assert sessions.end_all("ana") == 2


def test_whether_a_session_is_still_live(sessions: WebSessions) -> None:
    token = visit(sessions, user="ana")
    open_socket, stranger = sessions.find(token), sessions.find(None)
    assert sessions.is_live(open_socket)
    assert not sessions.is_live(stranger)
    visit(sessions, token, n=1)
    rotating = sessions.find(token)
    rotating.rotate()
    token = sessions.save(rotating, token)
    assert sessions.is_live(open_socket), "it goes on under another token"
    sessions.end_all("ana")
    assert open_socket.user == "ana", "as of the beginning of the request"
    assert not sessions.is_live(open_socket)
