"""What happens to sessions over HTTP: touches one by one and many at a time, suspending, holds, rotation, versions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from lastseen import Engine, errors
from tests.patience import PATIENCE_S

Problem = Callable[[httpx.Response], dict[str, Any]]
KEY = "telegram:42"
PLACE = "/v1/sessions/telegram%3A42"


@pytest.fixture
def opened(engine: Engine) -> str:
    """The id of a live session."""
    return engine.open(KEY).session_id


def test_a_touch_answers_with_the_session_after_it(client: httpx.Client, engine: Engine, opened: str) -> None:
    touched = client.post(f"{PLACE}/touch")
    assert (touched.status_code, touched.headers["etag"], touched.headers["position"]) == (200, '"2"', "0:2")
    session = engine.get(KEY)
    assert session is not None
    assert touched.json() == session.as_dict()


def test_a_touch_carries_state_a_message_and_limits(client: httpx.Client, engine: Engine, opened: str) -> None:
    body = {"attributes": {"mood": "fine"}, "message": {"text": "hello"}, "policy": {"idle_ttl_ms": 1000_000}}
    touched = client.post(f"{PLACE}/touch", json=body).json()
    assert (touched["attributes"], touched["policy"]["idle_ttl_ms"]) == ({"mood": "fine"}, 1000_000)
    assert [message.value for message in engine.messages(KEY)] == [{"text": "hello"}]


@pytest.mark.parametrize("wait", ["appended", "none"])
def test_who_does_not_wait_gets_202(client: httpx.Client, engine: Engine, opened: str, wait: str) -> None:
    answer = client.post(f"{PLACE}/touch", params={"wait": wait})
    assert (answer.status_code, answer.json()) == (202, {"accepted": True})
    assert client.get(PLACE, params={"min_position": "0:2"}).headers["etag"] == '"2"'


def test_touches_are_refused_as_the_engine_refuses_them(
    client: httpx.Client, engine: Engine, opened: str, problem: Problem
) -> None:
    assert problem(client.post("/v1/sessions/unknown/touch"))["error"] == "SessionNotFound"
    other = {"session_id": "x" * 22}
    assert problem(client.post(f"{PLACE}/touch", json=other))["error"] == "StaleSession"
    engine.suspend(KEY)
    assert problem(client.post(f"{PLACE}/touch"))["error"] == "SessionSuspended"


@pytest.mark.parametrize("verb", ["touch", "suspend", "resume", "hold", "release", "rotate", "close"])
def test_what_has_ended_is_gone_with_when_and_why(
    client: httpx.Client, engine: Engine, opened: str, problem: Problem, verb: str
) -> None:
    engine.close(KEY, reason="logout")
    body = {"hold": {"holder": "job", "lease_ms": 1_000}, "release": {"holder": "job"}}.get(verb, {})
    said = problem(client.post(f"{PLACE}/{verb}", json=body))
    assert (said["status"], said["error"], said["ended"]) == (
        410, "SessionEnded", problem(client.get(PLACE))["ended"],
    )  # fmt: skip
    assert (said["ended"]["session_id"], said["ended"]["reason"]) == (opened, "logout")


def test_touches_at_once_are_all_counted(client: httpx.Client, engine: Engine, opened: str) -> None:
    start = threading.Barrier(8)

    def touch_some(_: int) -> list[int]:
        start.wait(PATIENCE_S)
        return [client.post(f"{PLACE}/touch").status_code for _ in range(20)]

    with ThreadPoolExecutor(8) as threads:
        answers = [status for some in threads.map(touch_some, range(8)) for status in some]
    assert answers == [200] * 160
    session = engine.get(KEY)
    assert session is not None
    assert session.version == 161


def test_many_touches_have_a_result_each(client: httpx.Client, engine: Engine, opened: str) -> None:
    engine.open("suspended")
    engine.suspend("suspended")
    answer = client.post("/v1/touches", json={"keys": [KEY, "unknown", "suspended", "a\nb", KEY]})
    assert (answer.status_code, answer.headers["position"]) == (200, "0:5")
    first, unknown, suspended, malformed, last = answer.json()["results"]
    assert (first["result"], first["session_id"]) == ("applied", opened)
    assert first == last, "of one append, both see the session as it was after it"
    assert (last["version"], last["position"]) == (3, [0, 5])
    refused = [each["problem"]["error"] for each in (unknown, suspended, malformed)]
    assert refused == ["SessionNotFound", "SessionSuspended", "InvalidKey"]
    assert [each["problem"]["status"] for each in (unknown, suspended, malformed)] == [404, 409, 422]


def test_many_touches_without_waiting(client: httpx.Client, opened: str) -> None:
    answer = client.post("/v1/touches", json={"keys": [KEY, "unknown"], "wait": "none"})
    assert answer.status_code == 202
    assert [each["result"] for each in answer.json()["results"]] == ["sent", "refused"]


@pytest.mark.parametrize("keys", [[], ["k"] * 10_001, [1], None])
def test_many_touches_are_bounded(client: httpx.Client, problem: Problem, keys: object) -> None:
    assert problem(client.post("/v1/touches", json={"keys": keys}))["status"] == 422


def test_a_session_is_suspended_and_resumed(client: httpx.Client, opened: str, problem: Problem) -> None:
    assert client.post(f"{PLACE}/suspend", json={"reason": "lunch"}).json()["status"] == "suspended"
    assert problem(client.post(f"{PLACE}/suspend"))["error"] == "AlreadyDone"
    assert client.post(f"{PLACE}/resume").json()["status"] == "active"


def test_a_session_is_held_and_released(client: httpx.Client, opened: str, problem: Problem) -> None:
    held = client.post(f"{PLACE}/hold", json={"holder": "job", "lease_ms": 5_000}).json()
    assert list(held["holders"]) == ["job"]
    assert client.post(f"{PLACE}/release", json={"holder": "job"}).json()["holders"] == {}
    assert problem(client.post(f"{PLACE}/release", json={"holder": "job"}))["error"] == "AlreadyDone"
    assert problem(client.post(f"{PLACE}/hold"))["status"] == 422


def test_a_session_is_rotated(client: httpx.Client, engine: Engine, opened: str) -> None:
    engine.update(KEY, {"kept": True})
    rotated = client.post(f"{PLACE}/rotate", json={"reason": "renewed"}).json()
    assert rotated["session_id"] != opened
    assert rotated["attributes"] == {"kept": True}
    assert [life.reason for life in engine.session_spans(KEY)] == ["renewed", None]


def test_close_says_why(client: httpx.Client, engine: Engine, opened: str) -> None:
    assert client.post(f"{PLACE}/close", json={"reason": "logout"}).status_code == 204
    assert client.get(PLACE).json()["ended"]["reason"] == "logout"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "touch", None),
        ("POST", "suspend", None),
        ("POST", "rotate", None),
        ("POST", "close", None),
        ("DELETE", "", None),
        ("GET", "", None),
    ],
)
def test_if_match_is_held_to(
    client: httpx.Client, engine: Engine, opened: str, problem: Problem, method: str, path: str, body: object
) -> None:
    place = f"{PLACE}/{path}".rstrip("/")
    for stale in ('"7"', 'W/"1"', "7", '"7", "8"', '"other"'):
        assert problem(client.request(method, place, headers={"If-Match": stale}))["status"] == 412, stale
    assert problem(client.request(method, place, headers={"If-Match": "seven"}))["status"] == 422
    session = engine.get(KEY)
    assert session is not None
    assert session.version == 1
    assert client.request(method, place, headers={"If-Match": '"9", "1"'}).status_code in (200, 204)


def test_what_was_seen_need_not_be_sent_again(client: httpx.Client, opened: str) -> None:
    for seen in ('"1"', 'W/"1"', '"0", "1"', "*"):
        answer = client.get(PLACE, headers={"If-None-Match": seen})
        assert (answer.status_code, answer.headers["etag"], answer.content) == (304, '"1"', b"")
    assert client.get(PLACE, headers={"If-None-Match": '"2"'}).status_code == 200


def test_an_engine_that_shuts_down_says_so(client: httpx.Client, engine: Engine, opened: str, problem: Problem) -> None:
    engine.shutdown()
    for answer in (client.get(PLACE), client.post(f"{PLACE}/touch"), client.post(f"{PLACE}/suspend")):
        assert problem(answer)["type"] == "/problems/shutting-down"
        assert answer.headers["retry-after"] == "1"
    with pytest.raises(errors.EngineClosed):
        engine.get(KEY)


# ── conditions and retries ──


@pytest.mark.parametrize("verb", ["hold", "release"])
def test_a_lease_may_depend_on_the_version(
    client: httpx.Client, engine: Engine, opened: str, problem: Problem, verb: str
) -> None:
    engine.take_lease(KEY, "job", 60_000)
    before = engine.log_ends()
    refused = client.post(f"{PLACE}/{verb}", json={"holder": "job"}, headers={"If-Match": '"1"'})
    assert problem(refused)["status"] == 412
    assert engine.log_ends() == before
    done = client.post(f"{PLACE}/{verb}", json={"holder": "job"}, headers={"If-Match": '"2"'})
    assert (done.status_code, done.headers["etag"]) == (200, '"3"')


REPEATED = {
    "touch": {"message": {"text": "hello"}}, "suspend": {}, "hold": {"holder": "job"}, "release": {"holder": "other"},
    "rotate": {}, "resume": {}, "close": {},
}  # fmt: skip


@pytest.mark.parametrize("verb", REPEATED)
def test_a_repeated_request_has_one_effect_and_one_response(
    client: httpx.Client, engine: Engine, opened: str, problem: Problem, verb: str
) -> None:
    engine.take_lease(KEY, "other", 60_000)
    if verb == "resume":
        engine.suspend(KEY)

    def send(name: str = "one", **more: Any) -> httpx.Response:
        return client.post(f"{PLACE}/{verb}", json=REPEATED[verb] | more, headers={"Idempotency-Key": name})

    first = send()
    after = engine.log_ends()
    again = send()
    assert (first.status_code, again.status_code, again.content) == (
        first.status_code,
        first.status_code,
        first.content,
    )
    assert first.is_success
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert engine.log_ends() == after
    assert problem(send(session_id="x" * 22))["type"] == "/problems/idempotency-key-reused"
    elsewhere = client.post(f"/v1/sessions/other/{verb}", json=REPEATED[verb], headers={"Idempotency-Key": "one"})
    assert problem(elsewhere)["type"] == "/problems/idempotency-key-reused"
    assert engine.log_ends() == after


@pytest.mark.parametrize("header", ["If-Match", "Idempotency-Key"])
def test_no_change_ignores_the_terms_that_it_is_sent_with(client: httpx.Client, engine: Engine, header: str) -> None:
    before = engine.log_ends()
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            taken = [each["name"] for each in operation["parameters"]]
            if method == "get" or header in taken:
                continue
            answer = client.request(method, path.replace("{id}", "x").replace("{key}", "x"), headers={header: '"7"'})
            assert (answer.status_code, header in answer.json()["detail"]) == (422, True), path
    assert engine.log_ends() == before


@pytest.mark.parametrize(
    "content",
    [
        b'{"holder": "a", "holder": "b"}', b'{"holder": "a", "lease_ms": 5, "\\u0068older": "b"}',
        b'{"lease_ms": 1, "lease_ms": 2.0, "holder": "a"}',
    ],
)  # fmt: skip
def test_a_name_that_is_given_twice_is_refused(
    client: httpx.Client, engine: Engine, opened: str, problem: Problem, content: bytes
) -> None:
    before = engine.log_ends()
    refused = client.post(f"{PLACE}/hold", content=content, headers={"Content-Type": "application/json"})
    assert problem(refused)["type"] == "/problems/invalid-body"
    assert "more than once" in refused.json()["detail"]
    assert engine.log_ends() == before


@pytest.mark.parametrize("path", [f"{PLACE}/touch", "/v1/sessions", "/v1/touches", "/v1/bulk/close"])
def test_a_name_that_is_given_twice_is_refused_at_any_depth(
    client: httpx.Client, opened: str, problem: Problem, path: str
) -> None:
    bodies = {
        f"{PLACE}/touch": b'{"attributes": {"a": [{"role": "user", "role": "admin"}]}}',
        "/v1/sessions": b'{"key": "a", "attributes": {"owner": "ana", "owner": "bob"}}',
        "/v1/touches": b'{"keys": ["a:b"], "keys": ["c:d"]}',
        "/v1/bulk/close": b'{"owner": "ana", "dry_run": true, "dry_run": false}',
    }
    refused = client.post(path, content=bodies[path], headers={"Content-Type": "application/json"})
    assert (problem(refused)["status"], "more than once" in refused.json()["detail"]) == (422, True)


def test_names_may_be_repeated_in_other_objects(client: httpx.Client, opened: str) -> None:
    body = {"attributes": {"a": {"b": 1}, "b": [{"a": 1}, {"a": 2}]}, "message": {"n": 10**15, "b": "a:b:c"}}
    assert client.post(f"{PLACE}/touch", json=body).status_code == 200
