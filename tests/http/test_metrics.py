"""`/metrics`: what it says, in what form, and that no session is named in it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from kafka_fixtures import SharedBroker
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from typer.testing import CliRunner

import lastseen
from lastseen import Engine, ManualClock
from lastseen.auth.caller import Caller
from lastseen.auth.caller import Scope as May
from lastseen.cli.program import app
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.port import Message
from lastseen.http.application import Unguarded, build
from lastseen.http.guard.guard import STREAM_PATHS, UNAUTHENTICATED
from lastseen.http.routes import metrics
from lastseen.monitoring.statistics_line import statistics_line
from tests.patience import PATIENCE_S, eventually

SECRET = "telegram:ana-maria"
S = 1_000


class Metrics:
    """What `/metrics` said once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse_plain(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[f"lastseen_{name}", frozenset(labels.items())]

    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


class Service:
    """An application of one engine, as the server would have it."""

    def __init__(self, engine: Engine, guard: Any = Unguarded, more: APIRouter | None = None) -> None:
        self.engine = engine
        self.requests = metrics.RequestMetrics()
        routers = [metrics.router(engine, self.requests), *([] if more is None else [more])]
        self.app = build(engine, guard=self.requests.with_metrics(guard), operations=routers)

    def ask(self, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())

    def metric(self) -> Metrics:
        answer = self.ask("/metrics")
        assert answer.status_code == 200
        return Metrics(answer.text)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/log.db"
    with lastseen.open_engine(url, clock=clock, idle_ttl="30m", max_sessions=4, background=False) as opened:
        yield opened


@pytest.fixture
def service(engine: Engine) -> Service:
    return Service(engine)


def test_sessions_by_status_and_how_they_ended(service: Service, engine: Engine, clock: ManualClock) -> None:
    for number in range(4):
        engine.open(f"key-{number}")
    engine.suspend("key-0")
    engine.close("key-1", reason="logout")
    engine.close("key-2", reason="made_up_by_a_caller")
    clock.advance(30 * 60 * S + 2_300)
    engine.prune()

    metric = service.metric()

    assert (metric("sessions", status="active"), metric("sessions", status="suspended")) == (0, 1)
    assert metric("sessions_created_total") == 4
    ended = {reason: metric("sessions_ended_total", reason=reason) for reason in ("logout", "other", "idle", "deleted")}
    assert ended == {"logout": 1, "other": 1, "idle": 1, "deleted": 0}
    assert "made_up" not in metric.text
    assert metric("records_applied_total", event="created") == 4
    assert metric("oldest_session_age_seconds") == metric("newest_session_age_seconds") == 30 * 60 + 2.3
    # The one that idled out was announced 2.3 s late.
    assert metric("expiry_lag_seconds_bucket", le="1.0") == 0
    assert metric("expiry_lag_seconds_bucket", le="2.5") == metric("expiry_lag_seconds_count") == 1
    assert metric("expiry_lag_seconds_sum") == 2.3
    assert (metric("pruner_runs_total"), metric("pruner_announced_total")) == (1, 1)


def test_an_empty_engine_has_no_oldest_session(service: Service) -> None:
    metric = service.metric()

    assert metric("oldest_session_age_seconds") != metric("oldest_session_age_seconds"), "not a number"
    assert metric("sessions_ended_total", reason="idle") == metric("records_void_total", reason="clock_skew") == 0


def test_void_records_and_spared_sessions(service: Service, engine: Engine, clock: ManualClock) -> None:
    engine.open("key-0")
    engine._log.append([Message(0, "key-0", b"rubbish"), Message(0, "key-0", b"more of it")])
    engine.refresh()
    with engine.hold("key-0", holder="job"):
        for number in range(1, 6):
            clock.advance(1)
            engine.open(f"key-{number}")
        engine.prune()
        metric = service.metric()

    assert metric("pruner_skipped_total", guard="held") == 1
    assert metric("sessions_ended_total", reason="capacity") == 2
    assert metric("records_void_total", reason="malformed") == 2
    assert metric("records_void_total", reason="already") == 0


def test_records_and_voids_by_source(service: Service, engine: Engine) -> None:
    def event(source: str, kind: str) -> bytes:
        return envelope(kind, "id", source, "key-0", iso_from_ms(engine.now_ms()), {"session_id": "0" * 22})

    touched = "lastseen.session.touched.v1"
    engine.open("key-0")
    hostile = 'a"b\\c'
    values = [
        b"rubbish", event("/reporting", "com.example.order.v1"), event("/reporting", touched),
        event("other", touched), event(hostile, touched), *(event(f"/made-up/{n}", touched) for n in range(200)),
    ]  # fmt: skip
    engine._log.append([Message(0, "key-0", value) for value in values])
    engine.refresh()

    metric = service.metric()

    assert metric("source_records_total", source="/lastseen") == 1
    assert metric("source_records_total", source="/reporting") == 2
    assert metric("source_records_void_total", source="/reporting", reason="unknown_type") == 1
    assert metric("source_records_void_total", source="/reporting", reason="stale_session") == 1
    assert metric("source_records_void_total", source="unknown", reason="malformed") == 1
    assert metric("source_records_void_total", source=hostile, reason="stale_session") == 1
    assert metric("source_records_void_total", source="other", reason="malformed") == 0
    assert metric("source_records_total", source="other") == 1 + 200 - 46, "the genesis record has a source too"
    assert metric.text.count("lastseen_source_records_total{") == 50 + 2, "what producers make up takes no more series"


def test_appends_are_counted_and_timed(service: Service, engine: Engine) -> None:
    engine.open("key-0")
    engine.touch("key-0")
    engine.touch("key-0", wait="appended")
    engine.touch("key-0", wait="none")
    assert engine._log.wait(lastseen.Position(0, 4), PATIENCE_S)

    def refuses(*_: object) -> None:
        raise LogUnavailable("the disk is full")

    engine._log._append = refuses  # type: ignore[attr-defined]
    with pytest.raises(LogUnavailable):
        engine.touch("key-0")

    metric = service.metric()

    assert metric("appended_events_total") == 4
    assert metric("append_duration_seconds_count") == metric("append_duration_seconds_bucket", le="+Inf") == 3
    assert 0 < metric("append_duration_seconds_sum") < 60
    assert metric("append_failures_total", error="LogUnavailable") == 1


def test_how_far_the_view_is_behind(service: Service, engine: Engine, clock: ManualClock, tmp_path: Path) -> None:
    engine.open("key-0")
    assert (service.metric()("follower_lag_records"), service.metric()("follower_lag_seconds")) == (0, 0)
    with lastseen.open_engine(
        f"sqlite:///{tmp_path}/log.db", clock=clock, background=False, snapshot=":memory:"
    ) as two:
        clock.advance(60 * S)
        two.touch("key-0")
        two.touch("key-0")

    first = service.metric()
    clock.advance(5 * S)
    later = service.metric()
    engine.refresh()

    # A minute passed before they were appended, which is no lag.
    assert (first("follower_lag_records"), first("follower_lag_seconds")) == (2, 0)
    assert (later("follower_lag_records"), later("follower_lag_seconds")) == (2, 5)
    assert (service.metric()("follower_lag_records"), service.metric()("follower_lag_seconds")) == (0, 0)


def test_a_log_whose_clock_is_ahead_or_behind(service: Service, engine: Engine, clock: ManualClock) -> None:
    engine.open("key-0")
    assert service.metric()("log_clock_skew_seconds") != 0, "nothing is known after one look"
    clock.advance(10 * S)
    engine.touch("key-0")
    assert service.metric()("log_clock_skew_seconds") == 0

    clock.set(clock.now_ms() - 20 * S)
    ahead = service.metric()("log_clock_skew_seconds")
    clock.advance(60 * S)
    service.metric()
    engine._log.log._clock = ManualClock(clock.now_ms() - 7 * S)
    engine.touch("key-0")
    clock.advance(1)

    assert ahead == 20
    assert service.metric()("log_clock_skew_seconds") == -7


def test_the_snapshot_and_its_age(service: Service, engine: Engine, clock: ManualClock) -> None:
    clock.advance(100 * S)
    assert service.metric()("snapshot_age_seconds") == 0, "there is nothing to write"
    engine.open("key-0")
    engine.flush()
    clock.advance(3 * S)
    engine.touch("key-0")

    metric = service.metric()

    assert (metric("snapshot_age_seconds"), metric("snapshot_unsaved_sessions")) == (3, 1)
    assert metric("snapshot_size_bytes") > 4096
    assert metric("snapshot_flush_duration_seconds_count") == 1
    engine.flush()
    assert service.metric()("snapshot_age_seconds") == 0


def test_the_cache_of_bodies(service: Service, engine: Engine) -> None:
    engine.open("key-0", attributes={"n": 1})
    engine.flush()
    engine.messages("key-0")
    engine._state.bodies.shrink(0, "memory")
    engine.messages("key-0")

    metric = service.metric()

    assert (metric("body_cache_hits_total"), metric("body_cache_misses_total")) == (1, 1)
    assert metric("body_cache_evictions_total", cause="memory") == 1
    assert metric("body_cache_evictions_total", cause="capacity") == 0
    assert metric("body_cache_bytes") > 0


def test_what_fails_in_the_background_and_an_engine_that_has_stopped(service: Service, engine: Engine) -> None:
    engine._background.failures["flush"] = LogUnavailable("no")
    metric = service.metric()
    assert (metric("background_failing", task="flush"), metric("background_failing", task="prune")) == (1, 0)
    assert metric("engine_usable") == 1
    engine.shutdown()
    metric = service.metric()
    assert metric("engine_usable") == 0
    assert metric("follower_lag_records") != metric("follower_lag_records"), "unknown"


def test_requests_by_route_and_status(service: Service, engine: Engine) -> None:
    engine.open(SECRET)
    assert service.ask(f"/v1/sessions/{SECRET}").status_code == 200
    assert service.ask("/v1/sessions/unknown").status_code == 404
    assert service.ask(f"/nowhere/{SECRET}").status_code == 404
    assert service.ask("/nowhere", method="BREW").status_code == 404

    metric = service.metric()

    route = "/v1/sessions/{key}"
    assert metric("http_requests_total", method="GET", route=route, status="200") == 1
    assert metric("http_requests_total", method="GET", route=route, status="404") == 1
    assert metric("http_request_duration_seconds_count", method="GET", route=route) == 2
    assert metric("http_requests_total", method="GET", route="(none)", status="404") == 1
    assert metric("http_requests_total", method="other", route="(none)", status="404") == 1
    assert metric("http_requests_under_way") == 1, "the one that asks"


def test_an_event_stream_has_no_duration_and_a_crash_is_a_500(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path for route in build(engine).routes if (path := getattr(route, "path", None))} >= STREAM_PATHS
    monkeypatch.setattr(metrics, "STREAM_PATHS", {"/stream"})
    more = APIRouter()

    @more.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(["data: 1\n\n"]), media_type="text/event-stream")

    def fails(app: ASGIApp) -> ASGIApp:
        async def failing(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/crash":
                raise RuntimeError("a fault")
            await Unguarded(app)(scope, receive, send)

        return failing

    service = Service(engine, guard=fails, more=more)
    assert service.ask("/stream").text == "data: 1\n\n"
    assert service.ask("/crash").status_code == 500

    metric = service.metric()

    assert metric("http_requests_total", method="GET", route="/stream", status="200") == 1
    assert (
        "lastseen_http_request_duration_seconds_count",
        frozenset({("method", "GET"), ("route", "/stream")}),
    ) not in (metric.samples)
    assert metric("http_requests_total", method="GET", route="(none)", status="500") == 1


def test_prometheus_own_parsers_take_both_forms(service: Service, engine: Engine) -> None:
    engine.open("key-0")
    plain = service.ask("/metrics")
    opened = service.ask("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(parse_open(opened.text))  # strict: types, units, order, suffixes, the end
    assert {"lastseen_sessions", "process_resident_memory_bytes", "process_open_fds"} <= {
        each.name for each in families
    }
    assert len(list(parse_plain(plain.text))) >= len(families)
    for family in families:
        assert family.documentation, family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), "Prometheus' base unit"


def test_no_session_is_ever_named(service: Service, engine: Engine) -> None:
    session = engine.open(SECRET, attributes={"owner": "someone-private"})
    engine.touch(SECRET, message={"text": "something-said"})
    for path in (f"/v1/sessions/{SECRET}", f"/v1/sessions/{SECRET}/touch", f"/v1/sessions?prefix={SECRET}"):
        service.ask(path)
    engine.close(SECRET, reason="telegram_ana")

    said = service.metric().text + str(statistics_line(engine))

    for private in (SECRET, "ana", session.session_id, "someone-private", "something-said"):
        assert private not in said


def test_the_number_of_series_does_not_grow_with_sessions(service: Service, engine: Engine) -> None:
    service.metric()  # from here on its own route is counted too
    before = len(service.metric().samples)
    for number in range(50):
        engine.open(f"user-{number}", attributes={"owner": f"owner-{number}"})
        engine.close(f"user-{number}", reason=f"because_{number}")
        service.ask(f"/nowhere/{number}")
    after = service.metric().samples

    assert {labels for _, labels in after if ("route", "(none)") in labels}
    assert len(after) - before < 20, "one route more: its count, and the classes of its duration"


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (Caller("operator", frozenset([May.READ])), 200),
        (UNAUTHENTICATED, 200),  # the guard is configured to let every caller in
        (Caller("writer", frozenset([May.TOUCH])), 403),
        (Caller("tenant", frozenset([May.READ]), prefix="a:"), 403),
    ],
)
def test_who_may_see_it(engine: Engine, caller: Caller, status: int) -> None:
    def guard(app: ASGIApp) -> ASGIApp:
        async def known(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("state", {})["caller"] = caller
            await app(scope, receive, send)

        return known

    answer = Service(engine, guard=guard).ask("/metrics")

    assert answer.status_code == status
    assert ("lastseen_sessions" in answer.text) is (status == 200)


def test_the_line_for_the_log(engine: Engine, clock: ManualClock) -> None:
    assert statistics_line(engine)["oldest_session_age_s"] is None
    engine.open("key-0")
    clock.advance(90 * S)
    engine.open("key-1")
    engine.suspend("key-1")
    engine.close("key-1")
    engine._background.failures["follow"] = LogUnavailable("no")

    line = statistics_line(engine)

    assert line | {"memory_used_ratio": 0.0} == {
        "active_sessions": 1, "suspended_sessions": 0, "created_total": 2, "ended_total": 1, "void_total": 0,
        "oldest_session_age_s": 90, "newest_session_age_s": 90, "appended_events": 4, "lag_records": 0,
        "unsaved_sessions": 2, "memory_used_ratio": 0.0, "failing": ["follow"],
    }  # fmt: skip
    engine.shutdown()
    assert statistics_line(engine)["lag_records"] is None


def test_on_kafka_the_lag_is_known_without_asking_a_broker(kafka_broker: SharedBroker) -> None:
    url = f"kafka://{kafka_broker.address}/metrics-{uuid.uuid4().hex}"
    assert CliRunner().invoke(app, ["topics", "create", "--log", url, "--partitions", "2"]).exit_code == 0
    settings: dict[str, Any] = {"background": False, "prune": False, "facts": False}
    with lastseen.open_engine(url, **settings) as one, lastseen.open_engine(url, **settings) as two:
        service = Service(two)
        assert service.metric()("follower_lag_records") == 0

        def is_asked() -> list[int]:
            raise AssertionError("a scrape asks no broker")

        asks, two._log.log._lookup.end_offsets = two._log.log._lookup.end_offsets, is_asked  # type: ignore[attr-defined]
        for number in range(10):
            one.open(f"key-{number}")
        eventually(lambda: service.metric()("follower_lag_records") >= 10, "the lag is seen")
        assert service.metric()("follower_lag_seconds") > 0
        two._log.log._lookup.end_offsets = asks  # type: ignore[attr-defined]
        two.refresh()
        metric = service.metric()

    assert (metric("follower_lag_records"), metric("follower_lag_seconds")) == (0, 0)
    assert metric("sessions_created_total") == 10
    assert abs(metric("log_clock_skew_seconds")) < 5
