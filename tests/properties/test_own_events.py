"""What the engine makes unchecked and remembers is what parsing the bytes gives, in every field."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.engine import codec, events, own_events
from lastseen.engine.clock import LATEST_MS, iso_from_ms
from lastseen.engine.identifiers import new_event_id, new_event_ids, new_session_id
from lastseen.engine.session import MAX_LIMIT_MS
from lastseen.engine.verdicts import Verdict

NOW_MS = 1_700_000_000_123
KEYS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=512)
TIMES = st.integers(0, LATEST_MS)


def touch(key: str = "irc:#ubuntu:ana", at_ms: int = NOW_MS) -> bytes:
    return own_events.touch(new_event_id(at_ms), "/gateway", key, iso_from_ms(at_ms), at_ms, "AAAAAAAAAAAAAAAAAAAAAA")


def expiry(
    key: str = "irc:#ubuntu:ana",
    at_ms: int = NOW_MS,
    reason: events.ExpiryReason = "idle",
    deadline_ms: int = NOW_MS,
    if_version: int | None = None,
) -> bytes:
    return own_events.expiry(
        new_event_id(at_ms),
        "/pruner",
        key,
        iso_from_ms(at_ms),
        at_ms,
        new_session_id(),
        reason,
        deadline_ms,
        if_version,
    )


def remembered_and_parsed(key: str, value: bytes) -> tuple[Any, Any]:
    assert value in codec._remembered
    remembered = codec.decode(key, value)
    assert value not in codec._remembered
    return remembered, codec.decode_by_model(key, value)


def assert_same(key: str, value: bytes) -> None:
    remembered, parsed = remembered_and_parsed(key, value)
    assert not isinstance(parsed, Verdict), parsed
    assert remembered == parsed
    assert type(remembered[0]) is type(parsed[0])
    assert asdict(remembered[0]) == asdict(parsed[0])
    for name, is_value in asdict(parsed[0]).items():
        assert type(asdict(remembered[0])[name]) is type(is_value), name


@given(KEYS, TIMES)
def test_a_touch(key: str, at_ms: int) -> None:
    assert_same(key, touch(key, at_ms))


@given(
    KEYS,
    TIMES,
    st.sampled_from(["idle", "max_age", "suspend_ttl", "capacity", "memory"]),
    st.integers(0, MAX_LIMIT_MS),
    st.none() | st.integers(0, MAX_LIMIT_MS),
)
def test_an_expiry(key: str, at_ms: int, reason: events.ExpiryReason, deadline_ms: int, if_version: int | None) -> None:
    assert_same(key, expiry(key, at_ms, reason, deadline_ms, if_version))


def test_under_another_key_it_is_malformed_as_ever() -> None:
    remembered, parsed = remembered_and_parsed("someone:else", touch())
    assert remembered is parsed is Verdict.MALFORMED


@pytest.mark.parametrize(
    "value",
    [
        touch(at_ms=LATEST_MS + 1),
        expiry(at_ms=LATEST_MS + 1),
        expiry(deadline_ms=-1),
        expiry(deadline_ms=MAX_LIMIT_MS + 1),
    ],
    ids=["touch after the year 9999", "expiry after the year 9999", "negative deadline", "deadline too large"],
)
def test_what_cannot_be_read_back_is_not_remembered(value: bytes) -> None:
    assert value not in codec._remembered
    assert codec.decode("irc:#ubuntu:ana", value) is Verdict.MALFORMED


def test_what_never_comes_back_is_forgotten() -> None:
    codec._remembered.clear()
    for _ in range(codec.MAX_REMEMBERED + 1):
        touch()
    assert len(codec._remembered) == 1


def test_many_ids_at_once_are_as_good_as_one_by_one() -> None:
    ids = new_event_ids(NOW_MS, 1_000)
    assert len(set(ids)) == 1_000
    one = new_event_id(NOW_MS)
    for each in ids:
        assert len(each) == 36
        assert each[:15] == one[:15], "the time, and the version"
        assert each[19] in "89ab"
        assert [each[place] for place in (8, 13, 18, 23)] == ["-"] * 4


def test_a_thread_that_has_drawn_no_ids_may_ask_for_none() -> None:
    with ThreadPoolExecutor(1) as new_thread:
        assert new_thread.submit(new_event_ids, NOW_MS, 0).result() == []
        assert len(set(new_thread.submit(new_event_ids, NOW_MS, 1).result())) == 1
