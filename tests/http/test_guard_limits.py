"""How much one request, one caller and all together may take: what is too much is refused, and nothing is left held."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from asgi_caller import Answer, call, once, receiver, request, sender, until
from hypothesis import given
from hypothesis import strategies as st

from lastseen.api.problems import Problem
from lastseen.engine.errors import InvalidSetting
from lastseen.http.guard.body_limits import is_too_deep
from lastseen.http.guard.guard import Guard
from lastseen.http.guard.limits import Limits
from lastseen.http.guard.rate_limit import RateLimiter
from tests.patience import PATIENCE_S

SMALL = Limits(max_body_bytes=1000, max_waiting_body_bytes=2500, max_json_depth=4, max_requests=2, max_streams=1)


class Working:
    """An application that works until the test stops it."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.ended = 0
        self.go_on = asyncio.Event()

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        self.begun.append((await receive())["body"])
        await self.go_on.wait()
        self.ended += 1
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, as an application that reads it in chunks."""
    got, more = b"", True
    while more:
        message = await receive()
        got, more = got + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": got})
    assert (await receive())["type"] == "http.disconnect"


def post(fields: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    return request("POST", fields=fields, **more)


async def unread() -> AsyncIterator[bytes]:
    """A body that must not be asked for."""
    raise AssertionError("it is not to be read")
    yield b""


CHUNKED = [("Transfer-Encoding", "chunked")]


def guarded(app: Any, limits: Limits = SMALL) -> Guard:
    return Guard(app, limits=limits, write=dict)


def test_a_body_reaches_the_application_whole_and_is_freed() -> None:
    guard = guarded(echo)
    assert once(guard, post([("Content-Length", "6")]), [b"[1,", b"2]"]).body == b"[1,2]"
    assert once(guard, post(CHUNKED), [b"x" * 1000]).body == b"x" * 1000
    assert guard._bodies.held_bytes == guard.requests == 0


@pytest.mark.parametrize("length", ["1001", "999999999999999999"])
def test_a_body_that_says_to_be_too_large_is_not_read(length: str) -> None:
    guard = guarded(echo)
    answer = asyncio.run(call(guard, post([("Content-Length", length)]), unread()))
    assert (answer.status, answer.slug, answer["connection"]) == (413, "body-too-large", "close")


def test_a_body_in_chunks_is_cut_off_where_it_is_too_large() -> None:
    given_out = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given_out
        while True:
            given_out += 300
            yield b"x" * 300

    guard = guarded(echo)
    answer = asyncio.run(call(guard, post(CHUNKED), endless()))
    assert (answer.status, answer.slug) == (413, "body-too-large")
    assert given_out == 1200
    assert guard._bodies.held_bytes == guard.requests == 0
    # A length that lies does not help.
    assert once(guard, post([("Content-Length", "5")]), [b"x" * 1001]).status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "1 0", "9" * 30, ""])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    assert once(guarded(echo), post([("Content-Length", length)])).slug == "bad-length"


def test_packed_bodies_are_refused() -> None:
    for kind in ("gzip", "br", "identity, gzip"):
        answer = once(guarded(echo), post([("Content-Encoding", kind), ("Content-Length", "9")]), [b"x" * 9])
        assert (answer.status, answer.slug, answer["accept-encoding"]) == (415, "packed-body", "identity")
    assert once(guarded(echo), post([("Content-Encoding", "identity")])).status == 200


def test_a_head_has_its_bounds() -> None:
    limits = Limits(max_head_bytes=1000, max_head_fields=10)
    assert once(guarded(echo, limits), request(fields=[("x-a", "y" * 900)])).status == 200
    assert once(guarded(echo, limits), request(fields=[("x-a", "y" * 1000)])).slug == "head-too-large"
    assert once(guarded(echo, limits), request(fields=[("x-a", "y")] * 10)).slug == "head-too-large"
    assert once(guarded(echo, limits), request(path="/" + "a" * 1000)).status == 414
    assert once(guarded(echo, limits), request(query=b"a" * 1000)).status == 414


def test_all_bodies_together_have_a_bound() -> None:
    async def story() -> None:
        app = Working()
        guard = guarded(app, Limits(max_body_bytes=1000, max_waiting_body_bytes=2500))
        tasks = [asyncio.create_task(call(guard, post(CHUNKED), [b"x" * 1000])) for _ in range(2)]
        await until(lambda: len(app.begun) == 2)
        for fields in (CHUNKED, [("Content-Length", "600")]):
            body = [b"x" * 300, b"x" * 300] if fields is CHUNKED else unread()
            async with asyncio.timeout(PATIENCE_S):
                third = await call(guard, post(fields), body)
            assert (third.status, third.slug, third["retry-after"]) == (503, "overloaded", "1")
        assert guard._bodies.held_bytes == 2000
        app.go_on.set()
        assert [task.status for task in await asyncio.gather(*tasks)] == [201, 201]
        assert guard._bodies.held_bytes == 0

    asyncio.run(story())


def test_more_requests_than_may_be_worked_on_are_turned_away_at_once() -> None:
    async def story() -> None:
        app = Working()
        guard = guarded(app)
        tasks = [asyncio.create_task(call(guard, request())) for _ in range(2)]
        await until(lambda: len(app.begun) == 2)
        third = await call(guard, request())
        assert (third.status, third.slug, third["retry-after"]) == (503, "overloaded", "1")
        probe = asyncio.create_task(call(guard, request(path="/livez")))
        await until(lambda: len(app.begun) == 3)
        app.go_on.set()
        assert [each.status for each in await asyncio.gather(*tasks, probe)] == [201] * 3
        assert guard.requests == 0
        assert (await call(guard, request())).status == 201

    asyncio.run(story())


def test_streams_have_a_bound_of_their_own() -> None:
    async def story() -> None:
        app = Working()
        guard = guarded(app, Limits(max_streams=1, request_s=0.001))
        stream = asyncio.create_task(call(guard, request(path="/v1/events/stream")))
        await until(lambda: guard.streams == 1)
        assert (await call(guard, request(path="/v1/events/stream"))).slug == "overloaded"
        await asyncio.sleep(0.01)  # waits: ten times as long as a request may take, which is not for streams
        app.go_on.set()
        assert (await stream).status == 201
        assert (guard.streams, guard.requests) == (0, 0)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "status", "slug"),
    [("GET", 503, "too-slow"), ("POST", 504, "outcome-unknown"), ("DELETE", 504, "outcome-unknown")],
)
def test_what_takes_too_long_is_said_and_the_work_goes_on(method: str, status: int, slug: str) -> None:
    async def story() -> None:
        app, answer = Working(), Answer()
        guard = guarded(app, Limits(request_s=0.01, max_requests=1))
        task = asyncio.create_task(guard(request(method), receiver([]), sender(answer)))
        await until(lambda: answer.is_complete)
        assert (answer.status, answer.slug) == (status, slug)
        assert ("retry-after" in answer) == (status == 503), "what may have happened is not to be repeated blindly"
        assert (answer.problem().get("error") == "OutcomeUnknown") == (status == 504)
        assert answer["cache-control"] == "no-store"
        # It is worked on still, and so it keeps its place.
        assert (guard.requests, app.ended, task.done()) == (1, 0, False)
        assert (await call(guard, request())).slug == "overloaded"
        app.go_on.set()
        await task
        assert (guard.requests, app.ended) == (0, 1)
        assert answer.status == status, "the late answer is dropped"

    asyncio.run(story())


def test_what_fails_after_its_caller_was_answered_does_not_fail_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        gate = asyncio.Event()

        async def failing(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            raise RuntimeError("late")

        answer = Answer()
        guard = guarded(failing, Limits(request_s=0.01))
        task = asyncio.create_task(guard(post(), receiver([]), sender(answer)))
        await until(lambda: answer.is_complete)
        gate.set()
        await task
        assert guard.requests == 0

    asyncio.run(story())
    assert "failed later" in caplog.text


def test_what_fails_in_time_fails_as_it_would_without_a_guard() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("early")

    guard = guarded(failing)
    with pytest.raises(RuntimeError, match="early"):
        once(guard, post(CHUNKED), [b"x"])
    assert guard.requests == guard._bodies.held_bytes == 0


def test_a_caller_that_does_not_take_its_answer_is_hung_up_on() -> None:
    async def story() -> None:
        guard = guarded(echo, Limits(request_s=0.01))
        is_blocked = asyncio.Event()

        async def blocked(message: Any) -> None:
            if message["type"] == "http.response.body":
                is_blocked.set()
                await asyncio.Event().wait()

        async with asyncio.timeout(PATIENCE_S) as patience:
            await guard(request(), receiver([]), blocked)
        assert is_blocked.is_set()
        assert not patience.expired(), "the guard hangs up by itself"
        assert guard.requests == 0

    asyncio.run(story())


def test_a_cancelled_server_cancels_its_requests() -> None:
    async def story() -> None:
        app = Working()
        guard = guarded(app)
        task = asyncio.create_task(call(guard, request()))
        await until(lambda: len(app.begun) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert guard.requests == 0

    asyncio.run(story())


def test_an_answer_in_time_is_left_alone() -> None:
    async def lingering(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        await asyncio.sleep(0.03)  # waits: three times as long as a request may take; the answer was complete before
        done.append(True)

    done: list[bool] = []
    assert once(guarded(lingering, Limits(request_s=0.01)), request()).status == 200
    assert done == [True]


def test_a_body_that_trickles_in_is_given_up() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.002)  # waits: a slow caller is what is tested
            yield b"x"

    guard = guarded(echo, Limits(upload_s=0.02))
    answer = asyncio.run(call(guard, post(CHUNKED), trickle()))
    assert (answer.status, answer.slug, answer["connection"]) == (408, "upload-too-slow", "close")
    assert guard._bodies.held_bytes == guard.requests == 0


def test_a_caller_that_hangs_up_in_its_body_is_not_answered() -> None:
    async def story() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        answer = Answer()
        guard = guarded(echo)
        await guard(post(CHUNKED), receive, sender(answer))  # type: ignore[arg-type]
        assert (answer.status, guard.requests, guard._bodies.held_bytes) == (0, 0, 0)

    asyncio.run(story())


# ── nesting ──

SCALARS = st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\é\n\x00a', max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[]{}"\\a', max_size=4), inner),
    max_leaves=40,
)


def depth(value: Any) -> int:
    """How deep a value is nested, found the naive way."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(min_value=0, max_value=9))
