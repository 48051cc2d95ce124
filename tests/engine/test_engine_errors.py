"""Bad input of any kind gets a typed error, and changes nothing: not a record is written, not a session differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stage import MIN, Stage

import lastseen
from lastseen import Engine, ManualClock, Policy, Position, errors, policy

BAD_KEYS = ["", "x" * 513, "a\nb", "\x00", "a\x7f", "a\x85", "\ud800", None, 5, b"key", ["key"], ("k",), {}]
OWN_ID = "chosen-by-the-caller-01"
TOO_BIG = "x" * (16 * 1024)
TOO_BIG_MESSAGE = "x" * (64 * 1024)
LIVE, SUSPENDED, OVER, FULL = "live", "suspended", "over", "full"


def nested(levels: int) -> Any:
    """JSON of so many levels."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def looped() -> Any:
    """JSON that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """In memory: what is refused never comes near the log."""
    made = Stage(tmp_path, "memory")
    yield made
    made.end()


@pytest.fixture
def engine(stage: Stage) -> Engine:
    """An engine with a session in each state."""
    engine = stage.open()
    engine.create(OVER, session_id=OWN_ID, policy=policy(idle_ttl="1m"))
    stage.clock.advance(MIN)
    engine.create(LIVE, attributes={"filler": "x" * 9_000})
    engine.open(SUSPENDED)
    engine.suspend(SUSPENDED)
    engine.open(FULL)
    for number in range(16):
        engine.take_lease(FULL, f"job-{number}", MIN)
    return engine


def everything(engine: Engine) -> object:
    """What must not change."""
    return engine._log.end_offsets(), engine.checkpoints(), [view.as_dict() for view in engine.list().sessions]


def assert_refused(engine: Engine, call: Callable[[], object], error: type[errors.LastseenError]) -> None:
    """The call raises just this error, with a message that says something, and nothing has changed."""
    before = everything(engine)
    with pytest.raises(error) as refused:
        call()
    assert type(refused.value) is error
    assert len(str(refused.value)) > 20
    assert str(refused.value).isprintable()
    assert everything(engine) == before


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: ascii(key)[:20])
def test_a_bad_key_is_refused_everywhere(engine: Engine, key: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: engine.open(key), lambda: engine.create(key), lambda: engine.rotate(key), lambda: engine.touch(key),
        lambda: engine.update(key, {}), lambda: engine.suspend(key), lambda: engine.resume(key),
        lambda: engine.take_lease(key, "job", 5), lambda: engine.release(key, "job"), lambda: engine.close(key),
        lambda: engine.get(key), lambda: engine.messages(key), lambda: engine.history(key),
        lambda: engine.session_spans(key),
        lambda: engine.explain(key), lambda: engine.as_of(key, 0), lambda: engine.messages_as_of(key, 0),
        lambda: engine.hold(key).__enter__(),
    ]  # fmt: skip
    for call in calls:
        assert_refused(engine, call, errors.InvalidKey)
    before = everything(engine)
    assert type(engine.touch_many([key])[0]) is errors.InvalidKey
    assert everything(engine) == before


E = errors
Case = tuple[Callable[[Engine], object], type[errors.LastseenError]]
CASES: dict[str, Case] = {
    # attributes
    "attributes too big": (lambda e: e.open("new", attributes={"a": TOO_BIG}), E.InvalidEvent),
    "attributes too deep": (lambda e: e.open("new", attributes={"a": nested(16)}), E.InvalidEvent),
    "attributes in a loop": (lambda e: e.open("new", attributes={"a": looped()}), E.InvalidEvent),
    "attributes of a number": (lambda e: e.open("new", attributes=5), E.InvalidEvent),  # type: ignore[arg-type]
    "attributes of text": (lambda e: e.create("new", attributes="abc"), E.InvalidEvent),  # type: ignore[arg-type]
    "attributes of a list": (lambda e: e.create("new", attributes=[1]), E.InvalidEvent),  # type: ignore[arg-type]
    "attributes with a set": (lambda e: e.open("new", attributes={"a": {1}}), E.InvalidEvent),
    "attributes with bytes": (lambda e: e.open("new", attributes={"a": b"x"}), E.InvalidEvent),
    "attributes with NaN": (lambda e: e.open("new", attributes={"a": float("nan")}), E.InvalidEvent),
    "attributes with a huge integer": (lambda e: e.open("new", attributes={"a": 2**64}), E.InvalidEvent),
    "attributes with a surrogate": (lambda e: e.open("new", attributes={"a": "\ud800"}), E.InvalidEvent),
    "attribute name of no text": (lambda e: e.open("new", attributes={5: 1}), E.InvalidEvent),  # type: ignore[dict-item]
    "patch of a number": (lambda e: e.touch(LIVE, attributes=5), E.InvalidEvent),  # type: ignore[arg-type]
    "patch of text": (lambda e: e.update(LIVE, "abc"), E.InvalidEvent),  # type: ignore[arg-type]
    "patch too deep": (lambda e: e.update(LIVE, {"a": nested(16)}), E.InvalidEvent),
    "patch with a set": (lambda e: e.update(LIVE, {"a": {1}}), E.InvalidEvent),
    "patch that makes the whole too big": (lambda e: e.update(LIVE, {"more": "x" * 9_000}), E.InvalidEvent),
    "rotated attributes too big": (lambda e: e.rotate(LIVE, attributes={"a": TOO_BIG}), E.InvalidEvent),
    "rotated attributes of a number": (lambda e: e.rotate(LIVE, attributes=5), E.InvalidEvent),  # type: ignore[arg-type]
    # messages
    "message too big": (lambda e: e.touch(LIVE, message=TOO_BIG_MESSAGE), E.InvalidEvent),
    "message too deep": (lambda e: e.touch(LIVE, message=nested(17)), E.InvalidEvent),
    "message of bytes": (lambda e: e.touch(LIVE, message=b"x"), E.InvalidEvent),
    "message of infinity": (lambda e: e.touch(LIVE, message=float("inf")), E.InvalidEvent),
    # ids and versions
    "id too short": (lambda e: e.create("new", session_id="short"), E.InvalidEvent),
    "id with odd characters": (lambda e: e.create("new", session_id="x" * 21 + "\n"), E.InvalidEvent),
    "id of no text": (lambda e: e.create("new", session_id=5), E.InvalidEvent),  # type: ignore[arg-type]
    "version of text": (lambda e: e.touch(LIVE, if_version="1"), E.InvalidEvent),  # type: ignore[arg-type]
    "version below none": (lambda e: e.suspend(LIVE, if_version=-1), E.InvalidEvent),
    "version of truth": (lambda e: e.close(LIVE, if_version=True), E.InvalidEvent),
    # reasons, holders, leases
    "reason of no form": (lambda e: e.close(LIVE, reason="Not Like This"), E.InvalidEvent),
    "reason empty": (lambda e: e.close(LIVE, reason=""), E.InvalidEvent),
    "reason too long": (lambda e: e.suspend(LIVE, reason="x" * 65), E.InvalidEvent),
    "reason of no text": (lambda e: e.suspend(LIVE, reason=5), E.InvalidEvent),  # type: ignore[arg-type]
    "holder empty": (lambda e: e.take_lease(LIVE, "", 5), E.InvalidEvent),
    "holder too long": (lambda e: e.take_lease(LIVE, "x" * 129, 5), E.InvalidEvent),
    "holder of no text": (lambda e: e.take_lease(LIVE, 5, 5), E.InvalidEvent),  # type: ignore[arg-type]
    "lease of nothing": (lambda e: e.take_lease(LIVE, "job", 0), E.InvalidEvent),
    "lease below nothing": (lambda e: e.take_lease(LIVE, "job", -5), E.InvalidEvent),
    "lease of text": (lambda e: e.take_lease(LIVE, "job", "1m"), E.InvalidEvent),  # type: ignore[arg-type]
    "lease for ever": (lambda e: e.take_lease(LIVE, "job", 2**60), E.InvalidEvent),
    "hold of text": (lambda e: e.hold(LIVE, lease_ms="1m").__enter__(), E.InvalidEvent),  # type: ignore[arg-type]
    # policies
    "policy of a number": (lambda e: e.open("new", policy=5), E.InvalidPolicy),  # type: ignore[arg-type]
    "policy of nothing": (lambda e: e.open("new", policy=0), E.InvalidPolicy),  # type: ignore[arg-type]
    "policy of a mapping": (lambda e: e.create("new", policy={}), E.InvalidPolicy),  # type: ignore[arg-type]
    "policy of text": (lambda e: e.touch(LIVE, policy="30m"), E.InvalidPolicy),  # type: ignore[arg-type]
    "rotated policy of a mapping": (lambda e: e.rotate(LIVE, policy={}), E.InvalidPolicy),  # type: ignore[arg-type]
    # options
    "wait of another word": (lambda e: e.touch(LIVE, wait="later"), E.InvalidSetting),  # type: ignore[arg-type]
    "wait of a list": (lambda e: e.touch(LIVE, wait=[]), E.InvalidSetting),  # type: ignore[arg-type]
    "many wait of another word": (lambda e: e.touch_many([LIVE], wait="later"), E.InvalidSetting),  # type: ignore[arg-type]
    "unknown sort": (lambda e: e.list(sort="size"), E.InvalidSetting),  # type: ignore[arg-type]
    "sort of a list": (lambda e: e.list(sort=[]), E.InvalidSetting),  # type: ignore[arg-type]
    "unknown status": (lambda e: e.list(status="asleep"), E.InvalidSetting),
    "status of a number": (lambda e: e.list(status=5), E.InvalidSetting),  # type: ignore[arg-type]
    "limit of nothing": (lambda e: e.list(limit=0), E.InvalidSetting),
    "limit too high": (lambda e: e.list(limit=10_001), E.InvalidSetting),
    "limit of text": (lambda e: e.list(limit="5"), E.InvalidSetting),  # type: ignore[arg-type]
    "prefix of a number": (lambda e: e.list(prefix=5), E.InvalidSetting),  # type: ignore[arg-type]
    "owner of a list": (lambda e: e.list(owner=[]), E.InvalidSetting),  # type: ignore[arg-type]
    "cursor of rubbish": (lambda e: e.list(cursor="rubbish"), E.InvalidSetting),
    "cursor of another form": (lambda e: e.list(cursor="WzEsMl0="), E.InvalidSetting),
    "cursor of a number": (lambda e: e.list(cursor=5), E.InvalidSetting),  # type: ignore[arg-type]
    "history limit of nothing": (lambda e: e.history(LIVE, limit=0), E.InvalidSetting),
    "history limit below nothing": (lambda e: e.history(LIVE, limit=-1), E.InvalidSetting),
    "history limit too high": (lambda e: e.history(LIVE, limit=10_001), E.InvalidSetting),
    "lives limit below nothing": (lambda e: e.session_spans(LIVE, limit=-1), E.InvalidSetting),
    "history after text": (lambda e: e.history(LIVE, after_offset="5"), E.InvalidSetting),  # type: ignore[arg-type]
    "as of text": (lambda e: e.as_of(LIVE, "today"), E.InvalidSetting),  # type: ignore[arg-type]
    "as of a fraction": (lambda e: e.as_of(LIVE, 1.5), E.InvalidSetting),  # type: ignore[arg-type]
    "as of another partition": (lambda e: e.as_of(LIVE, Position(7, 0)), E.LogMismatch),
    "as of beyond the log": (lambda e: e.as_of(LIVE, Position(0, 10_000)), E.LogMismatch),
    "id of a list": (lambda e: e.get_by_id([]), E.InvalidEvent),  # type: ignore[arg-type]
    # what the session's state forbids
    "touch of none": (lambda e: e.touch("absent"), E.SessionNotFound),
    "touch of one that is due": (lambda e: e.touch(OVER), E.SessionEnded),
    "close of none": (lambda e: e.close("absent"), E.SessionNotFound),
    "rotate of none": (lambda e: e.rotate("absent"), E.SessionNotFound),
    "rotate of one that is due": (lambda e: e.rotate(OVER), E.SessionEnded),
    "hold of none": (lambda e: e.hold("absent").__enter__(), E.SessionNotFound),
    "create of a live one": (lambda e: e.create(LIVE), E.SessionExists),
    "create with a live id": (lambda e: e.create("new", session_id=e.get(LIVE).session_id), E.SessionExists),  # type: ignore[union-attr]
    "touch of another session": (lambda e: e.touch(LIVE, session_id=OWN_ID), E.StaleSession),
    "touch of another version": (lambda e: e.touch(LIVE, if_version=7), E.VersionConflict),
    "touch of a suspended one": (lambda e: e.touch(SUSPENDED), E.SessionSuspended),
    "lease of a suspended one": (lambda e: e.take_lease(SUSPENDED, "job", MIN), E.SessionSuspended),
    "suspend of a suspended one": (lambda e: e.suspend(SUSPENDED), E.AlreadyDone),
    "resume of an active one": (lambda e: e.resume(LIVE), E.AlreadyDone),
    "release of what is not held": (lambda e: e.release(LIVE, "job"), E.AlreadyDone),
    "a seventeenth holder": (lambda e: e.take_lease(FULL, "job-16", MIN), E.TooManyHolders),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_and_nothing_changes(name: str, engine: Engine) -> None:
    call, error = CASES[name]
    assert_refused(engine, lambda: call(engine), error)


def test_an_ended_session_is_distinguished_from_one_that_never_was(engine: Engine) -> None:
    engine.create("brief", session_id="x" * 22)
    engine.close("brief")
    assert_refused(engine, lambda: engine.touch("brief", session_id="x" * 22), errors.SessionEnded)
    assert_refused(engine, lambda: engine.touch("brief", session_id="y" * 22), errors.SessionNotFound)
    assert_refused(engine, lambda: engine.touch("brief"), errors.SessionEnded)
    assert_refused(engine, lambda: engine.touch("unheard-of"), errors.SessionNotFound)
    assert_refused(engine, lambda: engine.create("brief", session_id="x" * 22), errors.SessionExists)


BAD_SETTINGS: list[dict[str, Any]] = [
    {"idle_tll": "30m"}, {"idle_ttl": 0}, {"idle_ttl": -1}, {"idle_ttl": "soon"}, {"idle_ttl": ""}, {"idle_ttl": 1.5},
    {"idle_ttl": "0s"}, {"idle_ttl": True}, {"idle_ttl": [30]}, {"idle_ttl": "9" * 400 + "d"}, {"idle_ttl": 2**60},
    {"max_age": "30"}, {"suspend_ttl": "-5m"}, {"touch_precision": -1}, {"max_hold": 0}, {"max_messages": 0},
    {"max_messages": "10"}, {"max_messages": -1}, {"max_sessions": 0}, {"max_sessions": "100"}, {"max_sessions": 1.5},
    {"max_body_bytes": 0}, {"max_body_bytes": None}, {"max_memory_bytes": -1}, {"evict_on_pressure": "yes"},
    {"snapshot": 5}, {"snapshot": ""}, {"snapshot_interval": None}, {"snapshot_interval": "0s"},
    {"archive_interval": "never"}, {"source": ""}, {"source": "x" * 257}, {"source": 5}, {"source": "a\nb"},
    {"background": 1}, {"prune": None}, {"partitions": 0}, {"partitions": 10_001}, {"partitions": "2"},
]  # fmt: skip


@pytest.mark.parametrize("given", BAD_SETTINGS, ids=str)
def test_a_bad_setting_is_refused_and_named(given: dict[str, Any], on_disk: Stage) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        lastseen.open_engine(on_disk.url, clock=on_disk.clock, **given)
    assert type(refused.value) in (errors.InvalidSetting, errors.InvalidPolicy)
    assert next(iter(given)) in str(refused.value)
    assert list(on_disk.folder.iterdir()) == []


@pytest.mark.parametrize(
    "given", [{"idle_ttl": 0}, {"idle_ttl": "x"}, {"max_messages": -1}, {"touch_precision": "-1s"}]
)
def test_a_bad_limit_is_refused_by_policy_too(given: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput, match=next(iter(given))):
        policy(**given)


def test_every_use_of_an_engine_that_has_shut_down_says_so(engine: Engine) -> None:
    engine.shutdown()
    engine.shutdown()
    calls: dict[str, Callable[[], object]] = {
        "open": lambda: engine.open("new"), "open live": lambda: engine.open(LIVE),
        "create": lambda: engine.create("new"), "rotate": lambda: engine.rotate(LIVE),
        "touch": lambda: engine.touch(LIVE), "touch absent": lambda: engine.touch("absent"),
        "touch none": lambda: engine.touch(LIVE, wait="none"), "touch_many": lambda: engine.touch_many([LIVE]),
        "update": lambda: engine.update(LIVE, {}), "suspend": lambda: engine.suspend(LIVE),
        "resume": lambda: engine.resume(SUSPENDED), "hold": lambda: engine.hold(LIVE).__enter__(),
        "take_lease": lambda: engine.take_lease(LIVE, "job", 5), "release": lambda: engine.release(FULL, "job-1"),
        "close": lambda: engine.close(LIVE), "get": lambda: engine.get(LIVE),
        "get_by_id": lambda: engine.get_by_id(OWN_ID), "list": engine.list, "messages": lambda: engine.messages(LIVE),
        "history": lambda: engine.history(LIVE), "lives": lambda: engine.session_spans(LIVE),
        "explain": lambda: engine.explain(LIVE), "as_of": lambda: engine.as_of(LIVE, 0),
        "messages_as_of": lambda: engine.messages_as_of(LIVE, 0), "subscribe": engine.subscribe,
        "refresh": engine.refresh, "prune": engine.prune, "dry run": lambda: engine.prune(dry_run=True),
        "flush": engine.flush, "archive": engine.archive,
    }  # fmt: skip
    answers = {}
    for name, call in calls.items():
        try:
            answers[name] = repr(call())
        except errors.LastseenError as error:
            answers[name] = type(error).__name__
    assert answers == dict.fromkeys(calls, "EngineClosed")


def test_the_keys_that_are_allowed_are_allowed(engine: Engine, clock: ManualClock) -> None:
    for key in ("x" * 512, " ", "ключ", "\U0001f600" * 512, "a\u00a0b", "key:with/every#thing?%"):
        assert engine.open(key).key == key
        assert engine.touch(key).key == key  # type: ignore[union-attr]


def test_the_largest_bodies_that_are_allowed_are_allowed(engine: Engine) -> None:
    room = 16 * 1024 - len('{"a":""}')
    assert engine.open("new", attributes={"a": "x" * room}).attributes == {"a": "x" * room}
    engine.touch("new", message="x" * (64 * 1024 - 2))
    engine.touch("new", message=nested(16))
    assert len(engine.messages("new")) == 2


def test_a_policy_refuses_what_is_no_limit() -> None:
    for bad in ({"idle_ttl_ms": 0}, {"idle_ttl_ms": -5}, {"idle_ttl_ms": 1.5}, {"max_messages": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Policy(**bad)  # type: ignore[arg-type]
