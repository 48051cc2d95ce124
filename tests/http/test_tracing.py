"""Traces: a request's span below the caller's, a command's below the request's, and no key in any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import opentelemetry.trace
import pytest
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    SpanContext,
    SpanKind,
    Status,
    Tracer,
    TracerProvider,
    get_current_span,
    use_span,
)

import lastseen
from lastseen import Engine
from lastseen.engine.errors import LogUnavailable, SessionNotFound
from lastseen.http.application import Unguarded, build
from lastseen.http.tracing import traced
from lastseen.monitoring import tracing
from lastseen.service.server import application
from lastseen.service.signals import StopSignals

KEY = "telegram:ana-maria"
CALLER = "0af7651916cd43dd8448eb211c80319c"


class Recorded(NonRecordingSpan):
    """A span that remembers what was said of it."""

    def __init__(self, number: int, name: str, parent: SpanContext, kind: SpanKind, attributes: Any) -> None:
        super().__init__(SpanContext(parent.trace_id or 1, number, is_remote=False))
        self.name, self.parent, self.kind = name, parent, kind
        self.attributes = dict(attributes or {})
        self.status: Status | None = None

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def update_name(self, name: str) -> None:
        self.name = name

    def set_status(self, status: Any, *_: Any) -> None:
        self.status = status

    def record_exception(self, *_: Any, **__: Any) -> None:
        raise AssertionError("what an exception says may hold a key")


class Recorder(TracerProvider, Tracer):
    """Keeps all spans, in the order in which they began."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        return self

    def start_span(
        self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL, attributes: Any = None,
        *_: Any, **__: Any,
    ) -> Recorded:  # fmt: skip
        parent = get_current_span(context).get_span_context()
        self.spans.append(Recorded(len(self.spans) + 1, name, parent, kind, attributes))
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Iterator[Recorded]:
        span = self.start_span(name, *args, **kwargs)
        with use_span(span, record_exception=kwargs["record_exception"], set_status_on_exception=False):
            yield span


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", made)
    return made


@pytest.fixture
def engine(recorder: Recorder) -> Iterator[Engine]:
    with lastseen.open_engine("memory://", background=False) as opened:
        tracing.trace_commands(opened)
        yield opened


def test_it_is_on_where_a_provider_was_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not tracing.is_on()
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", NoOpTracerProvider())
    assert not tracing.is_on()
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", Recorder())
    assert tracing.is_on()
    monkeypatch.delitem(tracing.sys.modules, "opentelemetry.trace")
    assert not tracing.is_on()


def test_a_span_for_each_command(engine: Engine, recorder: Recorder) -> None:
    engine.open(KEY)
    engine.touch(KEY)
    engine.get(KEY)
    with engine.hold(KEY, holder="job"):
        pass
    engine.close(KEY)

    assert [span.name for span in recorder.spans] == [
        f"lastseen.{name}" for name in ("open", "touch", "take_lease", "release", "close")
    ]
    assert all(span.status is None and not span.attributes for span in recorder.spans)


def test_a_refusal_is_an_answer_and_a_log_out_of_reach_a_failure(
    engine: Engine, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SessionNotFound):
        engine.touch(KEY)
    engine.open(KEY)

    def is_away(*_: object) -> None:
        raise LogUnavailable(f"no room for {KEY}")

    monkeypatch.setattr(engine._log, "append", is_away)
    with pytest.raises(LogUnavailable):
        engine.touch(KEY)

    refused, _, failed = recorder.spans
    assert (refused.attributes, refused.status) == ({"error.type": "SessionNotFound"}, None)
    assert failed.attributes == {"error.type": "LogUnavailable"}
    assert failed.status is not None
    assert not failed.status.is_ok


def ask(engine: Engine, path: str, method: str = "GET", guard: Any = Unguarded, **more: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(build(engine, guard=traced(guard)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **more)

    return asyncio.run(asked())


def test_a_request_stands_below_its_caller_and_its_command_below_it(engine: Engine, recorder: Recorder) -> None:
    headers = {"traceparent": f"00-{CALLER}-b7ad6b7169203331-01"}
    assert ask(engine, "/v1/sessions", "POST", json={"key": KEY}, headers=headers).status_code == 201

    request, *commands = recorder.spans
    assert (request.name, request.kind) == ("POST /v1/sessions", SpanKind.SERVER)
    assert request.attributes == {
        "http.request.method": "POST", "http.route": "/v1/sessions", "http.response.status_code": 201,
    }  # fmt: skip
    assert (request.parent.trace_id, request.parent.span_id) == (int(CALLER, 16), 0xB7AD6B7169203331)
    assert commands
    for command in commands:
        assert command.name in ("lastseen.open", "lastseen.create")
        assert (command.parent.trace_id, command.parent.span_id) == (int(CALLER, 16), 1)


def test_no_key_is_in_a_trace(engine: Engine, recorder: Recorder) -> None:
    engine.open(KEY)
    for path in (f"/v1/sessions/{KEY}", f"/v1/sessions?prefix={KEY}", f"/{KEY}", f"/v1/sessions/{KEY}-unknown"):
        ask(engine, path)
    assert [span.name for span in recorder.spans[1:]] == [
        "GET /v1/sessions/{key}", "GET /v1/sessions", "GET (none)", "GET /v1/sessions/{key}",
    ]  # fmt: skip
    assert "ana" not in str([(span.name, span.attributes) for span in recorder.spans])


def test_a_request_that_crashed(engine: Engine, recorder: Recorder) -> None:
    async def crashes(*_: object) -> None:
        raise RuntimeError(KEY)

    assert ask(engine, "/", "BREW", guard=lambda _: crashes).status_code == 500
    (span,) = recorder.spans
    assert (span.name, span.attributes["http.response.status_code"]) == ("other (none)", 500)
    assert span.status is not None


def test_the_service_traces_where_a_provider_was_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with lastseen.open_engine("memory://", background=False) as engine:

        def spans_of(recorder: Recorder) -> list[str]:
            app = application(engine, Unguarded, StopSignals())

            async def asked() -> None:
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
                    await client.post("/v1/sessions", json={"key": KEY})

            asyncio.run(asked())
            return [span.name for span in recorder.spans]

        recorder = Recorder()
        assert spans_of(recorder) == []
        monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", recorder)
        assert spans_of(recorder)[0] == "POST /v1/sessions"
