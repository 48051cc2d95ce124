"""Requests of one visitor at the same time: a login is never lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import lastseen
from lastseen.adapters.web_sessions import WebSessions
from tests.patience import PATIENCE_S
from tests.web.visits import visit


@pytest.mark.parametrize("rounds", range(3))
def test_logins_with_one_cookie_at_the_same_time_all_count(sessions: WebSessions, rounds: int) -> None:
    token, callers = visit(sessions, cart=[rounds]), 30
    barrier = threading.Barrier(callers)

    def log_in(number: int) -> str | None:
        session = sessions.find(token)
        session.login(f"user-{number}")
        barrier.wait(PATIENCE_S)
        return sessions.save(session, token)

    with ThreadPoolExecutor(callers) as pool:
        tokens = [each.result(PATIENCE_S) for each in [pool.submit(log_in, number) for number in range(callers)]]
    assert [sessions.find(each).user for each in tokens] == [f"user-{number}" for number in range(callers)]
    assert len(set(tokens)) == callers
    assert sessions.find(token).is_new


def test_a_login_beside_a_logout_with_one_cookie_counts(engine: lastseen.Engine, sessions: WebSessions) -> None:
    token = visit(sessions, n=1)
    session, leaving = sessions.find(token), sessions.find(token)
    session.login("ana")
    get = engine.get

    def end_after_reading(key: str) -> lastseen.SessionView | None:
        view = get(key)
        engine.get = get  # type: ignore[method-assign]
        leaving.logout()
        sessions.save(leaving, token)
        return view

    engine.get = end_after_reading  # type: ignore[method-assign]
    assert sessions.find(sessions.save(session, token)).user == "ana"
