"""What becomes of each kind of record: its time, its bytes, its verdict; and what is left out, and why."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from stories import MINUTE_MS, NOON_MS, Recording, events, everything, long_id, story

from lastseen.copying.copy import Copied, copy_log
from lastseen.copying.retimed_event import SENT_TIME
from lastseen.engine import codec
from lastseen.engine.clock import ManualClock, iso_from_ms
from lastseen.engine.events import MAX_RECORD_BYTES
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Mark
from lastseen.engine.partitioner import partition_of

LATER_MS = NOON_MS + 60 * MINUTE_MS


def copy_of(source: Recording, partitions: int = 1) -> tuple[MemoryLog, Copied]:
    """A copy of a log, made later."""
    clock = ManualClock(LATER_MS)
    target = MemoryLog(clock, partitions)
    return target, copy_log(source, target, clock=clock)


def key_in(partition: int, partitions: int, skipped: int = 0) -> str:
    """A key that belongs to a partition; with `skipped`, not the first that does."""
    fitting = (key for key in (f"key{number}" for number in range(1_000)) if partition_of(key, partitions) == partition)
    return next(islice(fitting, skipped, None))


# ── time and bytes ──


def test_the_log_time_becomes_the_time_and_what_the_producer_said_stays() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", lag_ms=1_234)
    target, copied = copy_of(source)
    (event,) = events(target)
    (before,) = events(source)
    assert event == before | {"time": iso_from_ms(NOON_MS), SENT_TIME: iso_from_ms(NOON_MS - 1_234)}
    assert (copied.figures.retimed, copied.differences) == (1, [])


def test_a_record_that_was_sent_when_the_log_took_it_stays_byte_for_byte() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", attributes={"n": 1.5})
    target, copied = copy_of(source)
    assert everything(target)[1].value == everything(source)[0].value
    assert copied.figures.retimed == 0


def test_no_digit_of_a_time_is_lost() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1")
    sent = "2023-11-15T00:43:19.123456789+02:30"
    (record,) = everything(source)
    assert record.value is not None
    source._records[0] = []
    source.put(NOON_MS, "ana", record.value.replace(iso_from_ms(NOON_MS).encode(), sent.encode()))
    target, copied = copy_of(source)
    (event,) = events(target)
    assert (event["time"], event[SENT_TIME]) == (iso_from_ms(NOON_MS), sent)
    assert copied.differences == []


def test_what_no_rule_reads_is_kept_to_the_last_digit() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", lag_ms=1)
    (record,) = everything(source)
    source._records[0] = []
    odd = b'{"traceparent" : "00-ab", "huge": 123456789012345678901234567890, "small": 1.10e-3,'
    assert record.value is not None
    source.put(NOON_MS, "ana", odd + record.value.removeprefix(b"{"))
    target, copied = copy_of(source)
    value = everything(target)[1].value or b""
    for member in (b'"traceparent":"00-ab"', b'"huge":123456789012345678901234567890', b'"small":1.10e-3'):
        assert member in value
    assert copied.figures.shortened == 0


def test_a_copy_of_a_copy_keeps_what_the_first_producer_said() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", lag_ms=500)
    first, _ = copy_of(source)
    clock = ManualClock(LATER_MS)
    second = MemoryLog(clock, 3)
    copied = copy_log(first, second, clock=clock)
    assert events(second) == events(first)
    assert copied.figures.left_out == {"log_event": 2}
    assert copied.differences == []


def test_a_sent_time_that_is_there_already_is_kept() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", lag_ms=500, more={SENT_TIME: "long ago"})
    target, _ = copy_of(source)
    assert events(target)[0][SENT_TIME] == "long ago"


def test_a_record_that_would_get_too_large_loses_what_is_unknown_and_nothing_else() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", lag_ms=500, attributes={"owner": "u1"}, more={"padding": ""})
    room = MAX_RECORD_BYTES - len(everything(source)[0].value or b"")
    source._records[0] = []
    source.create(NOON_MS, "ana", "s1", lag_ms=500, attributes={"owner": "u1"}, more={"padding": "x" * room})
    assert len(everything(source)[0].value or b"") == MAX_RECORD_BYTES
    target, copied = copy_of(source)
    (event,) = events(target)
    assert "padding" not in event
    assert (event["id"], event["data"]["attributes"], event[SENT_TIME]) == (
        "event-0", {"owner": "u1"}, iso_from_ms(NOON_MS - 500),
    )  # fmt: skip
    assert (copied.figures.shortened, copied.differences) == (1, [])


def test_a_name_that_stands_twice_means_in_the_copy_what_it_meant() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", lag_ms=500)
    (record,) = everything(source)
    source._records[0] = []
    data = b'{"data": {"session_id": "another-session-altogether", "policy": {}}, "time": "2001-01-01T00:00:00Z",'
    source.put(NOON_MS, "ana", data + (record.value or b"").removeprefix(b"{"))
    target, copied = copy_of(source)
    assert events(target)[0]["data"]["session_id"] == long_id("s1")
    assert story(target, LATER_MS) == story(source, LATER_MS)
    assert copied.differences == []


def test_a_time_that_says_the_same_in_other_words_stays() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1")
    value = everything(source)[0].value or b""
    source._records[0] = []
    source.put(NOON_MS, "ana", value.replace(iso_from_ms(NOON_MS).encode(), b"2023-11-14T23:13:20+01:00"))
    target, copied = copy_of(source)
    assert everything(target)[1].value == everything(source)[0].value
    assert (copied.figures.retimed, copied.differences) == (0, [])


def time_from_at(old: dict[str, Any]) -> dict[str, Any]:
    """An older type said when it was sent in another place."""
    return old | {"type": TOUCHED, "time": old["at"]}


def message_from_time(old: dict[str, Any]) -> dict[str, Any]:
    """An older type said in `time` what is a message now."""
    return old | {"type": TOUCHED, "data": old["data"] | {"message": old.get("time")}, "time": old["at"]}


TOUCHED = "lastseen.session.touched.v1"


@pytest.mark.parametrize("upcaster", [time_from_at, message_from_time])
@pytest.mark.parametrize("time", [None, iso_from_ms(NOON_MS - 77)])
def test_a_record_of_an_older_type_is_copied_as_what_it_means_today(
    upcaster: Any, time: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(codec.UPCASTERS, "lastseen.session.touched.v0", upcaster)
    source = Recording()
    source.create(NOON_MS, "ana", "s1")
    source.tell(NOON_MS + 9, "touched", "ana", "s1", more={"at": iso_from_ms(NOON_MS)}, event_id="old")
    old = json.loads(everything(source)[1].value or b"") | {"type": "lastseen.session.touched.v0", "time": time}
    del source._records[0][1]
    source.put(NOON_MS + 9, "ana", json.dumps({name: each for name, each in old.items() if each}).encode())
    target, copied = copy_of(source)
    event = json.loads(everything(target)[2].value or b"")
    assert (event["type"], event["time"]) == (TOUCHED, iso_from_ms(NOON_MS + 9))
    assert event[SENT_TIME] == iso_from_ms(NOON_MS)
    assert copied.differences == []
    assert story(target, LATER_MS) == story(source, LATER_MS)


def test_a_history_from_before_1970_is_copied_in_its_order() -> None:
    source, old_ms = Recording(2), -(10**11)
    for partition in range(2):
        source.tell(old_ms, "opened", "marks", "", kind="log", partition=partition)
        source.put(NOON_MS, key_in(partition, 2), b"rubbish")
    for turn in range(6):
        source.create(NOON_MS, key_in(turn % 2, 2, turn), f"s{turn}", partition=turn % 2,
                      lag_ms=NOON_MS - old_ms - turn)  # fmt: skip
    target, copied = copy_of(source)
    assert [event["time"] for event in events(target)] == [iso_from_ms(old_ms + turn) for turn in range(6)]
    assert copied.differences == []


# ── void records ──


def test_what_is_void_in_the_wrong_partition_ends_nothing_in_the_copy() -> None:
    """Its session was due by then, and no record of its own partition has said so yet."""
    source, key = Recording(2), key_in(0, 2)
    for partition in range(2):
        source.tell(NOON_MS, "opened", "lastseen:log", "", kind="log", partition=partition)
        source.tell(NOON_MS, "import_finished", "lastseen:log", "", kind="log", partition=partition)
    source.create(NOON_MS, key, "ana", policy={"idle_ttl_ms": MINUTE_MS})
    source.tell(NOON_MS + 5 * MINUTE_MS, "touched", key, "ana", partition=1)
    target, copied = copy_of(source)
    assert copied.figures.left_out == {"log_event": 4, "wrong_partition": 1}
    assert copied.figures.stand_ins == 0
    assert copied.differences == []
    assert [event["type"] for event in events(target)] == ["lastseen.session.created.v1"]


def test_what_was_void_is_void_again_for_the_same_reason() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1")
    source.create(NOON_MS + 1, "ana", "s2", lag_ms=7)
    source.tell(NOON_MS + 2, "closed", "ana", "s1", reason="logout")
    source.tell(NOON_MS + 3, "touched", "ana", "s1", lag_ms=7)
    source.tell(NOON_MS + 4, "touched", "bob", "s9", lag_ms=7)
    target, copied = copy_of(source)
    assert copied.figures.copied == {"applied": 2, "exists": 1, "ended": 1, "no_session": 1}
    verdicts = story(target, LATER_MS)["verdicts"]
    assert [verdict for _, verdict in verdicts["ana"]] == ["applied", "exists", "applied", "ended"]
    assert story(target, LATER_MS) == story(source, LATER_MS)


@pytest.mark.parametrize("lag_ms", [600_001, -60_001])
def test_what_was_void_for_its_clock_takes_no_effect_in_the_copy(lag_ms: int) -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1", policy={"idle_ttl_ms": 40 * MINUTE_MS})
    source.tell(NOON_MS + 20 * MINUTE_MS, "touched", "ana", "s1", lag_ms=lag_ms)
    target, copied = copy_of(source)
    assert copied.figures.left_out == {"clock_skew": 1}
    assert len(events(target)) == 1
    # Had it been believed, the session would live until later than now.
    assert story(target, LATER_MS)["sessions"] == story(source, LATER_MS)["sessions"] == {}
    assert copied.differences == []


RUBBISH: list[tuple[str | None, bytes | None, str]] = [
    ("ana", b"", "malformed"), ("ana", b"\xff\xfe", "malformed"), ("", b"{}", "malformed"), ("\0", b"[", "malformed"),
    ("ana", b"[" * 3_000, "malformed"),
    ("ana", b'{"specversion": "1.0", "type": "com.example.thing", "time": 7}', "unknown_type"),
    ("ana", b'{"specversion": "1.0", "type": "lastseen.session.touched.v9"}', "unknown_type"),
]  # fmt: skip
UNFIT: list[tuple[str | None, bytes | None, str]] = [
    (None, b"{}", "no_key"), ("ana", None, "tombstone"), (None, None, "no_key"),
    ("ana", b"x" * (MAX_RECORD_BYTES + 1), "too_large"),
]  # fmt: skip


@pytest.mark.parametrize("mark", Mark)
def test_what_has_no_effect_in_the_source_is_not_copied_since_it_would_have_one_in_the_copy(mark: Mark) -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1")
    source.put(NOON_MS + 1, None, None, 0, mark)
    source.tell(NOON_MS + 2, "closed", "ana", "s1", reason="logout")
    (closed,) = source.read(0, 2, 1)
    source._records[0][2] = closed._replace(mark=mark)
    source.tell(NOON_MS + 3, "touched", "ana", "s1")
    target, copied = copy_of(source)
    assert copied.figures.left_out == {mark.name.lower(): 2}
    assert [event["type"].split(".")[2] for event in events(target)] == ["created", "touched"]
    assert copied.differences == []


@pytest.mark.parametrize(("key", "value", "verdict"), RUBBISH)
def test_rubbish_is_copied_as_it_is(key: str | None, value: bytes | None, verdict: str) -> None:
    source = Recording()
    source.put(NOON_MS, key, value)
    source.create(NOON_MS, "bob", "s1")
    target, copied = copy_of(source, partitions=2)
    assert [(each.key, each.value) for each in everything(target)].count((key, value)) == 1
    assert copied.figures.copied == {verdict: 1, "applied": 1}
    assert copied.differences == []


@pytest.mark.parametrize(("key", "value", "reason"), UNFIT)
def test_what_no_log_can_be_given_is_left_out_and_stops_nothing(
    key: str | None, value: bytes | None, reason: str
) -> None:
    source = Recording()
    source.put(NOON_MS, key, value)
    source.create(NOON_MS, "bob", "s1")
    _, copied = copy_of(source)
    assert copied.figures.left_out == {reason: 1}
    assert copied.figures.copied == {"applied": 1}
    assert copied.differences == []


@pytest.mark.parametrize("where", [0, 1])
def test_marks_of_an_import_are_not_copied_since_they_would_end_that_of_the_copy(where: int) -> None:
    source = Recording()
    for turn in range(2):
        if turn == where:
            source.tell(NOON_MS, "import_finished", "marks", "", kind="log")
            source.tell(NOON_MS, "opened", "marks", "", kind="log")
        source.create(NOON_MS, f"key{turn}", f"s{turn}")
    target, copied = copy_of(source)
    assert copied.figures.left_out == {"log_event": 2}
    assert len(events(target)) == 2
    assert copied.differences == []


def test_an_import_in_the_source_has_its_own_times_in_the_copy() -> None:
    source = Recording()
    old_ms = NOON_MS - 1_000 * MINUTE_MS
    source.tell(NOON_MS, "opened", "marks", "", kind="log")
    source.create(NOON_MS, "ana", "s1", lag_ms=NOON_MS - old_ms)
    source.tell(NOON_MS, "import_finished", "marks", "", kind="log")
    source.tell(NOON_MS + 5, "touched", "ana", "s1", lag_ms=3)
    target, copied = copy_of(source)
    assert [event["time"] for event in events(target)] == [iso_from_ms(old_ms), iso_from_ms(NOON_MS + 5)]
    assert copied.figures.retimed == 1
    session = story(target, LATER_MS)["sessions"]["ana"]
    assert (session["created_at_ms"], session["last_active_at_ms"]) == (old_ms, NOON_MS + 5)


# ── keys and ids in other company ──


def test_the_records_of_a_key_keep_their_order_and_those_of_a_partition_their_time() -> None:
    source = Recording(4)
    for turn in range(50):
        for number in range(6):
            name = "touched" if turn else "created"
            fields: dict[str, Any] = {} if turn else {"policy": {}}
            source.tell(NOON_MS + turn * 100 + number, name, f"key{number}", f"s{number}", **fields)
    target, copied = copy_of(source, partitions=3)
    for number in range(3):
        times = [json.loads(record.value or b"")["time"] for record in target.read(number, 0, 1_000)]
        assert times == sorted(times)
    for key in range(6):
        wanted = [event["id"] for event in events(source) if event["subject"] == f"key{key}"]
        assert [event["id"] for event in events(target) if event["subject"] == f"key{key}"] == wanted
    assert copied.differences == []


def test_a_record_in_a_partition_that_is_not_its_keys_comes_to_its_own() -> None:
    source = Recording(2)
    key = key_in(0, 2)
    source.create(NOON_MS, key, "s1", partition=1)
    source.tell(NOON_MS + 1, "touched", key, "s1", partition=1)
    target, copied = copy_of(source, partitions=2)
    assert [record.key for record in target.read(0, 0, 9)][1:-1] == [key, key]
    assert copied.figures.moved == 2
    # No read could find it under its key before.
    assert story(source, LATER_MS)["sessions"] == {}
    assert list(story(target, LATER_MS)["sessions"]) == [key]
    assert copied.differences == []


def test_two_sessions_under_one_key_in_two_partitions_cannot_both_be_copied_and_it_says_so() -> None:
    source = Recording(2)
    key = key_in(0, 2)
    source.create(NOON_MS, key, "s1", partition=0)
    source.create(NOON_MS + 1, key, "s2", partition=1)
    _, copied = copy_of(source)
    assert copied.figures.lost == {"exists": 1}
    assert ("session", key, "2 live", "1 live") in copied.differences
    assert copied.as_dict()["ok"] is False


def test_an_id_that_was_refused_beside_its_first_key_is_refused_apart_from_it_too() -> None:
    source = Recording()
    one, other = key_in(0, 2), key_in(1, 2)
    source.create(NOON_MS, one, "twice")
    source.create(NOON_MS + 1, other, "idle", policy={"idle_ttl_ms": MINUTE_MS})
    # It also finds a session due: that must end in the copy as well, although the record is not in it.
    source.create(NOON_MS + 2 * MINUTE_MS, other, "twice")
    target, copied = copy_of(source, partitions=2)
    assert copied.figures.left_out == {"would_apply": 1}
    assert copied.figures.stand_ins == 1
    assert copied.differences == []
    found, wanted = story(target, LATER_MS), story(source, LATER_MS)
    assert found["lives"] == wanted["lives"]
    assert found["sessions"] == wanted["sessions"]


def test_a_record_that_is_left_out_ends_nothing_that_is_not_due() -> None:
    source = Recording()
    one, other = key_in(0, 2), key_in(1, 2)
    source.create(NOON_MS, one, "twice")
    source.create(NOON_MS + 1, other, "lives", policy={"idle_ttl_ms": 120 * MINUTE_MS})
    source.create(NOON_MS + 2, other, "twice", replaces=long_id("lives"))
    target, copied = copy_of(source, partitions=2)
    assert copied.figures.left_out == {"would_apply": 1}
    assert copied.figures.stand_ins == 0
    assert copied.differences == []
    assert story(target, LATER_MS)["sessions"] == story(source, LATER_MS)["sessions"]


def test_an_expiry_from_before_1970_is_one() -> None:
    source, old_ms = Recording(), -(10**11)
    one, other = key_in(0, 2), key_in(1, 2)
    source.tell(old_ms, "opened", "marks", "", kind="log")
    source.create(NOON_MS, one, "twice", lag_ms=NOON_MS - old_ms)
    source.create(NOON_MS, other, "idle", lag_ms=NOON_MS - old_ms, policy={"idle_ttl_ms": 10})
    source.create(NOON_MS, other, "twice", lag_ms=NOON_MS - old_ms - 20)
    _, copied = copy_of(source, partitions=2)
    assert (copied.figures.stand_ins, copied.differences) == (1, [])


def test_an_id_that_was_used_in_two_partitions_cannot_be_used_twice_in_one_and_it_says_so() -> None:
    source = Recording(2)
    one, other = key_in(0, 2), key_in(1, 2)
    source.create(NOON_MS, one, "twice")
    source.create(NOON_MS + 1, other, "twice")
    _, copied = copy_of(source)
    assert copied.figures.lost == {"id_reused": 1}
    assert ("session", other, "1 live", "0 live") in copied.differences
