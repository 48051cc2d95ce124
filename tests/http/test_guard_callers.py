"""Who is let in: tokens in their header and nowhere else, hosts by their names, pages of this origin only."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from asgi_caller import Answer, once, receiver, request, sender, until

import lastseen
from lastseen import ANY
from lastseen.auth.caller import ANONYMOUS, Caller, Scope
from lastseen.auth.token_file import TokenFile
from lastseen.engine.errors import InvalidSetting
from lastseen.http.guard.guard import OPEN_PATHS, UNAUTHENTICATED, Guard, allowed_hosts, check_exposure, guard
from lastseen.http.guard.live_tokens import LiveTokens
from lastseen.http.guard.origins import Origins
from lastseen.monitoring.masking import Mask, masked
from tests.patience import PATIENCE_S

NOW_MS = 1_700_000_000_000


class Inner:
    """The application behind the guard."""

    def __init__(self, status: int = 200, fields: list[tuple[bytes, bytes]] | None = None) -> None:
        self.callers: list[Caller] = []
        self.bodies: list[bytes] = []
        self._status, self._fields = status, fields or [(b"content-type", b"application/json")]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.callers.append(scope["state"]["caller"])
        self.bodies.append((await receive())["body"])
        scope["route"] = type("Route", (), {"path": "/v1/sessions/{key}"})
        await send({"type": "http.response.start", "status": self._status, "headers": self._fields})
        await send({"type": "http.response.body", "body": b"{}"})


class Steady:
    """A clock of seconds that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Place:
    """A guarded application with tokens in a file, on clocks that a test turns."""

    def __init__(self, path: Path) -> None:
        self.inner, self.clock, self.steady = Inner(), lastseen.ManualClock(NOW_MS), Steady()
        self.lines: list[Any] = []
        self.file = TokenFile(path)
        self.reader, _ = self.file.create("reader", ["read"], ANY, NOW_MS)
        self.tenant, _ = self.file.create("tenant", ["read", "touch"], "tenantA:", NOW_MS, 60_000)
        self.tokens = LiveTokens(self.file, clock=self.clock, steady_s=self.steady)
        self.guard = Guard(self.inner, tokens=self.tokens, write=self.lines.append)

    def ask(self, token: str | None, **more: Any) -> Answer:
        return once(self.guard, request(token=token, **more))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tokens.json")


def test_a_caller_is_known_by_its_token(place: Place) -> None:
    assert place.ask(place.tenant).status == 200
    assert place.inner.callers == [Caller("tenant", frozenset([Scope.READ, Scope.TOUCH]), "tenantA:")]
    assert place.ask(None, fields=[("Authorization", f"bearer  {place.reader} ")]).status == 200


@pytest.mark.parametrize(
    "field", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer ls_" + "A" * 43, "Bearer \xff", "Bearer " + "x" * 9000]
)
def test_without_a_valid_token_every_caller_gets_the_same_refusal(place: Place, field: str) -> None:
    answer = place.ask(None, fields=[("Authorization", field)])
    assert (answer.status, answer.slug) == (401, "token-refused")
    assert answer["www-authenticate"] == 'Bearer realm="lastseen", error="invalid_token"'
    assert answer.body == place.ask(place.reader[:-1] + "!").body
    assert place.inner.callers == []


def test_a_response_to_a_request_without_a_token_says_how_to_send_one(place: Place) -> None:
    answer = place.ask(None)
    assert (answer.status, answer.slug) == (401, "token-missing")
    assert answer["www-authenticate"] == 'Bearer realm="lastseen"'


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "Authorization"])
def test_a_token_in_the_address_opens_nothing(place: Place, name: str) -> None:
    answer = place.ask(None, query=f"{name}={place.reader}".encode())
    assert (answer.status, answer.slug) == (401, "token-missing")
    cookie = place.ask(None, fields=[("Cookie", f"{name}={place.reader}")])
    assert cookie.status == 401
    assert place.reader not in json.dumps(place.lines)