def test_the_cheap_count_is_the_depth(value: Any, levels: int) -> None:
    for _ in range(levels):
        value = [value]
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        for most in (1, 4, 8):
            assert is_too_deep(text.encode(), most) == (depth(value) > most)


@given(st.text(alphabet='[]{}"\\,:1 ', max_size=60).map(str.encode), st.integers(min_value=1, max_value=6))
def test_no_text_makes_a_parser_dive_much_deeper_than_allowed(text: bytes, most: int) -> None:
    if not is_too_deep(text, most):
        deepest = level = 0
        stack: list[int] = []
        in_string = escaped = False
        for byte in text:
            if in_string:
                in_string = escaped or byte != ord('"')
                escaped = byte == ord("\\") and not escaped
            elif byte == ord('"'):
                in_string = True
            elif byte in b"[{":
                stack.append(byte)
                level += 1
                deepest = max(deepest, level)
            elif byte in b"]}":
                if not stack or byte - stack.pop() != 2:
                    break  # no parser goes on behind brackets that do not match
                level -= 1
        assert deepest <= 2 * most


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 4_000_000, b'{"a":' * 1_000_000, b'"\\' * 2_000_000, b'"' * 4_000_000, b"[]" * 2_000_000,
        b"[" * 2_000_000 + b"]" * 2_000_000, b"]" * 4_000_000, b'[{"a":[1]}]' * 400_000,
        b'"\\"' * 1_300_000 + b"[" * 99,
    ],
    ids=range(9),
)  # fmt: skip
def test_no_body_takes_long_to_look_at(body: bytes) -> None:
    began_s = time.process_time()
    is_too_deep(body, 24)
    assert time.process_time() - began_s < 1, "some 0.03 s are usual"


