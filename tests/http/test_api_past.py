"""The past over HTTP: histories in pages, reasons, messages, sessions as they were, and reading one's own write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

import lastseen
from lastseen import Engine, ManualClock, policy
from lastseen.engine.clock import iso_from_ms

Problem = Callable[[httpx.Response], dict[str, Any]]
T0, MIN = 1_700_000_000_000, 60_000
KEY = "telegram:42"
PLACE = f"/v1/sessions/{KEY}"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    """An engine whose clock the test turns; it runs nothing by itself."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, clock=clock, background=False) as opened:
        yield opened


@pytest.fixture
def lived(engine: Engine, clock: ManualClock) -> None:
    """Two sessions of one key: offsets 1 to 4, each a minute after the one before."""
    engine.open(KEY, attributes={"n": 1}, policy=policy(idle_ttl="5m"))
    clock.advance(MIN)
    engine.touch(KEY, message={"text": "hello"}, attributes={"n": 2})
    clock.advance(MIN)
    engine.close(KEY, reason="logout")
    clock.advance(MIN)
    engine.open(KEY)


def test_history_comes_in_pages(client: httpx.Client, lived: None) -> None:
    first = client.get(f"{PLACE}/history", params={"limit": 3}).json()
    assert [(row["name"], row["verdict"], row["at_ms"]) for row in first["records"]] == [
        ("created", "applied", T0), ("touched", "applied", T0 + MIN), ("closed", "applied", T0 + 2 * MIN),
    ]  # fmt: skip
    assert first["cursor"] == 3
    rest = client.get(f"{PLACE}/history", params={"after": first["cursor"], "limit": 3}).json()
    assert ([row["offset"] for row in rest["records"]], rest["cursor"]) == ([4], None)


def test_lives_of_a_key(client: httpx.Client, lived: None) -> None:
    page = client.get(f"{PLACE}/history", params={"of": "lives"}).json()
    assert [(life["began_offset"], life["reason"], life["ended_offset"]) for life in page["lives"]] == [
        (1, "logout", 3), (4, None, None),
    ]  # fmt: skip
    assert page["cursor"] is None


def test_records_and_lives_within_times(client: httpx.Client, lived: None, problem: Problem) -> None:
    page = client.get(f"{PLACE}/history", params={"since": iso_from_ms(T0 + MIN), "until": T0 + 2 * MIN}).json()
    assert [row["at_ms"] for row in page["records"]] == [T0 + MIN]
    lives = client.get(f"{PLACE}/history", params={"of": "lives", "since": T0 + 3 * MIN}).json()["lives"]
    assert [life["began_at_ms"] for life in lives] == [T0 + 3 * MIN]
    assert client.get(f"{PLACE}/history", params={"of": "lives", "owner": "ana"}).json()["lives"] == []
    assert "of=lives" in problem(client.get(f"{PLACE}/history", params={"owner": "ana"}))["detail"]
    listed = [client.get("/v1/sessions", params=params).json()["sessions"]
              for params in ({"since": T0 + 3 * MIN}, {"until": iso_from_ms(T0 + 3 * MIN)})]  # fmt: skip
    assert [[session["key"] for session in sessions] for sessions in listed] == [[KEY], []]


def test_why(client: httpx.Client, engine: Engine, lived: None) -> None:
    said = client.get(f"{PLACE}/explain").json()
    assert (said["status"], said["offset"], said["source"]) == ("active", 4, "/lastseen")
    assert said["sentence"] == engine.explain(KEY).sentence
    assert client.get("/v1/sessions/unknown/explain").json()["status"] == "unknown"


def test_why_then_and_of_which_session(client: httpx.Client, engine: Engine, lived: None, problem: Problem) -> None:
    then = client.get(f"{PLACE}/explain", params={"at": str(T0 + MIN)}).json()
    assert (then["status"], then["ended_at_ms"], then["deadline_ms"]) == ("active", T0 + 2 * MIN, T0 + 6 * MIN)
    assert (then["last_active_at_ms"], then["policy"]["idle_ttl_ms"]) == (T0 + MIN, 5 * MIN)
    assert then["sentence"] == engine.explain(KEY, at=T0 + MIN).sentence
    first = client.get(f"{PLACE}/history", params={"of": "lives"}).json()["lives"][0]
    ended = client.get(f"{PLACE}/explain", params={"session_id": first["session_id"]}).json()
    assert (ended["status"], ended["reason"], ended["offset"]) == ("ended", "logout", 3)
    assert client.get(f"{PLACE}/explain", params={"at": iso_from_ms(T0 + 2 * MIN)}).json()["reason"] == "logout"
    assert client.get(f"{PLACE}/explain", params={"at": "0:2"}).json()["status"] == "active"
    for wrong in ("yesterday", str(T0 + 4 * MIN), "2026-02-31T00:00:00Z"):
        assert problem(client.get(f"{PLACE}/explain", params={"at": wrong}))["status"] == 422, wrong
    assert problem(client.get(f"{PLACE}/explain", params={"at": "0:99"}))["status"] == 404


