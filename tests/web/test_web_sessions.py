"""Web sessions, without a framework: tokens, limits, logins, logouts, and saves that come too late."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import lastseen
from lastseen.adapters.web_session import WebSession
from lastseen.adapters.web_sessions import WebSessions
from lastseen.engine.errors import InvalidEvent, InvalidSetting, VersionConflict
from tests.patience import PATIENCE_S
from tests.web.visits import visit

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def ends_of(engine: lastseen.Engine, key: str) -> list[str | None]:
    return [life.reason for life in engine.session_spans(key)]


def test_a_visitor_who_leaves_nothing_gets_no_session(engine: lastseen.Engine, sessions: WebSessions) -> None:
    assert visit(sessions) is None
    assert engine.count() == 0
    assert engine.checkpoints()[0][0] == 1, "the genesis record alone"


def test_what_a_request_keeps_the_next_one_finds(sessions: WebSessions) -> None:
    token = visit(sessions, cart=[1, {"a": None}], name="ana", nothing=None)
    found = sessions.find(token)
    assert dict(found) == {"cart": [1, {"a": None}], "name": "ana", "nothing": None}
    assert not found.is_new


def test_only_hashes_of_the_token_are_in_the_log(
    engine: lastseen.Engine, sessions: WebSessions, tmp_path: Path
) -> None:
    token = visit(sessions, user="ana", cart=[1])
    token = visit(sessions, token, user="ana") or ""
    place, _, secret = token.partition(".")
    engine.shutdown()
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert place.encode() not in everything
    assert secret.encode() not in everything
    assert hashlib.sha256(place.encode()).hexdigest().encode() in everything
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in everything


def test_tokens_are_random_and_long(sessions: WebSessions) -> None:
    tokens = [visit(sessions, n=n) or "" for n in range(50)]
    assert len({part for token in tokens for part in token.split(".")}) == 100
    assert all(len(token) >= 64 for token in tokens)


@pytest.mark.parametrize(
    "forged", ["", ".", "x", "x.y", "a.b.c", "é.ü", "." + "s" * 43, "p" * 22 + ".", "x" * 10_000, "\0.\0"]
)
def test_no_other_token_opens_anything(engine: lastseen.Engine, sessions: WebSessions, forged: str) -> None:
    visit(sessions, n=1)
    assert sessions.find(forged).is_new
    assert visit(sessions, forged, n=2) not in (forged, None), "a token that a visitor brought is never taken over"
    assert engine.count() == 2


def test_the_place_without_its_secret_opens_nothing(sessions: WebSessions) -> None:
    place = (visit(sessions, n=1) or "").partition(".")[0]
    other = (visit(sessions, n=1) or "").partition(".")[2]
    assert sessions.find(f"{place}.{other}").is_new


def test_it_idles_out_and_its_absolute_limit_ends_it(
    engine: lastseen.Engine, sessions: WebSessions, clock: lastseen.ManualClock
) -> None:
    idle = visit(sessions, n=1)
    clock.advance(31 * MINUTE_MS - 1)
    assert not sessions.find(idle).is_new
    clock.advance(1)
    assert sessions.find(idle).is_new
    engine.prune()
    busy = visit(sessions, n=1)
    for _ in range(24 - 1):
        clock.advance(30 * MINUTE_MS)
        end = engine._log.end_offsets()[0]
        assert visit(sessions, busy) == busy
        assert lastseen_at(engine, end)
        engine.refresh()
    clock.advance(30 * MINUTE_MS - 1)
    assert not sessions.find(busy).is_new
    clock.advance(1)
    assert sessions.find(busy).is_new
    engine.prune()
    assert sorted(end or "" for key in keys_of(engine) for end in ends_of(engine, key)) == ["idle", "max_age"]


def keys_of(engine: lastseen.Engine) -> set[str]:
    records = engine._log.read(0, 1, 10_000)
    return {record.key for record in records if record.key is not None}


def test_requests_close_together_write_nothing(
    engine: lastseen.Engine, sessions: WebSessions, clock: lastseen.ManualClock
) -> None:
    token = visit(sessions, n=1)
    written = engine._log.end_offsets()[0]
    for _ in range(50):
        clock.advance(1_000)
        assert visit(sessions, token) == token
    assert engine._log.end_offsets()[0] == written
    clock.advance(10_000)
    visit(sessions, token)
    assert lastseen_at(engine, written), "a minute has passed"


def lastseen_at(engine: lastseen.Engine, offset: int) -> bool:
    """Whether the log holds a record there; who wrote it did not wait."""
    return engine._log.wait(lastseen.Position(0, offset), PATIENCE_S)


def test_every_request_is_in_the_log_if_wanted(engine: lastseen.Engine) -> None:
    sessions = WebSessions(engine, touch_precision=None)
    token = visit(sessions, n=1)
    visit(sessions, token)
    assert lastseen_at(engine, 1)


def test_a_login_changes_the_token_and_keeps_what_was_there(engine: lastseen.Engine, sessions: WebSessions) -> None:
    planted = visit(sessions, cart=[1])
    token = visit(sessions, planted, user="ana")
    assert token != planted
    assert sessions.find(planted).is_new, "a token planted before the login opens nothing"
    found = sessions.find(token)
    assert (found.user, dict(found)) == ("ana", {"cart": [1]})
    assert engine.count() == 1
    (key,) = keys_of(engine)
    assert ends_of(engine, key) == ["rotated", None]


def test_the_old_token_does_not_end_the_new_session(engine: lastseen.Engine, sessions: WebSessions) -> None:
    planted = visit(sessions, cart=[1])
    token = visit(sessions, planted, user="ana")
    session = sessions.find(planted)
    session.logout()
    assert sessions.save(session, None) is None
    assert sessions.find(token).user == "ana"


def test_another_user_gets_nothing_of_the_first(engine: lastseen.Engine, sessions: WebSessions) -> None:
    token = visit(sessions, user="ana", secret_plan="x")
    token = visit(sessions, token, user="bob")
    found = sessions.find(token)
    assert (found.user, dict(found)) == ("bob", {})
    assert sessions.sessions_of("ana") == []


def test_what_is_set_after_a_logout_is_a_new_sessions(engine: lastseen.Engine, sessions: WebSessions) -> None:
    token = visit(sessions, user="ana", name="ana")
    session = sessions.find(token)
    session.logout()
    session["name"] = "ana"
    fresh = sessions.save(session, token)
    assert fresh not in (token, None)
    found = sessions.find(fresh)
    assert (found.user, dict(found)) == (None, {"name": "ana"})
    assert sessions.find(token).is_new


def test_a_late_save_after_logout_never_revives(engine: lastseen.Engine, sessions: WebSessions) -> None:
    token = visit(sessions, user="ana", n=1)
    late, rotating, touching = sessions.find(token), sessions.find(token), sessions.find(token)
    leaving = sessions.find(token)
    leaving.logout()
    assert sessions.save(leaving, token) is None
    late["n"] = 2
    rotating.rotate()
    assert [sessions.save(each, token) for each in (late, rotating, touching)] == [token] * 3
    assert engine.count() == 0
    assert sessions.find(token).is_new


def test_a_late_save_of_before_a_login_changes_nothing(engine: lastseen.Engine, sessions: WebSessions) -> None:
    planted = visit(sessions, n=1)
    late = sessions.find(planted)
    token = visit(sessions, planted, user="ana")
    late["n"] = 2
    assert sessions.save(late, planted) == planted, "nothing that would take the new cookie away"
    assert dict(sessions.find(token)) == {"n": 1}


def test_a_login_is_not_lost_when_the_session_ended_meanwhile(
    sessions: WebSessions, clock: lastseen.ManualClock
) -> None:
    token = visit(sessions, n=1)
    session = sessions.find(token)
    clock.advance(HOUR_MS)
    session.login("ana")
    fresh = sessions.save(session, token)
    assert fresh != token
    found = sessions.find(fresh)
    assert (found.user, dict(found)) == ("ana", {}), "nothing is carried over from what has ended"


def test_two_requests_that_change_different_names_both_count(sessions: WebSessions) -> None:
    token = visit(sessions, a=1, b=1, c={"x": 1, "y": 2})
    one, other = sessions.find(token), sessions.find(token)
    one["a"] = 2
    del one["b"]
    other["c"] = {"y": 3}
    sessions.save(one, token)
    sessions.save(other, token)
    assert dict(sessions.find(token)) == {"a": 2, "c": {"y": 3}}


def test_a_rotation_takes_along_what_was_saved_meanwhile(sessions: WebSessions) -> None:
    token = visit(sessions, a=1)
    rotating = sessions.find(token)
    visit(sessions, token, b=2)
    rotating.rotate()
    rotating["c"] = 3
    assert dict(sessions.find(sessions.save(rotating, token))) == {"a": 1, "b": 2, "c": 3}


def test_a_session_that_keeps_changing_is_not_rotated_without_end(
    engine: lastseen.Engine, sessions: WebSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = visit(sessions, a=1)
    rotating = sessions.find(token)
    rotating.rotate()
    get = engine.get

    def meddle(key: str) -> Any:
        view = get(key)
        engine.update(key, {"other": 1})
        return view

    monkeypatch.setattr(engine, "get", meddle)
    with pytest.raises(VersionConflict, match="changed 8 times"):
        sessions.save(rotating, token)


def test_a_change_inside_a_value_is_saved(sessions: WebSessions) -> None:
    token = visit(sessions, cart={"items": []})
    session = sessions.find(token)
    session["cart"]["items"].append(1)
    sessions.save(session, token)
    assert dict(sessions.find(token)) == {"cart": {"items": [1]}}


def test_sessions_of_this_user_and_log_out_everywhere(engine: lastseen.Engine, sessions: WebSessions) -> None:
    here = visit(sessions, user="ana")
    others = [visit(sessions, user="ana", n=n) for n in range(3)]
    bob = visit(sessions, user="bob")
    engine.create("chat:1", attributes={"owner": "ana"})
    assert len(sessions.sessions_of("ana")) == 4
    assert sessions.end_all("ana", but=sessions.find(here)) == 3
    assert [sessions.find(each).is_new for each in others] == [True] * 3
    assert sessions.find(here).user == "ana"
    assert sessions.end_all("ana", reason="revoked") == 1
    assert sessions.sessions_of("ana") == []
    assert sessions.find(bob).user == "bob"
    assert engine.get("chat:1") is not None, "what is no web session is left alone"
    (revoked,) = [key for key in keys_of(engine) if "revoked" in ends_of(engine, key)]
    assert "revoked" in engine.explain(revoked).sentence


@pytest.mark.parametrize(
    ("value", "says"), [({1, 2}, "no JSON"), (float("nan"), "no JSON"), (object(), "no JSON"), ("x" * 20_000, "16384")]
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(sessions: WebSessions, value: Any, says: str) -> None:
    token = visit(sessions, a=1)
    session = sessions.find(token)
    session["b"] = value
    with pytest.raises(InvalidEvent, match=says):
        sessions.save(session, token)
    assert dict(sessions.find(token)) == {"a": 1}


def test_names_are_text() -> None:
    session = WebSession()
    session[1] = 1  # type: ignore[index]
    with pytest.raises(InvalidEvent, match="names that are text"):
        session.changes()


@pytest.mark.parametrize("user", ["", "u" * 257, 7, None])
def test_a_user_is_text(user: Any) -> None:
    with pytest.raises(InvalidSetting, match="user ="):
        WebSession().login(user)