def test_two_tokens_in_one_request_are_refused(place: Place) -> None:
    twice = [("Authorization", f"Bearer {place.tenant}"), ("Authorization", f"Bearer {place.reader}")]
    assert place.ask(None, fields=twice).slug == "repeated-field"


def test_a_token_expires_at_its_time(place: Place) -> None:
    place.clock.advance(59_999)
    assert place.ask(place.tenant).status == 200
    place.clock.advance(1)
    assert place.ask(place.tenant).status == 401
    assert place.ask(place.reader).status == 200


def test_a_running_service_notices_what_was_revoked_and_made(place: Place) -> None:
    place.file.revoke("tenant")
    fresh, _ = place.file.create("fresh", ["read"], ANY, NOW_MS)
    place.steady.now_s += 1.0
    assert place.ask(place.tenant).status == 401
    assert place.ask(fresh).status == 200


@pytest.mark.parametrize("harm", ["damaged", "removed", "open to others"])
def test_an_unusable_file_refuses_every_caller_until_it_is_repaired(
    place: Place, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, content = place.file.path, place.file.path.read_bytes()
    if harm == "damaged":
        path.write_bytes(content[:-9])
    elif harm == "removed":
        path.unlink()
    else:
        path.chmod(0o666)
    for _ in range(3):
        place.steady.now_s += 1.0
        answer = place.ask(place.reader)
        assert (answer.status, answer.slug) == (503, "tokens-unreadable")
        assert answer["retry-after"] == "5"
        assert str(path) not in answer.body.decode(), "where files are is not the caller's business"
    said = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(said) == 1, "said once, not at every look"
    assert str(path) in said[0].getMessage()
    assert place.ask(None, path="/livez").status == 200
    path.write_bytes(content)
    path.chmod(0o600)
    place.steady.now_s += 1.0
    assert place.ask(place.reader).status == 200


def test_a_service_does_not_start_on_a_file_that_is_no_good(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="cannot be read"):
        guard(host="0.0.0.0", token_file=str(tmp_path / "missing.json"))


def test_what_is_open_needs_no_token_and_may_do_nothing(place: Place) -> None:
    for path in ("/livez", "/readyz", "/problems/forbidden"):
        assert place.ask(None, path=path).status == 200
    assert place.inner.callers == [UNAUTHENTICATED] * 3
    assert not any(UNAUTHENTICATED.may(scope) for scope in Scope)
    for path in ("/livez/", "/livez/../v1/sessions", "/metrics", "/openapi.json", "/", "/problems", "//livez"):
        assert place.ask(None, path=path).status == 401, path


def test_the_limits_of_a_service_can_be_configured(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    secret, _ = TokenFile(file).create("a", ["read"], ANY, NOW_MS)
    made = guard(host="0.0.0.0", token_file=str(file), open_paths=["/metrics"], hosts=["Sessions.Example.org"])(Inner())
    assert once(made, request(path="/metrics", host="sessions.example.org")).status == 200
    assert once(made, request(path="/livez", host="sessions.example.org")).status == 401
    assert once(made, request(token=secret, host="sessions.example.org:443")).status == 200
    assert once(made, request(token=secret, host="other.example.org")).slug == "unknown-host"


PUBLIC = [
    "0.0.0.0",
    "::",
    "",
    "10.0.0.1",
    "example.org",
    "localhost.example.org",
    "[::]",
    "128.0.0.1",
    "::ffff:10.0.0.1",
]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("host", PUBLIC)
def test_a_service_without_tokens_is_not_shown_to_other_machines(host: str) -> None:
    with pytest.raises(InvalidSetting, match="token create"):
        check_exposure(host, has_tokens=False)
    with pytest.raises(InvalidSetting, match="token create"):
        guard(host=host)
    check_exposure(host, has_tokens=True)


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_the_loopback_it_needs_none(host: str) -> None:
    check_exposure(host, has_tokens=False)
    inner = Inner()
    assert once(guard(host=host)(inner), request(host="localhost:8321")).status == 200
    assert inner.callers == [ANONYMOUS]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8321", "localhost", "LocalHost.:1", "[::1]:8321", "[::1]"])
def test_the_loopback_goes_by_its_own_names(host: str) -> None:
    assert once(Guard(Inner(), write=dict), request(host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "localhost.evil.example", "", None, "10.0.0.1"],
)
def test_a_name_that_was_bent_to_the_loopback_is_refused(host: str | None) -> None:
    inner = Inner()
    assert once(Guard(inner, write=dict), request(host=host)).slug == "unknown-host"
    assert inner.callers == []


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("host", ["10.0.0.1:8321", "[fd00::1]:8321", "sessions.svc", "", None])
def test_probes_are_answered_for_any_host(host: str | None, path: str) -> None:
    for hosts in (allowed_hosts("127.0.0.1"), allowed_hosts("0.0.0.0", ["a.example"])):
        inner = Inner()
        made = Guard(inner, origins=Origins(hosts), write=dict)
        assert once(made, request(host=host, path=path)).status == 200
        assert inner.callers == [UNAUTHENTICATED]
        for page in ("http://evil.example", f"http://{host}"):
            refused = once(made, request(host=host, path=path, fields=[("Origin", page)]))
            assert refused.slug == "foreign-origin", "a page whose name points here is foreign"


def test_metrics_are_answered_for_an_address_or_with_a_token(place: Place) -> None:
    secret = place.reader
    named = Origins(frozenset(["a.example"]))
    with_tokens = Guard(Inner(), tokens=place.tokens, origins=named, write=dict)
    opened = Guard(Inner(), tokens=place.tokens, origins=named, open_paths=OPEN_PATHS | {"/metrics"}, write=dict)
    for host in ("10.0.0.1:8321", "[fd00::1]:8321", "pod.svc:8321"):
        asked = request(host=host, path="/metrics", token=secret)
        assert once(with_tokens, asked).status == 200
        assert once(with_tokens, request(host=host, path="/metrics")).slug == "token-missing"
        assert once(opened, request(host=host, path="/metrics")).status == (400 if "pod" in host else 200)
        assert once(with_tokens, request(host=host, token=secret)).slug == "unknown-host", "and nothing else is"


def test_two_hosts_in_one_request_are_refused() -> None:
    assert once(Guard(Inner(), write=dict), request(fields=[("Host", "127.0.0.1")])).slug == "repeated-field"


def test_a_public_service_may_name_its_hosts() -> None:
    assert allowed_hosts("0.0.0.0") is None
    assert allowed_hosts("0.0.0.0", ["a.example"]) == frozenset(["a.example"])
    assert "127.0.0.2" in (allowed_hosts("127.0.0.2", []) or ())


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://localhost", ""])
def test_pages_of_other_origins_are_refused_whatever_they_ask(origin: str) -> None:
    inner = Inner()
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = once(Guard(inner, write=dict), request(method, fields=[("Origin", origin)]))
        assert answer.slug == "foreign-origin"
        assert "access-control-allow-origin" not in answer
    assert inner.callers == []


def test_own_pages_are_served_and_named_ones_are_allowed() -> None:
    own = once(Guard(Inner(), write=dict), request(fields=[("Origin", "http://127.0.0.1:8321")]))
    assert own.status == 200
    assert "access-control-allow-origin" not in own
    inner = Inner()
    named = Guard(inner, origins=Origins(allowed_hosts("127.0.0.1"), ["https://console.example/"]), write=dict)
    origin = [("Origin", "https://console.example")]
    answer = once(named, request(fields=origin))
    assert (answer.status, answer["access-control-allow-origin"]) == (200, "https://console.example")
    assert answer["vary"] == "Origin"
    asked = once(named, request("OPTIONS", fields=origin))
    assert (asked.status, asked.body) == (204, b"")
    assert "authorization" in asked["access-control-allow-headers"]
    assert len(inner.callers) == 1, "asking beforehand gets no further"
    assert once(named, request(fields=[("Origin", "https://console.example.evil")])).slug == "foreign-origin"


def test_every_answer_keeps_browsers_and_caches_out(place: Place) -> None:
    for answer in (place.ask(place.reader), place.ask(None), place.ask(place.reader, host="evil.example")):
        assert answer["cache-control"] == "no-store"
        assert answer["x-content-type-options"] == "nosniff"
        assert answer["referrer-policy"] == "no-referrer"
        assert answer["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "strict-transport-security" not in answer
    assert "max-age" in place.ask(place.reader, scheme="https")["strict-transport-security"]


def test_pages_get_a_policy_of_their_own_and_what_the_application_says_stands() -> None:
    page = once(Guard(Inner(fields=[(b"content-type", b"text/html; charset=utf-8")]), write=dict), request())
    assert "script-src 'self'" in page["content-security-policy"]
    assert "frame-ancestors 'none'" in page["content-security-policy"]
    own = [(b"Content-Security-Policy", b"default-src 'self'"), (b"cache-control", b"max-age=60")]
    said = once(Guard(Inner(fields=own), write=dict), request())
    assert (said["content-security-policy"], said["cache-control"]) == ("default-src 'self'", "max-age=60")


def test_a_line_says_what_was_asked_by_whom_and_how_it_ended(place: Place) -> None:
    place.ask(place.tenant, path="/v1/sessions/tenantA%3Aana", query=b"as_of=1&token=x")
    place.ask(None)
    first, second = place.lines
    assert first.pop("duration_ms") >= 0
    assert first == {"method": "GET", "route": "/v1/sessions/{key}", "status": 200, "caller": "tenant"}
    assert (second["status"], second["route"], second["caller"]) == (401, "(none)", None)


def test_no_caller_can_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lastseen.access"):
        once(Guard(Inner()), request('GET\n{"status": 200}\u00e9\x1b[31m'))
    (record,) = caplog.records
    line = record.getMessage()
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["method"] == 'GET\n{"status": 200}\u00e9\x1b[31m'


def test_keys_and_ids_are_distinguishable_and_not_revealed() -> None:
    mask = Mask(b"secret")
    assert mask("irc:ana") == mask("irc:ana") == Mask(b"secret")("irc:ana")
    assert mask("irc:ana") != mask("irc:anb")
    assert mask("irc:ana") != Mask(b"other")("irc:ana")
    assert mask("irc:ana") != Mask()("irc:ana")
    assert len(masked("k" * 512)) == len(masked("\ud800")) == 9


def test_other_protocols_get_no_further() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def talk() -> None:
        await Guard(Inner())({"type": "websocket", "path": "/"}, None, send)  # type: ignore[arg-type]

    asyncio.run(talk())
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("end", ["revoked", "expired", "unreadable", "made anew", "changed"])
def test_an_open_stream_tells_nothing_more_once_its_token_is_gone(place: Place, end: str) -> None:
    news: asyncio.Queue[bytes] = asyncio.Queue()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        while True:
            await send({"type": "http.response.body", "body": await news.get(), "more_body": True})

    async def story() -> None:
        answer = Answer()
        the_guard = Guard(stream, tokens=place.tokens, write=place.lines.append)
        asked = request(path="/v1/events/stream", token=place.tenant)
        task = asyncio.create_task(the_guard(asked, receiver([]), sender(answer)))
        await news.put(b"one")
        await until(lambda: answer.body == b"one")
        if end == "expired":
            place.clock.advance(60_000)
        elif end == "unreadable":
            place.file.path.write_bytes(b"")
        elif end == "changed":
            text = place.file.path.read_text("utf-8")
            place.file.path.write_text(text.replace("tenantA:", "tenantC:"), "utf-8")
        else:
            place.file.revoke("tenant")
        if end == "made anew":
            place.file.create("tenant", ["read"], "tenantB:", NOW_MS)
        place.steady.now_s += 1
        await news.put(b"two")
        await asyncio.wait_for(task, PATIENCE_S)
        assert (answer.body, answer.is_complete, the_guard.streams) == (b"one", True, 0)

    asyncio.run(story())
    assert (place.lines[-1]["caller"], place.lines[-1]["status"]) == ("tenant", 200)
