"""How a client gets an answer, step by step: what it sends again, how long it waits, where it lets itself be sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from driven import FROZEN, ID, KEY, REFUSED, RESET, SESSION, Driven, owned_by, planned, problem, session, without_end
from hypothesis import given
from hypothesis import strategies as st

from lastseen import ServiceError
from lastseen.api.problems import Problem
from lastseen.client import commands as calls
from lastseen.client import reads
from lastseen.client.call import Call, NoResponse, Response
from lastseen.engine import errors
from lastseen.engine.errors import (
    AlreadyDone,
    InvalidEvent,
    LastseenError,
    LogUnavailable,
    NotOwner,
    OutcomeUnknown,
    SessionEnded,
    SessionExists,
    SessionNotFound,
    VersionConflict,
)

PLAIN: list[Call[Any]] = [calls.touch(KEY), calls.open(KEY), reads.get(KEY), calls.take_lease(KEY, "job", 1000)]
PINNED: list[Call[Any]] = [
    calls.suspend(KEY, session_id=ID), calls.resume(KEY, session_id=ID), calls.update(KEY, {"n": 1}, session_id=ID),
    calls.rotate(KEY, session_id=ID), calls.touch(KEY, attributes={"n": 1}, if_version=2, session_id=ID),
]  # fmt: skip
UNSAFE: list[Call[Any]] = [
    calls.close(KEY), calls.close(KEY, if_version=2), calls.suspend(KEY), calls.resume(KEY), calls.rotate(KEY),
    calls.update(KEY, {"n": 1}), calls.update(KEY, {"n": 1}, if_version=2), calls.touch(KEY, message="hello"),
    calls.touch(KEY, message="hello", session_id=ID), calls.touch(KEY, attributes={"n": 1}),
    calls.touch(KEY, if_version=2),
]  # fmt: skip


# ── sending again ──


@pytest.mark.parametrize("call", [*PLAIN, *PINNED], ids=lambda call: call.path)
def test_what_is_harmless_is_sent_again(call: Call[Any]) -> None:
    driven = Driven(call, [RESET, REFUSED, session()])
    assert driven.result.version == 3
    assert len(driven.sent) == 3
    assert len({(sent.path, sent.content, tuple(sent.headers.items())) for sent in driven.sent}) == 1


@pytest.mark.parametrize("call", UNSAFE, ids=lambda call: call.path)
def test_what_may_do_harm_is_not(call: Call[Any]) -> None:
    driven = Driven(call, [RESET])
    assert isinstance(driven.error, OutcomeUnknown)
    assert len(driven.sent) == 1


@pytest.mark.parametrize("call", UNSAFE, ids=lambda call: call.path)
def test_what_was_never_sent_is_always_sent_again(call: Call[Any]) -> None:
    unavailable = problem(errors.LogUnavailable("locked"))
    success = Response(204, {}, b"") if call.path.endswith("close") else session()
    driven = Driven(call, [REFUSED, unavailable, success])
    assert driven.error is None
    assert len(driven.sent) == 3


def test_creating_is_sent_again_with_its_key() -> None:
    driven = Driven(calls.create(KEY), [RESET, session()])
    first, second = (sent.headers["Idempotency-Key"] for sent in driven.sent)
    assert first == second
    assert len(first) >= 22
    assert Driven(calls.create(KEY), [session()]).sent[0].headers["Idempotency-Key"] != first


EXISTS, ENDED = problem(SessionExists("there")), problem(SessionEnded("gone"))


def test_a_session_that_exists_may_be_our_own() -> None:
    assert isinstance(Driven(calls.create(KEY), [EXISTS]).error, SessionExists)
    assert isinstance(Driven(calls.create(KEY), [REFUSED, EXISTS]).error, SessionExists)
    assert isinstance(Driven(calls.create(KEY), [RESET, EXISTS]).error, OutcomeUnknown)


@pytest.mark.parametrize("said", [SessionEnded, SessionNotFound, errors.StaleSession])
def test_closing_what_is_closed_is_success_if_it_may_have_been_us(said: type[LastseenError]) -> None:
    call = calls.close(KEY, session_id=ID)
    assert Driven(call, [RESET, problem(said("gone"))]).error is None
    assert isinstance(Driven(call, [problem(said("gone"))]).error, said)
    assert isinstance(Driven(call, [REFUSED, problem(said("gone"))]).error, said)


def test_suspending_what_is_suspended_reads_it_again() -> None:
    already = problem(AlreadyDone("it is"))
    driven = Driven(calls.suspend(KEY, session_id=ID), [RESET, already, session(status="suspended")])
    assert driven.result.status.value == "suspended"
    assert [sent.method for sent in driven.sent] == ["POST", "POST", "GET"]
    assert isinstance(Driven(calls.suspend(KEY, session_id=ID), [already]).error, AlreadyDone)
    gone = Driven(calls.release(KEY, "job"), [RESET, already, ENDED])
    assert isinstance(gone.error, SessionEnded)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (calls.rotate(KEY, session_id=ID), SessionEnded("gone")),
        (calls.touch(KEY, policy=None, attributes={}, if_version=2, session_id=ID), VersionConflict("changed")),
        (calls.suspend(KEY, if_version=2, session_id=ID), VersionConflict("changed")),
        (calls.close(KEY, if_version=2, session_id=ID), VersionConflict("changed")),
    ],
)
def test_what_may_be_our_doing_or_another_callers_is_unknown(call: Call[Any], said: LastseenError) -> None:
    assert isinstance(Driven(call, [RESET, problem(said)]).error, OutcomeUnknown)
    assert type(Driven(call, [problem(said)]).error) is type(said)


def test_a_refusal_is_not_sent_again() -> None:
    for refusal in (SessionNotFound("no"), InvalidEvent("no"), errors.ClockSkew("no"), errors.LogCorrupt("no")):
        driven = Driven(calls.touch(KEY), [problem(refusal)])
        assert type(driven.error) is type(refusal)
        assert str(driven.error) == "no"


def test_a_plan_is_made_and_carried_out_once() -> None:
    driven = Driven(calls.prune(), [RESET, planned("a"), REFUSED, planned("a")])
    assert [sent.content for sent in driven.sent] == [None, None, b'{"apply":"p1"}', b'{"apply":"p1"}']
    assert len(driven.result.due) == 1
    assert len(Driven(calls.prune(), [planned()]).sent) == 1
    assert len(Driven(calls.prune(dry_run=True), [planned("a")]).sent) == 1
    assert isinstance(Driven(calls.prune(), [planned("a"), RESET]).error, OutcomeUnknown)


# ── pauses and times ──


def test_pauses_grow_and_are_bounded() -> None:
    driven = Driven(reads.get(KEY), [without_end(False)], timeout_s=100)
    assert isinstance(driven.error, LogUnavailable)
    assert driven.pauses[:3] == pytest.approx([0.0375, 0.075, 0.15])
    assert max(driven.pauses) == 1.5


@pytest.mark.parametrize("timeout_s", [1, 10, 30, 60])
def test_a_call_is_tried_until_its_time_is_over(timeout_s: float) -> None:
    for answer in (without_end(False), without_end(True)):
        driven = Driven(reads.get(KEY), [answer], timeout_s=timeout_s)
        assert timeout_s - 0.05 <= driven.took_s <= timeout_s
        assert len(driven.sent) == len(driven.pauses) + 1
    frozen = Driven(reads.get(KEY), lambda _: FROZEN, timeout_s=timeout_s)
    assert timeout_s - 0.05 <= frozen.took_s <= timeout_s + 0.01


def test_all_is_over_after_the_timeout() -> None:
    for call, kind in ((reads.get(KEY), LogUnavailable), (calls.touch(KEY), OutcomeUnknown)):
        driven = Driven(call, [without_end(True)], timeout_s=1)
        assert type(driven.error) is kind
        assert sum(driven.pauses) < 1
        assert driven.sent[0].timeout_s == 1
        assert all(sent.timeout_s <= 1.000001 - sum(driven.pauses[:n]) for n, sent in enumerate(driven.sent))
    assert type(Driven(calls.touch(KEY), [without_end(False)]).error) is LogUnavailable


def test_an_answer_that_does_not_come_leaves_time_for_another_try() -> None:
    assert Driven(reads.get(KEY), [session()], timeout_s=4).sent[0].timeout_s == 2
    assert Driven(reads.get(KEY), [session()], timeout_s=10).sent[0].timeout_s == 3
    assert Driven(reads.get(KEY), [session()], timeout_s=10, try_timeout_s=8.0).sent[0].timeout_s == 5
    assert Driven(reads.list(), [Response(200, {}, b'{"sessions":[],"cursor":null}')]).sent[0].timeout_s == 5
    slow = Driven(reads.get(KEY), [FROZEN, FROZEN, FROZEN, FROZEN, session()], timeout_s=60)
    assert [sent.timeout_s for sent in slow.sent] == [3, 3, 6, 6, 12], "what is slow, and not frozen, gets longer"
    assert Driven(calls.rotate(KEY), [session()], timeout_s=10).sent[0].timeout_s == 10


@pytest.mark.parametrize("status", [429, 503])
def test_the_service_is_given_the_time_it_asks_for(status: int) -> None:
    busy = problem(Problem(status, "too-many-requests", "slow down", headers={"Retry-After": "3"}))
    for call in (reads.get(KEY), calls.rotate(KEY)):
        driven = Driven(call, [busy, session()])
        assert driven.pauses == pytest.approx([3 * 1.125])  # and a little more, so that not all come back together
    late = problem(Problem(status, "too-many-requests", "slow down", headers={"Retry-After": "60"}))
    driven = Driven(reads.get(KEY), [late])
    assert isinstance(driven.error, ServiceError)
    assert (driven.error.status, driven.error.kind) == (status, "too-many-requests")
    assert driven.pauses == []


@pytest.mark.parametrize("said", ["nonsense", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400])
def test_a_time_that_makes_no_sense_is_no_time(said: str) -> None:
    driven = Driven(reads.get(KEY), [problem(LogUnavailable("locked"), **{"retry-after": said}), session()])
    assert driven.pauses == pytest.approx([0.0375])


def test_an_unknown_outcome_at_the_service_is_one_here() -> None:
    unknown = problem(OutcomeUnknown("perhaps"))
    assert isinstance(Driven(calls.rotate(KEY), [unknown]).error, OutcomeUnknown)
    assert Driven(calls.touch(KEY), [unknown, session()]).result.version == 3


def test_a_request_that_came_too_slowly_is_sent_again() -> None:
    slow = problem(Problem(408, "upload-too-slow", "send it again"))
    assert Driven(calls.rotate(KEY), [slow, session()]).result.version == 3


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_that_gives_up_tells_nothing_of_the_outcome(status: int) -> None:
    proxy = Response(status, {"content-type": "text/html"}, b"<h1>Bad gateway</h1>")
    assert isinstance(Driven(calls.rotate(KEY), [proxy]).error, OutcomeUnknown)
    assert Driven(calls.touch(KEY), [proxy, session()]).result.version == 3
    assert Driven(reads.get(KEY), [proxy, session()]).result.version == 3


# ── answers that are none ──

NONSENSE = [
    b"", b"{}", b"[]", b"null", b"<html>welcome</html>", b"\xff\xfe", b"[" * 100_000, json.dumps(SESSION)[:-5].encode(),
    json.dumps({**SESSION, "version": "3"}).encode(), json.dumps({**SESSION, "key": "another"}).encode(),
    json.dumps({**SESSION, "status": "asleep"}).encode(),
    json.dumps({**SESSION, "policy": {"idle_ttl_ms": "x"}}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("content", NONSENSE)
def test_a_lying_service_is_found_out(content: bytes) -> None:
    lie = Response(200, {}, content)
    read = Driven(reads.get(KEY), [lie])
    assert type(read.error) is ServiceError
    assert read.error.status == 200
    assert type(Driven(calls.touch(KEY), [lie]).error) is OutcomeUnknown


LISTS: list[Callable[[], Call[Any]]] = [
    reads.list, reads.statistics, lambda: reads.history(KEY), lambda: reads.session_spans(KEY),
    lambda: reads.messages(KEY),
    lambda: reads.explain(KEY),
]  # fmt: skip


@pytest.mark.parametrize("make", LISTS)
@pytest.mark.parametrize("content", [b"", b"[]", b'"x"', b'{"records":[{"verdict":"maybe"}],"lives":7,"messages":[1]}'])
def test_so_is_one_that_lies_of_more(make: Callable[[], Call[Any]], content: bytes) -> None:
    if make is reads.statistics and content.startswith(b"{"):
        content = b"7"  # any object will do there
    assert type(Driven(make(), [Response(200, {}, content)]).error) is ServiceError


def test_more_touches_than_the_service_takes_are_refused() -> None:
    assert calls.touch_many(["a"] * 10_000).is_repeatable
    with pytest.raises(errors.InvalidSetting, match="10001 keys"):
        calls.touch_many(["a"] * 10_001)


def test_a_verdict_that_is_none_is_found_out() -> None:
    row = {
        "key": KEY, "offset": 1, "partition": 0, "at_ms": 1, "verdict": "maybe", "name": None, "session_id": None,
        "event_id": None, "source": None, "reason": None,
    }  # fmt: skip
    answer = Response(200, {}, json.dumps({"records": [row]}).encode())
    assert type(Driven(reads.history(KEY), [answer]).error) is ServiceError


def test_touches_are_counted() -> None:
    applied = {"result": "applied", "session_id": ID, "version": 2, "last_active_at_ms": 1, "deadline_ms": None, "position": [0, 1]}  # fmt: skip  # noqa: E501
    answer = Response(200, {}, json.dumps({"results": [applied]}).encode())
    assert Driven(calls.touch_many(["a"]), [answer]).result[0].version == 2
    assert type(Driven(calls.touch_many(["a", "b"]), [answer]).error) is OutcomeUnknown


@pytest.mark.parametrize("status", [301, 307, 400, 404, 405, 418, 500])
def test_what_is_none_of_ours_has_its_status(status: int) -> None:
    driven = Driven(reads.get(KEY), [Response(status, {"location": "http://evil:1/"}, b"elsewhere")])
    assert isinstance(driven.error, ServiceError)
    assert (driven.error.status, driven.error.kind) == (status, None)
    assert len(driven.sent) == 1


def test_a_problem_of_https_own_keeps_its_kind() -> None:
    driven = Driven(reads.get(KEY), [problem(Problem(403, "forbidden", "another token"))])
    assert isinstance(driven.error, ServiceError)
    assert (driven.error.status, driven.error.kind) == (403, "forbidden")
    assert "another token" in str(driven.error)


def test_every_error_of_the_engine_comes_back_as_itself() -> None:
    left_out = {"shown", "EmitterFull", "NotDelivered", "LastseenError"}
    for name in set(errors.__all__) - left_out:
        kind: type[LastseenError] = getattr(errors, name)
        driven = Driven(reads.explain(KEY), [problem(kind("because"))], timeout_s=0.01)
        assert type(driven.error) is kind, name


def test_errors_of_other_names_are_none_of_the_engines() -> None:
    for name in ("shown", "__builtins__", "LastseenError", "SystemExit"):
        stated = Problem(409, "refused-somehow", "because", members={"error": name})
        assert type(Driven(reads.get(KEY), [problem(stated)]).error) is ServiceError


# ── whatever is answered ──

PAGE = b"<html>"
GARBAGE, TOO_BUSY = Response(200, {}, PAGE), Problem(429, "too-many-requests", "no", headers={"Retry-After": "1"})
MAY_HAVE_ACTED = [RESET, GARBAGE, problem(OutcomeUnknown("?")), Response(502, {}, PAGE), Response(500, {}, PAGE)]
HAS_NOT = [
    REFUSED, problem(LogUnavailable("locked")), problem(TOO_BUSY), owned_by(None), owned_by("http://two:1"), EXISTS,
    ENDED, problem(VersionConflict("changed")), problem(AlreadyDone("it is")), Response(307, {}, b""),
]  # fmt: skip
EVERY_CALL = [*PLAIN, *PINNED, *UNSAFE, calls.create(KEY), calls.close(KEY, session_id=ID), calls.release(KEY, "job")]


@given(
    call=st.sampled_from(EVERY_CALL),
    script=st.lists(st.sampled_from([*MAY_HAVE_ACTED, *HAS_NOT]), max_size=12),
    timeout_s=st.sampled_from([0.01, 0.5, 10.0]),
)
def test_no_call_runs_without_end_or_does_harm(call: Call[Any], script: list[Any], timeout_s: float) -> None:
    success = Response(204, {}, b"") if call.path.endswith("close") else session()
    driven = Driven(call, [*script, *[success] * 20], timeout_s, is_whole=False)
    heard = [*script, *[success] * 20][: len(driven.sent)]
    assert sum(driven.pauses) < 2 * timeout_s  # a call that reads again has a time of its own
    assert len(driven.sent) <= (len(driven.pauses) + 2) * (1 + 1), "each address once between two pauses"
    posts = [answer for sent, answer in zip(driven.sent, heard, strict=True) if sent.method == "POST"]
    lost = [n for n, answer in enumerate(posts) if answer in MAY_HAVE_ACTED]
    if call in UNSAFE:
        assert lost in ([], [len(posts) - 1]), "nothing is sent after what may have been done"
    if lost and isinstance(driven.error, LastseenError):
        # An unknown outcome is not reported as another one.
        assert type(driven.error) not in (LogUnavailable, NotOwner, ServiceError) or answered(posts[lost[-1] + 1 :])


def answered(after: list[Response | NoResponse]) -> bool:
    """Whether a later answer was a refusal, and so an answer to all."""
    return any(isinstance(each, Response) and each.status in (307, 404, 409, 410, 412) for each in after)
