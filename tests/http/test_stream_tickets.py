"""Tickets for streams in browsers: each opens its own stream, for a minute, while its token is good, and no more."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asgi_caller import Answer, once, request, sender, until

import lastseen
from lastseen import ANY, Client, Engine, ManualClock
from lastseen.auth.token_file import TokenFile
from lastseen.http.application import build
from lastseen.http.guard.guard import Guard
from lastseen.http.guard.live_tokens import LiveTokens
from lastseen.http.guard.stream_tickets import TICKET_MS
from tests.http.served import Served

NOW_MS = 1_700_000_000_000
TICKETS, STREAM = "/v1/events/tickets", "/v1/events/stream"


class Steady:
    """A clock of seconds that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Place:
    """The API of an engine with tokens, on clocks that a test turns; `other` is another instance with the same file."""

    def __init__(self, folder: Path, engine: Engine, clock: ManualClock) -> None:
        self.engine, self.clock, self.steady = engine, clock, Steady()
        self.file = TokenFile(folder / "tokens.json")
        self.reader, _ = self.file.create("reader", ["read"], ANY, NOW_MS)
        self.writer, _ = self.file.create("writer", ["touch"], ANY, NOW_MS)
        self.tenant, _ = self.file.create("tenant", ["read"], "tenantA:", NOW_MS, 10 * TICKET_MS)
        self.lines: list[Any] = []
        self.app, self.other = self._app(), self._app()

    def _app(self) -> Any:
        tokens = LiveTokens(self.file, clock=self.clock, steady_s=self.steady)
        return build(self.engine, guard=lambda app: Guard(app, tokens=tokens, write=self.lines.append))

    def asked(self, token: str, **body: str) -> Answer:
        content = json.dumps(body).encode()
        fields = [("content-type", "application/json"), ("content-length", str(len(content)))]
        return once(self.app, request("POST", TICKETS, token=token, fields=fields), [content])

    def ticket(self, token: str, **body: str) -> str:
        answer = self.asked(token, **body)
        assert answer.status == 201, answer.body
        found: dict[str, Any] = msgspec.json.decode(answer.body)
        assert found["url"] == f"{STREAM}?ticket={found['ticket']}"
        assert found["expires_at_ms"] == self.clock.now_ms() + TICKET_MS
        return str(found["ticket"])

    def opened(self, ticket: str, more: str = "", *, app: Any = None, path: str = STREAM, **options: Any) -> Answer:
        """What a HEAD of the stream says: the same as a GET, without its facts."""
        scope = request("HEAD", path, query=f"ticket={ticket}{more}".encode(), **options)
        return once(self.app if app is None else app, scope)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_MS)


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    with lastseen.open_engine(f"sqlite:///{tmp_path}/log.db", clock=clock, background=False) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path, engine: Engine, clock: ManualClock) -> Place:
    return Place(tmp_path, engine, clock)


def refused(answer: Answer) -> bool:
    """Whether it is the one refusal of a ticket; a HEAD has no body."""
    return (answer.status, answer["www-authenticate"]) == (401, 'Bearer realm="lastseen", error="invalid_token"')


def test_a_ticket_opens_the_stream_at_any_instance(place: Place) -> None:
    ticket = place.ticket(place.reader)
    for app in (place.app, place.other):
        answer = place.opened(ticket, app=app)
        assert (answer.status, answer["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert [line["caller"] for line in place.lines] == ["reader"] * 3


def test_it_is_needed_and_a_token_is_no_ticket(place: Place) -> None:
    assert once(place.app, request("HEAD", STREAM)).status == 401
    assert refused(place.opened(place.reader))
    assert place.opened("", "").status == 401


def test_an_expired_ticket_is_refused_however_often_it_was_used(place: Place) -> None:
    ticket = place.ticket(place.reader)
    place.clock.advance(TICKET_MS - 1)
    assert place.opened(ticket).status == 200
    place.clock.advance(1)
    assert refused(place.opened(ticket))


def test_it_opens_nothing_but_the_stream(place: Place) -> None:
    ticket = place.ticket(place.reader)
    for path in ("/v1/sessions", "/v1/statistics", TICKETS, STREAM + "/", "/metrics", "/openapi.json"):
        answer = place.opened(ticket, path=path)
        assert (answer.status, "error" in answer["www-authenticate"]) == (401, False), path
    fields = [("Authorization", f"Bearer {ticket}")]
    assert once(place.app, request("GET", "/v1/sessions", fields=fields)).slug == "token-refused"


def test_it_opens_no_other_stream_than_its_own(place: Place) -> None:
    ticket = place.ticket(place.reader, prefix="web:", type="created")
    for more in ("&prefix=", "&prefix=telegram:", "&prefix=web:", "&type=ended", "&type=created"):
        answer = once(place.app, request("GET", STREAM, query=f"ticket={ticket}{more}".encode()))
        assert (answer.status, answer.slug) == (422, "invalid-parameter"), more
    twice = f"&ticket={place.ticket(place.reader)}"
    assert place.opened(ticket, twice).status == 401


@pytest.mark.parametrize("prefix", ["tenantB:", "tenant", "tenantA", "x"])
def test_a_tenant_gets_a_ticket_for_its_own_keys_alone(place: Place, prefix: str) -> None:
    answer = place.asked(place.tenant, prefix=prefix)
    if prefix in ("tenant", "tenantA"):  # wider than its own: narrowed to it, as for a stream
        assert answer.status == 201
        ticket = msgspec.json.decode(answer.body)["ticket"]
        content = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))[32:]
        assert msgspec.json.decode(content)[1] == "tenantA:"
    else:
        assert (answer.status, answer.slug) == (403, "forbidden")


