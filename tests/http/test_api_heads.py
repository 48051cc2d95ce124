"""`HEAD` wherever `GET` is: the same status and header fields, and no body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from served import Served

import lastseen
from lastseen import Engine
from lastseen.http.application import build, operations_of, worker_threads_of
from lastseen.http.guard.guard import Guard
from lastseen.http.routes import health, metrics
from lastseen.http.routes.metrics import STREAM_PATHS
from tests.patience import PATIENCE_S

STREAM = "/v1/events/stream"
FIGURES = ("/metrics", "/v1/statistics", "/v1/projections")
"""What they answer grows from one request to the next."""


class InProcess:
    """The application without a server: what it sends is what is seen."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        routers = [health.router(engine), metrics.router(engine)]
        self.app = build(engine, operations=routers, **options)

    def ask(self, method: str, path: str, fields: dict[str, str]) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, header fields and body."""
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "scheme": "http", "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2), "headers": [(name.encode(), text.encode()) for name, text in fields.items()],
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()  # the caller stays
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        async def call() -> None:
            await asyncio.wait_for(self.app(scope, receive, send), PATIENCE_S)
            await worker_threads_of(self.app).close()

        asyncio.run(call())
        start, *rest = sent
        assert not rest[-1].get("more_body", False), "the answer is whole"
        return start["status"], dict(start["headers"]), b"".join(each["body"] for each in rest)


@pytest.fixture
def known() -> Iterator[Engine]:
    """An engine with a session that lives, and one that has ended."""
    with lastseen.open_engine("memory://", background=False) as engine:
        engine.create("alive", attributes={"owner": "ana"})
        engine.create("over")
        engine.close("over", reason="logout")
        yield engine


def readable(engine: Engine) -> list[str]:
    """Each path that can be read, of a session that lives."""
    operations = operations_of(worker_threads_of(build(engine)))
    paths = [each.path for each in operations if each.method == "GET" and each.path not in STREAM_PATHS]
    assert len(paths) >= 12
    return [path.replace("{key}", "alive").replace("{id}", "none").replace("{name}", "none") for path in paths]


def test_it_is_answered_wherever_get_is(known: Engine) -> None:
    for path in [*readable(known), "/livez", "/readyz", "/metrics", "/openapi.json"]:
        status, fields, body = InProcess(known).ask("GET", path, {})
        looked_status, looked_fields, looked_body = InProcess(known).ask("HEAD", path, {})
        assert (looked_status, looked_body) == (status, b""), path
        assert body, path
        assert looked_fields.keys() == fields.keys(), path
        length = int(looked_fields[b"content-length"])
        assert length == len(body) or (length > 0 and path in FIGURES), path


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/v1/sessions/alive", {}, 200),
        ("/v1/sessions/alive", {"if-none-match": '"1"'}, 304),
        ("/v1/sessions/alive", {"if-match": '"7"'}, 412),
        ("/v1/sessions/over", {}, 410),
        ("/v1/sessions/unknown", {}, 404),
        ("/v1/sessions?limit=many", {}, 422),
        ("/v1/nothing", {}, 404),
        ("/v1/sessions/alive/touch", {}, 405),
        (STREAM, {}, 200),
        (STREAM, {"last-event-id": "nonsense"}, 422),
    ],
)
def test_it_means_what_get_means(known: Engine, path: str, fields: dict[str, str], status: int) -> None:
    ends = known.checkpoints()
    looked_status, looked_fields, looked_body = InProcess(known).ask("HEAD", path, fields)
    assert (looked_status, looked_body) == (status, b"")
    if path != STREAM:  # which GET would not leave
        assert InProcess(known).ask("GET", path, fields)[:2] == (looked_status, looked_fields)
    assert known.checkpoints() == ends, "a look changes nothing"


def test_a_stream_is_not_begun(known: Engine) -> None:
    with Served(known) as served, served.client() as client:
        answer = client.head(STREAM)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-length" not in answer.headers, "a stream has no length"
        again = client.get("/v1/sessions/alive")
        assert again.json()["key"] == "alive", "the connection is good for another request"


def test_who_may_not_read_may_not_look(known: Engine) -> None:
    class Strangers:
        def caller(self, _: bytes) -> None:
            return None

    service = InProcess(known, guard=lambda app: Guard(app, tokens=Strangers(), write=dict))
    status, fields, body = service.ask("HEAD", "/v1/sessions/alive", {"host": "127.0.0.1"})
    assert (status, body) == (401, b"")
    assert b"www-authenticate" in fields


def test_what_does_not_take_it_says_what_it_takes(known: Engine) -> None:
    _, fields, _ = InProcess(known).ask("HEAD", "/v1/sessions/alive/touch", {})
    assert fields[b"allow"] == b"POST"
    _, fields, _ = InProcess(known).ask("PUT", "/v1/sessions/alive", {})
    assert fields[b"allow"] == b"DELETE, GET, HEAD"