def test_a_body_that_is_too_deep_is_refused_before_it_is_parsed() -> None:
    guard = guarded(echo)
    assert once(guard, post(CHUNKED), [b"[" * 5 + b"]" * 5]).slug == "too-deep"
    assert once(guard, post(CHUNKED), [b"[[[[]]]]"]).status == 200
    assert guard._bodies.held_bytes == 0


# ── rates ──


def test_a_bucket_fills_steadily_and_says_what_is_left() -> None:
    rates = RateLimiter(per_s=2, burst=4)
    received = [dict(rates.take("a", 0, 100.0)) for _ in range(4)]
    assert received[0] == {b"ratelimit-policy": b'"requests";q=4;w=2', b"ratelimit": b'"requests";r=3;t=1'}
    assert received[3][b"ratelimit"] == b'"requests";r=0;t=2'
    with pytest.raises(Problem) as refused:
        rates.take("a", 0, 100.4)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    assert refused.value.headers["ratelimit"].startswith('"requests";r=0;')
    rates.take("b", 0, 100.4)  # each has its own
    rates.take("a", 0, 100.5)
    with pytest.raises(Problem):
        rates.take("a", 0, 100.5)
    for _ in range(4):
        rates.take("a", 0, 200.0)
    with pytest.raises(Problem):
        rates.take("a", 0, 200.0)