def test_ended_sessions_by_owner_and_time(
    client: httpx.Client, engine: Engine, clock: ManualClock, problem: Problem
) -> None:
    for number in range(3):
        engine.open(f"chat:{number}", attributes={"owner": "ana" if number else "bo"})
        clock.advance(MIN)
        engine.close(f"chat:{number}", reason="logout")
    assert [each["key"] for each in client.get("/v1/ended").json()["sessions"]] == ["chat:2", "chat:1", "chat:0"]
    query = {"owner": "ana", "since": iso_from_ms(T0 + 2 * MIN), "until": str(T0 + 3 * MIN)}
    (found,) = client.get("/v1/ended", params=query).json()["sessions"]
    assert (found["key"], found["owner"], found["reason"], found["version"]) == ("chat:1", "ana", "logout", 2)
    first = client.get("/v1/ended", params={"limit": 2}).json()
    second = client.get("/v1/ended", params={"limit": 2, "cursor": first["cursor"]}).json()
    assert ([each["key"] for each in second["sessions"]], second["cursor"]) == (["chat:0"], None)
    for wrong in ({"cursor": "1.2"}, {"since": "0:1"}, {"until": "yesterday"}, {"status": "ended"}):
        assert problem(client.get("/v1/ended", params=wrong))["status"] == 422, wrong


def test_a_session_as_it_was(client: httpx.Client, lived: None, problem: Problem) -> None:
    for at in (str(T0 + MIN), iso_from_ms(T0 + MIN), "0:2"):
        then = client.get(PLACE, params={"as_of": at}).json()
        assert (then["version"], then["attributes"]) == (2, {"n": 2}), at
    assert client.get(PLACE, params={"as_of": "0:1"}).json()["attributes"] == {"n": 1}
    assert problem(client.get(PLACE, params={"as_of": T0 + 2 * MIN}))["status"] == 404
    for wrong in (
        "4000000000000",
        "2099-01-01T00:00:00Z",
        "yesterday",
        "2026-02-31T00:00:00Z",
        "0:1:2",
        "9" * 17,
        "-0:1",
    ):
        assert problem(client.get(PLACE, params={"as_of": wrong}))["type"] == "/problems/invalid-parameter", wrong


def test_a_position_that_the_log_has_not_is_refused(client: httpx.Client, lived: None, problem: Problem) -> None:
    for nowhere in ("0:99", "3:0"):
        refused = problem(client.get(PLACE, params={"as_of": nowhere}))
        assert (refused["status"], refused["type"]) == (404, "/problems/no-such-record")


def test_messages_now_and_then(client: httpx.Client, lived: None) -> None:
    assert client.get(f"{PLACE}/messages").json() == {"messages": []}
    (then,) = client.get(f"{PLACE}/messages", params={"as_of": T0 + MIN}).json()["messages"]
    assert (then["value"], then["at_ms"], then["offset"]) == ({"text": "hello"}, T0 + MIN, 2)


def test_one_that_is_due_has_ended_before_a_record_says_so(
    client: httpx.Client, engine: Engine, clock: ManualClock, problem: Problem
) -> None:
    engine.open(KEY, policy=policy(idle_ttl="5m"))
    clock.advance(6 * MIN)
    gone = problem(client.get(PLACE))
    assert gone["status"] == 410
    assert (gone["ended"]["ended_at_ms"], gone["ended"]["reason"]) == (T0 + 5 * MIN, "idle")
    assert gone["ended"]["position"] is None


def test_ones_own_write_is_read_on_another_instance(
    tmp_path: Path, engine: Engine, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastseen.http.worker_threads.POSITION_WAIT_S", 0.2)
    url = f"sqlite:///{tmp_path / 'log.db'}"
    clock = ManualClock(T0)
    with (
        lastseen.open_engine(url, clock=clock, background=False) as other,
        Served(engine) as here,
        Served(other) as there,
        here.client() as writer,
        there.client() as reader,
    ):
        position = writer.post("/v1/sessions", json={"key": KEY}).headers["position"]
        assert problem(reader.get(PLACE))["status"] == 404, "the other instance follows nothing by itself here"
        seen = reader.get(PLACE, params={"min_position": position})
        assert (seen.status_code, seen.headers["position"]) == (200, position)
        assert reader.get("/v1/sessions", params={"min_position": position}).json()["sessions"]
        later = reader.get(PLACE, params={"min_position": "0:99"})
        assert problem(later)["type"] == "/problems/position-not-reached"
        assert later.headers["retry-after"] == "1"
        assert problem(reader.get(PLACE, params={"min_position": "1:0"}))["type"] == "/problems/another-log"
        for wrong in ("nowhere", "0:0," * 200 + "0:0"):
            assert problem(reader.get(PLACE, params={"min_position": wrong}))["status"] == 422