def test_what_a_tenants_ticket_says_cannot_be_changed(place: Place) -> None:
    ticket = place.ticket(place.tenant)
    signed = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
    caller, prefix, kinds, until_ms = msgspec.json.decode(signed[32:])
    for changed in (
        [caller, "", kinds, until_ms], [caller, "tenantB:", kinds, until_ms], [caller, prefix, "ended", until_ms],
        [caller, prefix, kinds, until_ms + 1], ["reader", prefix, kinds, until_ms],
        ["unknown", prefix, kinds, until_ms],
        [caller, prefix, kinds], [caller, prefix, kinds, until_ms, 1], {"caller": caller}, 7,
    ):  # fmt: skip
        forged = signed[:32] + msgspec.json.encode(changed)
        assert refused(place.opened(base64.urlsafe_b64encode(forged).rstrip(b"=").decode()))
    for broken in ("x", "=", "%00", ticket[:-2], "A" + ticket[1:], ticket + "AAAA", "é", ticket * 40, "A" * 5_000):
        assert place.opened(broken.encode("latin-1").decode("latin-1").replace("é", "%C3%A9")).status == 401


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_ticket_ends_with_its_token(place: Place, is_made_anew: bool) -> None:
    ticket = place.ticket(place.reader)
    place.file.revoke("reader")
    if is_made_anew:
        place.file.create("reader", ["read"], ANY, NOW_MS)
    place.steady.now_s += 2
    assert refused(place.opened(ticket))


def test_a_ticket_ends_when_its_token_expires(place: Place) -> None:
    place.clock.advance(10 * TICKET_MS - 1)
    ticket = place.ticket(place.tenant)
    assert place.opened(ticket).status == 200
    place.clock.advance(1)
    assert refused(place.opened(ticket))


def test_a_token_that_may_not_read_gets_none(place: Place) -> None:
    assert place.asked(place.writer).slug == "forbidden"


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_an_open_stream_ends_when_the_token_behind_its_ticket_is_revoked(
    place: Place, engine: Engine, is_made_anew: bool
) -> None:
    async def story() -> None:
        answer, hang_up = Answer(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            await hang_up.wait()
            return {"type": "http.disconnect"}

        scope = request("GET", STREAM, query=f"ticket={ticket}".encode())
        stream = asyncio.create_task(place.app(scope, receive, sender(answer)))
        await until(lambda: b"id: " in answer.body)
        place.clock.advance(TICKET_MS)  # a stream lasts longer than its ticket
        engine.open("ana")
        await until(lambda: b"ana" in answer.body)
        place.file.revoke("reader")
        if is_made_anew:
            place.file.create("reader", ["read"], ANY, NOW_MS)
        place.steady.now_s += 2
        engine.open("bob")
        await stream
        assert (answer.is_complete, b"bob" in answer.body) == (True, False)

    ticket = place.ticket(place.reader)
    asyncio.run(story())


def test_a_ticket_is_in_no_line_of_the_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    ticket = place.ticket(place.reader)
    place.opened(ticket)
    place.opened(ticket[:-2])
    place.clock.advance(TICKET_MS)
    place.opened(ticket)
    assert ticket[:-2] not in json.dumps(place.lines) + caplog.text
    assert place.reader not in ticket


def test_a_client_gets_tickets_and_without_tokens_they_work_too(tmp_path: Path) -> None:
    with (
        lastseen.open_engine(f"sqlite:///{tmp_path}/log.db") as engine,
        Served(engine) as served,
        Client(served.address) as client,
        served.client() as browser,
    ):
        ticket = client.stream_ticket(prefix="web:", kinds=("created",))
        with browser.stream("GET", ticket.url) as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("id:"))
            for key in ("telegram:1", "web:1"):
                engine.open(key)
                engine.touch(key)
            engine.open("web:2")
            facts = [json.loads(line[5:]) for line in _first(lines, 2)]
        assert [(fact["subject"], fact["data"]["kind"]) for fact in facts] == [
            ("web:1", "created"),
            ("web:2", "created"),
        ]
        assert browser.get(STREAM, params={"ticket": "x"}).status_code == 401
        assert client.stream_ticket().expires_at_ms > engine.now_ms()


def _first(lines: Iterator[str], count: int) -> Iterator[str]:
    for line in lines:
        if line.startswith("data:"):
            yield line
            count -= 1
            if not count:
                return
