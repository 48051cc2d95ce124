"""Web sessions by way of the HTTP clients, on a real service: the same rules, the same tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lastseen
from lastseen.adapters.web_sessions import AsyncWebSessions, WebSessions
from lastseen.engine.errors import InvalidSetting
from tests.http.served import Served
from tests.web.test_asgi_endings import a_shopper
from tests.web.visits import visit


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}") as engine, Served(engine) as running:
        yield running


def test_a_visitor_of_a_site_whose_engine_is_a_service(served: Served) -> None:
    with lastseen.Client(served.address) as client, lastseen.Client(served.address) as other:
        sessions, elsewhere = WebSessions(client, grace="1m"), WebSessions(other, grace="1m")
        planted = visit(sessions, cart=[1])
        token = visit(sessions, planted, user="ana")
        found = elsewhere.find(token)
        assert (found.user, dict(found), sessions.find(planted).is_new) == ("ana", {"cart": [1]}, True)
        late = sessions.find(token)
        leaving = elsewhere.find(token)
        leaving.logout()
        assert elsewhere.save(leaving, token) is None
        late["n"] = 1
        assert sessions.save(late, token) == token, "a late save never revives"
        assert sessions.find(token).is_new
        session = sessions.find(None)
        session.login("bob", remember=True)
        token = sessions.save(session, None)
        rotating = sessions.find(token)
        rotating.rotate()
        new = sessions.save(rotating, token)
        assert elsewhere.save(elsewhere.find(token), token) == new, "within the grace time"
        assert sessions.end_all("bob") == 1
        assert not sessions.is_live(session)
        with pytest.raises(InvalidSetting):
            sessions.end_all(None)  # type: ignore[arg-type]


def test_a_new_token_is_taken_back(served: Served) -> None:
    with lastseen.Client(served.address) as client:
        sessions = WebSessions(client)
        token = visit(sessions, n=1)
        session = sessions.find(token)
        session.login("ana")
        sessions.save(session, token)
        sessions.undo(session)
        found = sessions.find(token)
        assert (found.user, dict(found)) == (None, {"n": 1})


def test_a_shopper_on_an_asynchronous_client(served: Served) -> None:
    async def shop() -> None:
        async with lastseen.AsyncClient(served.address) as client:
            sessions: Any = AsyncWebSessions(client)
            await a_shopper(sessions)

    asyncio.run(shop())
