"""Bodies and chunks of callers that want more than their share: the others are served.

What is checked are counts and states, not durations.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from asgi_caller import call, once, receiver, request, until
from test_guard_server import PATIENT, Slow, answered, head, is_hung_up, serving

from lastseen.api.problems import Problem
from lastseen.auth.caller import ANONYMOUS, Caller, Scope
from lastseen.http.guard.body_limits import BodyReader
from lastseen.http.guard.concurrency import ConcurrencyLimit
from lastseen.http.guard.guard import Guard
from lastseen.http.guard.head_limits import FREE_CHUNKS, MIN_CHUNK_BYTES
from lastseen.http.guard.limits import Limits
from lastseen.http.guard.rate_limit import BYTES_PER_REQUEST, RateLimiter
from tests.patience import PATIENCE_S

CHUNKED = [("Transfer-Encoding", "chunked")]


@contextmanager
def connected(port: int, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        for each in made:
            each.settimeout(PATIENCE_S)
        yield made


def reader(name: str) -> Caller:
    return Caller(name, frozenset([Scope.READ]))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_chunks_of_a_byte_end_the_connection() -> None:
    with serving(Slow(), PATIENT) as port, connected(port, 2) as (fair, unfair):
        chunked = head("/", "Transfer-Encoding: chunked", method="POST")
        large = b"80\r\n" + b"y" * MIN_CHUNK_BYTES + b"\r\n"
        for _ in range(2):  # each body has a count of its own
            fair.sendall(chunked + b"1\r\nx\r\n" * FREE_CHUNKS + large * 3 + b"0\r\n\r\n")
            assert answered(fair) == (200, b"%d" % (FREE_CHUNKS + 3 * MIN_CHUNK_BYTES))
        unfair.sendall(chunked + b"1\r\nx\r\n" * (FREE_CHUNKS + 2))
        status, body = answered(unfair)
        assert (status, json.loads(body)["type"]) == (400, "/problems/chunks-too-small")
        assert is_hung_up(unfair)


def test_what_is_no_http_gets_a_problem() -> None:
    garbage = [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
    with serving(Slow(), PATIENT) as port, connected(port, len(garbage)) as wires:
        for wire, sent in zip(wires, garbage, strict=True):
            wire.sendall(sent)
            status, body = answered(wire)
            assert (status, json.loads(body)["type"]) == (400, "/problems/bad-request")
            assert is_hung_up(wire)


def test_a_body_in_chunks_costs_what_it_would_with_a_length() -> None:
    limiter = RateLimiter(1, 10)
    limiter.take("a", 0, 0.0)
    limiter.charge("a", 4 * BYTES_PER_REQUEST, 0.0)
    assert limiter.take("a", 0, 0.0)[1] == (b"ratelimit", b'"requests";r=4;t=6')
    with pytest.raises(Problem) as refused:
        limiter.charge("a", 5 * BYTES_PER_REQUEST, 0.0)
    assert refused.value.status == 429
    with pytest.raises(Problem):
        limiter.take("a", 0, 0.0)

    guard = Guard(echo, limits=Limits(requests_per_s=0.001, burst=10), write=dict)
    large = [b"x" * BYTES_PER_REQUEST] * 6
    served = once(guard, request("POST", fields=CHUNKED), large)
    assert (served.status, served["ratelimit"].split(";")[1]) == (200, "r=3"), "what is left is sent, counted once"
    assert once(guard, request("POST", fields=CHUNKED), large).status == 429


def test_bodies_that_do_not_arrive_take_no_place() -> None:
    async def story() -> None:
        begun: list[str] = []

        async def noted(scope: Any, receive: Any, send: Any) -> None:
            begun.append(scope["path"])
            await echo(scope, receive, send)

        guard = Guard(noted, limits=Limits(max_requests=2), write=dict)
        arrive = asyncio.Event()
        waiting = 0

        async def unfinished() -> Any:
            nonlocal waiting
            yield b"x"
            waiting += 1
            await arrive.wait()

        async def post(fields: list[tuple[str, str]]) -> int:
            return (await call(guard, request("POST", "/slow", fields=fields), unfinished())).status

        sizes = [CHUNKED, [("Content-Length", "2")]] * 5
        tasks = [asyncio.create_task(post(fields)) for fields in sizes]
        await until(lambda: waiting == len(tasks))
        assert guard.requests == 0
        served = await call(guard, request("POST", "/other", fields=CHUNKED), [b"xy"])
        assert (served.status, begun) == (200, ["/other"])
        arrive.set()
        assert set(await asyncio.gather(*tasks)) <= {200, 503}, "each is answered once it has arrived"
        assert "/slow" in begun
        assert guard.requests == guard._bodies.held_bytes == 0

    asyncio.run(story())


def test_where_no_place_is_free_a_body_is_not_read() -> None:
    async def story() -> None:
        go_on = asyncio.Event()
        begun = asyncio.Event()

        async def held(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await go_on.wait()
            await echo(scope, receive, send)

        async def unread() -> Any:
            raise AssertionError("it is not to be read")
            yield b""

        guard = Guard(held, limits=Limits(max_requests=1), write=dict)
        first = asyncio.create_task(call(guard, request("POST", fields=CHUNKED), [b"x"]))
        await begun.wait()
        second = await call(guard, request("POST", fields=[("Content-Length", "1000000")]), unread())
        assert (second.status, second.slug, second["connection"]) == (503, "overloaded", "close")
        go_on.set()
        assert (await first).status == 200

    asyncio.run(story())


def test_a_token_leaves_places_to_others() -> None:
    room = ConcurrencyLimit("requests are in progress", 256)
    with ExitStack() as in_use:
        for _ in range(228):
            in_use.enter_context(room.slot(reader("greedy")))
        with pytest.raises(Problem, match="228 of this token's"):
            in_use.enter_context(room.slot(reader("greedy")))
        for name in ("a", "b", "c"):
            in_use.enter_context(room.slot(reader(name)))
    with ExitStack() as in_use:
        for _ in range(256):
            in_use.enter_context(room.slot(ANONYMOUS))  # without tokens there are no others
    assert room.in_use == 0


def test_a_token_leaves_room_for_the_bodies_of_others() -> None:
    async def story() -> None:
        bodies = BodyReader(replace(PATIENT, max_body_bytes=1_000, max_waiting_body_bytes=4_000))
        large = [b"x" * 1_000]
        held = [await bodies.read(receiver(large), declared, reader("greedy")) for declared in (1_000, None)]
        for declared, sent in ((1, [b"x"]), (None, [b"x"])):
            with pytest.raises(Problem) as refused:
                await bodies.read(receiver(sent), declared, reader("greedy"))
            assert (refused.value.status, bodies.held_bytes) == (503, 2_000)
        other = await bodies.read(receiver(large), None, reader("other"))
        bodies.release(held.pop(), reader("greedy"))
        held.append(await bodies.read(receiver([b"x" * 900]), None, reader("greedy")))
        for body in held:
            bodies.release(body, reader("greedy"))
        bodies.release(other, reader("other"))
        assert bodies.held_bytes == 0
        assert not bodies._held_by_token, "names of tokens are not collected"

    asyncio.run(story())