def test_refusals_cost_nothing_and_a_clock_that_goes_back_gives_nothing() -> None:
    rates = RateLimiter(per_s=1, burst=1)
    rates.take("a", 0, 100.0)
    for _ in range(50):
        with pytest.raises(Problem):
            rates.take("a", 0, 100.5)
        with pytest.raises(Problem):
            rates.take("a", 0, 99.0)
    rates.take("a", 0, 101.6)


def test_a_large_body_counts_as_many_requests() -> None:
    rates = RateLimiter(per_s=1, burst=10)
    rates.take("a", 8 * 16_384, 100.0)
    rates.take("a", 0, 100.0)
    with pytest.raises(Problem):
        rates.take("a", 0, 100.0)
    rates.take("b", 1 << 30, 100.0)  # more than the bucket ever holds: a full one will do


@given(st.lists(st.floats(min_value=0, max_value=3), max_size=60))
def test_no_token_gets_more_than_the_rate_and_the_burst(pauses: list[float]) -> None:
    rates, now_s, taken = RateLimiter(per_s=3, burst=5), 0.0, 0
    for pause in pauses:
        now_s += pause
        try:
            rates.take("a", 0, now_s)
            taken += 1
        except Problem as refused:
            wait_s = int(refused.headers["Retry-After"])
            rates_after = rates.take("a", 0, now_s + wait_s)
            assert rates_after, "a caller that waits for Retry-After is served"
            now_s, taken = now_s + wait_s, taken + 1
        assert taken <= 5 + 3 * now_s + 1e-6


def test_the_rate_is_enforced_by_the_guard_and_sent_with_every_response() -> None:
    guard = guarded(echo, Limits(requests_per_s=0.001, burst=2))
    for left in (1, 0):
        answer = once(guard, request())
        assert answer["ratelimit"].startswith(f'"requests";r={left};')
    refused = once(guard, request())
    assert (refused.status, refused.slug) == (429, "too-many-requests")
    assert int(refused["retry-after"]) > 100
    assert once(guard, request(path="/livez")).status == 200


@pytest.mark.parametrize(
    "wrong",
    [{"max_body_bytes": 0}, {"max_requests": -1}, {"request_s": float("inf")}, {"burst": 1.5}, {"upload_s": "9"},
     {"requests_per_s": 0}, {"max_streams": True}, {"max_json_depth": None}],
)  # fmt: skip
def test_a_limit_that_is_none_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match=next(iter(wrong))):
        Limits(**wrong)


def test_no_rate_is_a_choice() -> None:
    assert Limits(requests_per_s=None).requests_per_s is None
