"""Persistent cookies ("remember me"), and the grace time of an old token after a rotation."""

from __future__ import annotations

from typing import Any

import flask
import pytest

import lastseen
from lastseen.adapters.flask import FlaskSessions
from lastseen.adapters.web_session_rules import LONGEST_COOKIE_S
from lastseen.adapters.web_sessions import WebSessions
from lastseen.engine.errors import InvalidEvent, InvalidSetting
from tests.web.visits import visit

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SITE = "https://shop.test"


def logged_in(sessions: WebSessions, *, remember: bool) -> tuple[str, int | None]:
    session = sessions.find(None)
    session.login("ana", remember=remember)
    token = sessions.save(session, None)
    assert token is not None
    return token, sessions.cookie_age_s(session)


def test_a_remembered_visitor_has_limits_of_their_own(sessions: WebSessions, clock: lastseen.ManualClock) -> None:
    forgotten, no_age = logged_in(sessions, remember=False)
    remembered, age_s = logged_in(sessions, remember=True)
    assert (no_age, age_s) == (None, 90 * 24 * 3_600)
    clock.advance(29 * DAY_MS)
    assert sessions.find(forgotten).is_new
    found = sessions.find(remembered)
    assert (found.user, found.is_persistent) == ("ana", True)
    for request in range(2):
        found["request"] = request
        sessions.save(found, remembered)
        clock.advance(29 * DAY_MS)
        found = sessions.find(remembered)
        assert found.user == "ana"
    found["request"] = "the last"
    sessions.save(found, remembered)
    clock.advance(4 * DAY_MS)
    assert sessions.find(remembered).is_new, "90 days after the login it is over, however much it was used"


def test_a_logout_forgets(sessions: WebSessions) -> None:
    token, _ = logged_in(sessions, remember=True)
    session = sessions.find(token)
    session.logout()
    session["seen"] = True
    fresh = sessions.save(session, token)
    found = sessions.find(fresh)
    assert (found.is_persistent, sessions.cookie_age_s(found)) == (False, None)


def test_a_rotation_and_a_login_keep_it_by_default(sessions: WebSessions) -> None:
    token, _ = logged_in(sessions, remember=True)
    for change, expected in (
        (lambda session: session.rotate(), True),
        (lambda session: session.login("ana"), True),
        (lambda session: session.login("ana", remember=False), False),
        (lambda session: session.persist(), True),
        (lambda session: session.persist(False), False),
    ):
        session = sessions.find(token)
        change(session)
        new = sessions.save(session, token)
        assert new != token
        token = new or ""
        assert sessions.find(token).is_persistent is expected


def test_no_cookie_is_longer_than_browsers_allow(engine: lastseen.Engine) -> None:
    _, age_s = logged_in(WebSessions(engine, remember_max_age=None), remember=True)
    assert age_s == LONGEST_COOKIE_S
    _, age_s = logged_in(WebSessions(engine, remember_max_age="900d"), remember=True)
    assert age_s == LONGEST_COOKIE_S


def test_flasks_permanent_sessions(sessions: WebSessions, clock: lastseen.ManualClock) -> None:
    app = flask.Flask(__name__)
    app.session_interface = FlaskSessions(sessions)

    @app.before_request
    def remember() -> None:
        flask.session.permanent = True

    @app.post("/cart/<item>")
    def put(item: str) -> dict[str, Any]:
        flask.session.setdefault("cart", []).append(item)
        return {"permanent": flask.session.permanent, **flask.session}

    with app.test_client() as browser:
        first = browser.post("/cart/tea", base_url=SITE)
        assert f"Max-Age={90 * 24 * 3_600}" in first.headers["Set-Cookie"].split("; ")
        clock.advance(2 * DAY_MS)
        second = browser.post("/cart/milk", base_url=SITE)
        assert second.json == {"permanent": True, "cart": ["tea", "milk"]}
        assert "Set-Cookie" not in second.headers, "set once: the token changes only where the limits do"


# ── the grace time ──


def rotated(sessions: WebSessions, token: str | None) -> str | None:
    session = sessions.find(token)
    session.rotate()
    return sessions.save(session, token)


def test_without_a_grace_time_the_old_token_opens_nothing(sessions: WebSessions) -> None:
    old = visit(sessions, user="ana")
    rotated(sessions, old)
    assert sessions.find(old).is_new


def test_within_the_grace_time_the_old_token_leads_to_the_new_one(
    engine: lastseen.Engine, clock: lastseen.ManualClock
) -> None:
    sessions = WebSessions(engine, grace="10s")
    old = visit(sessions, user="ana")
    new = rotated(sessions, old)
    assert new not in (old, None)
    clock.advance(9_999)
    late = sessions.find(old)
    assert late.user == "ana"
    late["n"] = 1
    assert sessions.save(late, old) == new, "who lost the response receives the token again"
    assert dict(sessions.find(new)) == {"n": 1}
    newest = rotated(sessions, new)
    assert sessions.find(old).is_new, "one rotation back, and no more"
    clock.advance(10_000)
    assert sessions.find(new).is_new
    assert sessions.find(newest).user == "ana"


def test_a_rotation_by_an_old_token_goes_on_from_the_new_one(engine: lastseen.Engine) -> None:
    sessions = WebSessions(engine, grace="10s")
    old = visit(sessions, user="ana")
    new = rotated(sessions, old)
    newest = rotated(sessions, old)
    assert sessions.find(newest).user == "ana"
    assert sessions.save(sessions.find(new), new) == newest
    assert sessions.find(old).is_new


def test_a_token_that_was_planted_does_not_survive_a_login(engine: lastseen.Engine) -> None:
    sessions = WebSessions(engine, grace="10s")
    planted = visit(sessions, n=1)
    visit(sessions, planted, user="ana")
    assert sessions.find(planted).is_new


def test_the_log_alone_does_not_lead_to_the_new_token(engine: lastseen.Engine) -> None:
    sessions = WebSessions(engine, grace="10s")
    old = visit(sessions, user="ana") or ""
    new = rotated(sessions, old) or ""
    log = b"".join(record.value or b"" for record in engine._log.read(0, 0, 100))
    for token in (old, new):
        assert token.partition(".")[2].encode() not in log


@pytest.mark.parametrize("grace", ["-1s", "soon", 0])
def test_a_grace_time_is_a_duration(engine: lastseen.Engine, grace: Any) -> None:
    with pytest.raises(InvalidSetting):
        WebSessions(engine, grace=grace)


@pytest.mark.parametrize("change", [lambda s: s.rotate(), lambda s: s.login("ana"), lambda s: s.persist()])
def test_the_token_cannot_change_once_the_response_has_begun(sessions: WebSessions, change: Any) -> None:
    session = sessions.find(visit(sessions, n=1))
    session.has_begun_response = True
    with pytest.raises(InvalidEvent, match="the response has begun"):
        change(session)
