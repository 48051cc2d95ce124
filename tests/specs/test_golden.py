"""Bytes of every stored type, which must decode permanently. A file in `golden/` is never changed, only others
added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lastseen.engine import codec, events
from lastseen.engine.clock import ms_from_iso
from lastseen.engine.events import STORED_EVENTS, StoredEvent
from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict

GOLDEN = Path(__file__).parent / "golden"
SESSION_ID = "Zk3v_yT1-0aQ9bWcXd2eFg"
OLD_ID = "0" * 22
KEY = "irc:#ubuntu:Zoë 雪\U0001f600"

POLICY = Policy(
    idle_ttl_ms=1_800_000, max_age_ms=86_400_000, suspend_ttl_ms=7_776_000_000, touch_precision_ms=500,
    max_hold_ms=None, max_messages=50,
)  # fmt: skip
ATTRIBUTES = {"owner": "u1", "mood": [1, 2.5, True, None, 'é"\\\n'], "deep": {"a": {"b": {}}}, "big": 2**63 - 1}


def built(kind: Callable[..., StoredEvent], data: Any, **envelope: Any) -> StoredEvent:
    filled = {"id": "01890a5d-ac96-774b-bcce-b302099a8057", "source": "/gateway/discord", "subject": KEY,
              "time": "2026-01-31T12:00:05.678Z", "datacontenttype": "application/json"}  # fmt: skip
    return kind(data=data, **(filled | envelope))


def named(**more: Any) -> dict[str, Any]:
    return {"session_id": SESSION_ID, **more}


EVENTS: dict[str, StoredEvent] = {
    "created": built(events.Created, events.CreatedData(**named(policy=Policy()))),
    "created-full": built(
        events.Created,
        events.CreatedData(
            **named(policy=POLICY, attributes=ATTRIBUTES, replaces=OLD_ID, reason="rotated", if_version=7)
        ),
    ),
    "touched": built(events.Touched, events.TouchedData(**named())),
    "touched-full": built(
        events.Touched,
        events.TouchedData(
            **named(
                attributes={"owner": None, "x": 1}, message={"role": "user", "text": "hi"}, policy=POLICY, if_version=0
            )
        ),
    ),
    "touched-version": built(events.Touched, events.TouchedData(**named(if_version=2**53 - 1)), subject="k"),
    "suspended": built(events.Suspended, events.ReasonedData(**named())),
    "suspended-full": built(events.Suspended, events.ReasonedData(**named(reason="lunch", if_version=3))),
    "resumed": built(events.Resumed, events.ReasonedData(**named())),
    "resumed-full": built(events.Resumed, events.ReasonedData(**named(reason="back", if_version=4))),
    "held": built(events.Held, events.HeldData(**named(holder="job-1", lease_ms=1))),
    "held-full": built(events.Held, events.HeldData(**named(holder="Läufer 2", lease_ms=60_000, if_version=5))),
    "released": built(events.Released, events.ReleasedData(**named(holder="job-1"))),
    "released-full": built(events.Released, events.ReleasedData(**named(holder="job-1", if_version=6))),
    "expired": built(events.Expired, events.ExpiredData(**named(reason="idle", deadline_ms=0))),
    "expired-full": built(
        events.Expired, events.ExpiredData(**named(reason="capacity", deadline_ms=1_769_860_805_678, if_version=8))
    ),
    "closed": built(events.Closed, events.ClosedData(**named(reason="logout"))),
    "closed-full": built(events.Closed, events.ClosedData(**named(reason="reset_2", if_version=9))),
    "opened": built(
        events.Opened,
        events.OpenedData(log_id="01890a5dac96774bbcceb302099a8057", partition=2, partitions=6, imports=True),
    ),
    "import_finished": built(events.ImportFinished, events.ImportData(), time="2026-01-31T12:00:05+05:30"),
}


def bytes_of(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def decoded(value: bytes, key: str = KEY, **options: Any) -> StoredEvent:
    result = codec.decode(key, value, **options)
    assert not isinstance(result, Verdict), result
    return result[0]


@pytest.mark.parametrize("name", EVENTS)
def test_golden_bytes_decode_to_the_event_field_by_field(name: str) -> None:
    event = EVENTS[name]
    result = codec.decode(event.subject, bytes_of(name))
    assert not isinstance(result, Verdict), result
    assert type(result[0]) is type(event)
    for field in event.__dataclass_fields__:
        assert getattr(result[0], field) == getattr(event, field), field
    for field in event.data.__dataclass_fields__:
        assert getattr(result[0].data, field) == getattr(event.data, field), field
    assert result[1] == ms_from_iso(event.time)


@pytest.mark.parametrize("name", EVENTS)
def test_the_event_encodes_to_its_golden_bytes(name: str) -> None:
    assert codec.encode(EVENTS[name]) == bytes_of(name)
    assert codec.encode(decoded(bytes_of(name), EVENTS[name].subject)) == bytes_of(name)


def test_every_stored_type_has_golden_bytes_and_every_file_is_read() -> None:
    assert {type(event) for event in EVENTS.values()} == set(STORED_EVENTS)
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.json" for name in EVENTS}


def test_fields_of_a_later_v1_are_ignored() -> None:
    value = bytes_of("touched-full").replace(b'"data":{', b'"traceparent":"00-1","data":{"mood":"new",')
    assert decoded(value) == EVENTS["touched-full"]


# ── upcasting, on a made-up past: v0 called the id `sid`, v0b had seconds ──

V0 = "lastseen.session.held.v0"
V0B = "lastseen.session.held.v0b"
V1 = "lastseen.session.held.v1"


def held_v0() -> bytes:
    value = bytes_of("held-full").replace(b"held.v1", b"held.v0").replace(b"session_id", b"sid")
    return value.replace(b'"lease_ms":60000', b'"lease_s":60')


def v0_to_v0b(event: dict[str, Any]) -> dict[str, Any]:
    data = dict(event["data"])
    return event | {"type": V0B, "data": {"session_id": data.pop("sid"), **data}}


def v0b_to_v1(event: dict[str, Any]) -> dict[str, Any]:
    data = dict(event["data"])
    return event | {"type": V1, "data": {"lease_ms": 1000 * data.pop("lease_s"), **data}}


CHAIN = {V0: v0_to_v0b, V0B: v0b_to_v1}


def test_an_old_event_is_brought_up_version_by_version() -> None:
    assert decoded(held_v0(), upcasters=CHAIN) == EVENTS["held-full"]


def test_without_its_upcasters_an_old_event_is_unknown() -> None:
    assert codec.decode(KEY, held_v0()) is Verdict.UNKNOWN_TYPE


def test_a_chain_that_breaks_off_is_malformed() -> None:
    assert codec.decode(KEY, held_v0(), {V0: v0_to_v0b}) is Verdict.MALFORMED


def test_an_upcaster_does_not_touch_current_events() -> None:
    def never(event: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError(event)

    assert decoded(bytes_of("held-full"), upcasters={V1: never}) == EVENTS["held-full"]


FAULTY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "raises LookupError": lambda event: event["nothing"],
    "raises ArithmeticError": lambda event: 1 // 0,
    "recurses": lambda event: FAULTY["recurses"](event),
    "returns nothing": lambda event: None,
    "returns text": lambda event: "event",
    "returns no type": lambda event: {"specversion": "1.0"},
    "returns a type that is no text": lambda event: event | {"type": ["held"]},
    "returns what is no JSON": lambda event: event | {"type": V1, "data": object()},
    "returns itself without end": lambda event: event,
    "drops specversion": lambda event: {k: v for k, v in v0b_to_v1(v0_to_v0b(event)).items() if k != "specversion"},
    "changes the key": lambda event: v0b_to_v1(v0_to_v0b(event)) | {"subject": "another"},
    "breaks a bound": lambda event: v0b_to_v1(v0_to_v0b(event)) | {"time": "yesterday"},
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_upcaster_makes_the_record_malformed(name: str) -> None:
    assert codec.decode(KEY, held_v0(), {V0: FAULTY[name]}) is Verdict.MALFORMED


def test_upcasters_in_a_circle_come_to_an_end() -> None:
    calls = []

    def to(kind: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def upcast(event: dict[str, Any]) -> dict[str, Any]:
            calls.append(kind)
            return event | {"type": kind}

        return upcast

    assert codec.decode(KEY, held_v0(), {V0: to(V0B), V0B: to(V0)}) is Verdict.MALFORMED
    assert 2 <= len(calls) <= 100
