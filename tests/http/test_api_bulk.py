"""Bulk commands over HTTP: named sessions or a filter, dry runs, tenants, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

from lastseen import Client, Engine
from lastseen.auth.token_file import TokenFile
from lastseen.engine import events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.errors import InvalidSetting
from lastseen.engine.identifiers import new_event_id, new_session_id
from lastseen.engine.log.port import Message
from lastseen.engine.session import Policy
from lastseen.http.guard.guard import guard
from lastseen.http.guard.limits import Limits

Problem = Callable[[httpx.Response], dict[str, Any]]


@pytest.fixture
def people(engine: Engine) -> None:
    """Three sessions of Ana, the second suspended, and one of Bob."""
    for key in ("web:1", "web:2", "chat:1"):
        engine.open(key, attributes={"owner": "ana"})
    engine.suspend("web:2")
    engine.open("web:3", attributes={"owner": "bob"})


@pytest.mark.usefixtures("people")
def test_the_sessions_of_an_owner_are_ended_in_one_append(client: httpx.Client, engine: Engine) -> None:
    planned = client.post("/v1/bulk/close", json={"owner": "ana", "prefix": "web:", "dry_run": True}).json()
    assert [(each["key"], each["result"]) for each in planned["results"]] == [
        ("web:1", "selected"),
        ("web:2", "selected"),
    ]
    assert (planned["applied"], planned["complete"], engine.count()) == (0, True, 4)
    response = client.post("/v1/bulk/close", json={"owner": "ana", "reason": "revoked"})
    body = response.json()
    assert (body["applied"], {each["result"] for each in body["results"]}) == (3, {"applied"})
    assert response.headers["position"].startswith("0:")
    assert [session.key for session in engine.list().sessions] == ["web:3"]
    span = engine.last_session_span("chat:1")
    assert span is not None
    assert span.reason == "revoked"


@pytest.mark.usefixtures("people")
def test_sessions_are_suspended_and_resumed_by_status(client: httpx.Client) -> None:
    suspended = client.post("/v1/bulk/suspend", json={"prefix": "web:", "status": "active", "reason": "night"}).json()
    assert [each["key"] for each in suspended["results"]] == ["web:1", "web:3"]
    resumed = client.post("/v1/bulk/resume", json={"prefix": "web:", "status": "suspended"}).json()
    assert [each["key"] for each in resumed["results"]] == ["web:1", "web:2", "web:3"]


@pytest.mark.usefixtures("people")
def test_named_sessions_have_a_result_each(client: httpx.Client, engine: Engine) -> None:
    session = engine.get("web:1")
    assert session is not None
    named = [
        {"key": "web:1", "session_id": "x" * 22}, {"key": "web:1", "session_id": session.session_id},
        {"key": "absent"}, {"key": "web:3"},
    ]  # fmt: skip
    results = client.post("/v1/bulk/close", json={"sessions": named}).json()["results"]
    assert [each["result"] for each in results] == ["refused", "applied", "refused", "applied"]
    assert [each["problem"]["error"] for each in results if "problem" in each] == ["StaleSession", "SessionNotFound"]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    "body",
    [
        {}, {"status": "active"}, {"prefix": ""}, {"owner": None}, {"owner": ""}, {"sessions": [], "owner": "ana"},
        {"sessions": [{"key": "web:1"}] * 10_001}, {"sessions": [{"key": 7}]}, {"owner": "ana", "reason": ""},
        {"owner": "ana", "all": True}, {"owner": 7}, {"owner": ["ana"]},
        {"owner": None, "prefix": "web:"}, {"owner": "ana", "prefix": ""}, {"owner": "ana", "prefix": None},
        {"owner": "ana", "status": None}, {"owner": "ana", "sessions": None},
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["close", "suspend", "resume"])
def test_a_request_that_does_not_say_whose_sessions_changes_nothing(
    client: httpx.Client, engine: Engine, problem: Problem, command: str, body: dict[str, Any]
) -> None:
    before = engine.log_ends()
    assert problem(client.post(f"/v1/bulk/{command}", json=body))["status"] == 422
    assert engine.log_ends() == before


@pytest.mark.usefixtures("people")
def test_a_tenant_reaches_its_own_sessions_only(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret, _ = TokenFile(path).create("web", ["manage"], "web:", 0)
    reader, _ = TokenFile(path).create("reader", ["read", "touch"], "web:", 0)
    guarded = guard(host="127.0.0.1", token_file=str(path), limits=Limits(), write=lambda line: None)
    with Served(engine, guard=guarded) as served, served.client() as client:
        web = {"authorization": f"Bearer {secret}"}
        refused = client.post("/v1/bulk/close", json={"owner": "ana"}, headers={"authorization": f"Bearer {reader}"})
        assert refused.status_code == 403
        named = {"sessions": [{"key": "chat:1"}, {"key": "web:3"}]}
        results = client.post("/v1/bulk/close", json=named, headers=web).json()["results"]
        assert [each["result"] for each in results] == ["refused", "applied"]
        assert results[0]["problem"]["status"] == 403
        ended = client.post("/v1/bulk/close", json={"owner": "ana"}, headers=web).json()
        assert [each["key"] for each in ended["results"]] == ["web:1", "web:2"]
        other = client.post("/v1/bulk/close", json={"prefix": "chat:"}, headers=web).json()
        assert (other["results"], other["complete"]) == ([], True)
    assert [session.key for session in engine.list().sessions] == ["chat:1"]


@pytest.mark.usefixtures("people")
def test_a_client_ends_by_filter(served: Served, engine: Engine) -> None:
    with Client(served.address) as client:
        planned = client.close_where(owner="ana", dry_run=True)
        assert [each.result for each in planned.results] == ["selected"] * 3
        assert client.suspend_where(prefix="web:", status="active").applied == 2
        assert client.resume_where(owner="bob").applied == 1
        assert client.close_where(owner="ana").applied == 3
        for command in (client.close_where, client.suspend_where, client.resume_where):
            with pytest.raises(InvalidSetting, match="owner and prefix are missing"):
                command()
            for computed in (
                {"owner": None, "prefix": "web:"},
                {"owner": "", "prefix": "web:"},
                {"owner": "ana", "prefix": ""},
            ):
                with pytest.raises(InvalidSetting, match=r"or leave (owner|prefix) out for any"):
                    command(**computed)
    assert engine.count() == 1


def test_a_filter_takes_ten_thousand_at_a_time(client: httpx.Client, engine: Engine) -> None:
    now_ms = engine.now_ms()
    made = [
        events.Created(
            id=new_event_id(now_ms), source="/test", subject=f"k{number}", time=iso_from_ms(now_ms),
            data=events.CreatedData(session_id=new_session_id(), policy=Policy(), attributes={}),
        )
        for number in range(10_001)
    ]  # fmt: skip
    engine.append_and_answer([Message(0, event.subject, encode(event)) for event in made], [event.id for event in made])
    first = client.post("/v1/bulk/close", json={"prefix": "k"}).json()
    assert (first["applied"], first["complete"]) == (10_000, False)
    second = client.post("/v1/bulk/close", json={"prefix": "k"}).json()
    assert (second["applied"], second["complete"]) == (1, True)
