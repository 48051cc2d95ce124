"""Sessions over HTTP: opening, looking, listing, ending, and how each failure is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from lastseen import Engine, Position

Problem = Callable[[httpx.Response], dict[str, Any]]
KEY = "discord:guild1:chan2:ana"


def test_opening_with_a_touch_and_limits(client: httpx.Client, problem: Any) -> None:
    wanted = {"key": "chat:opened", "touch": True, "idle_ttl": "1h30m", "max_age": None}
    created = client.post("/v1/sessions", json=wanted)
    assert (created.status_code, created.json()["version"]) == (201, 1)
    assert created.json()["policy"]["idle_ttl_ms"] == 5_400_000
    again = client.post("/v1/sessions", json=wanted)
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert again.json()["session_id"] == created.json()["session_id"]
    for wrong in (90, "90", "1h30", "0s", ""):
        refused = problem(client.post("/v1/sessions", json={"key": "chat:wrong", "idle_ttl": wrong}))
        assert refused["status"] == 422, wrong
    assert client.get("/v1/sessions/chat:wrong").status_code == 404


def test_a_retry_of_an_opening_with_a_touch_touches_nothing(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "opened-once"}
    wanted = {"key": "chat:retried", "touch": True, "idle_ttl": "5m"}
    first, second = (client.post("/v1/sessions", json=wanted, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code, second.headers["idempotency-replayed"]) == (201, 201, "true")
    assert second.json()["version"] == client.get("/v1/sessions/chat:retried").json()["version"] == 1


def test_a_session_is_created_opened_looked_at_and_ended(client: httpx.Client, problem: Problem) -> None:
    made = client.post("/v1/sessions", json={"key": KEY, "attributes": {"owner": "ana"}})
    assert (made.status_code, made.headers["etag"], made.headers["position"]) == (201, '"1"', "0:1")
    assert made.json()["attributes"] == {"owner": "ana"}
    place = made.headers["location"]

    again = client.post("/v1/sessions", json={"key": KEY})
    assert (again.status_code, again.json()["session_id"]) == (200, made.json()["session_id"])
    assert client.get(place).json() == made.json()

    ended = client.delete(place)
    assert (ended.status_code, ended.content, ended.headers["position"]) == (204, b"", "0:2")
    gone = problem(client.get(place))
    assert (gone["status"], gone["type"], gone["error"]) == (410, "/problems/session-ended", "SessionEnded")
    said = gone["ended"]
    assert (said["session_id"], said["reason"], said["position"]) == (made.json()["session_id"], "deleted", "0:2")
    assert said["ended_by"] == "/lastseen"
    assert said["ended_at_ms"] >= said["began_at_ms"] == made.json()["created_at_ms"]


def test_the_answers_are_the_engine_s(client: httpx.Client, engine: Engine) -> None:
    session = engine.open(KEY, attributes={"n": 1})
    assert client.get(f"/v1/sessions/{KEY}").json() == session.as_dict()


def test_what_never_was_is_404(client: httpx.Client, problem: Problem) -> None:
    assert problem(client.get("/v1/sessions/unknown"))["error"] == "SessionNotFound"
    assert problem(client.delete("/v1/sessions/unknown"))["status"] == 404


def test_create_refuses_what_lives(client: httpx.Client, problem: Problem) -> None:
    wanted = {"key": KEY, "if_exists": "refuse"}
    assert client.post("/v1/sessions", json=wanted).status_code == 201
    assert problem(client.post("/v1/sessions", json=wanted))["error"] == "SessionExists"


@pytest.mark.parametrize(
    ("send", "status", "kind"),
    [
        ({"json": {}}, 422, "invalid-body"),
        ({"json": {"key": KEY, "surprise": 1}}, 422, "invalid-body"),
        ({"json": {"key": "a\x07b"}}, 422, "invalid-body"),
        ({"json": {"key": "a\n"}}, 422, "invalid-key"),
        ({"json": {"key": KEY, "policy": {"idle_ttl_ms": 0}}}, 422, "invalid-body"),
        ({"json": {"key": KEY, "attributes": {"a": "b" * 20_000}}}, 422, "invalid-event"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "invalid-body"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 422, "invalid-body"),
        ({"content": b"key=1", "headers": {"content-type": "text/plain"}}, 415, "unsupported-media-type"),
    ],
)
def test_what_breaks_a_rule_is_refused(
    client: httpx.Client, engine: Engine, problem: Problem, send: dict[str, Any], status: int, kind: str
) -> None:
    refused = problem(client.post("/v1/sessions", **send))
    assert (refused["status"], refused["type"]) == (status, f"/problems/{kind}")
    assert engine.reached(0) == Position(0, 0), "the genesis record"


def test_pages_go_through_all(client: httpx.Client, engine: Engine, problem: Problem) -> None:
    for number in range(5):
        engine.open(f"a/{number}", attributes={"owner": "ana" if number % 2 else "bob"})
    engine.open("b")
    engine.suspend("a/0")
    seen, cursor = [], None
    while True:
        page = client.get("/v1/sessions", params={"prefix": "a/", "limit": 2} | ({"cursor": cursor} if cursor else {}))
        seen += [session["key"] for session in page.json()["sessions"]]
        cursor = page.json()["cursor"]
        if cursor is None:
            break
    assert sorted(seen) == [f"a/{number}" for number in range(5)]

    def keys(**params: str) -> list[str]:
        return [session["key"] for session in client.get("/v1/sessions", params=params).json()["sessions"]]

    assert keys(owner="ana", sort="created") == ["a/1", "a/3"]
    assert keys(status="suspended") == ["a/0"]
    wrongs = ({"sort": "size"}, {"limit": "0"}, {"limit": "many"}, {"cursor": "nonsense"}, {"colour": "red"})
    empty = ({"owner": ""}, {"prefix": ""}, {"status": ""})  # a caller that computed them did not mean all
    other_listing = {"cursor": client.get("/v1/sessions?limit=1&owner=ana").json()["cursor"]}
    for wrong in (*wrongs, *empty, other_listing):
        assert problem(client.get("/v1/sessions", params=wrong))["type"] == "/problems/invalid-parameter"
    assert problem(client.get("/v1/sessions?limit=1&limit=2"))["status"] == 422


def test_paths_and_methods_that_are_not_there(client: httpx.Client, problem: Problem) -> None:
    assert problem(client.get("/v2/nothing"))["type"] == "/problems/no-such-path"
    wrong = client.put(f"/v1/sessions/{KEY}")
    assert problem(wrong)["type"] == "/problems/method-not-allowed"
    assert wrong.headers["allow"] == "DELETE, GET, HEAD"


def test_what_fails_unexpectedly_tells_no_internals(
    client: httpx.Client, engine: Engine, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("the secret is swordfish")

    monkeypatch.setattr(engine, "get", broken)
    answer = client.get(f"/v1/sessions/{KEY}")
    assert problem(answer)["status"] == 500
    assert "swordfish" not in answer.text
