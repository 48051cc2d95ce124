"""A copy from beginning to end: into files, interrupted, in use, refused; and one that is broken is found out."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stories import MINUTE_MS, NOON_MS, Recording, events, everything, story

from lastseen import Engine, open_engine
from lastseen.bulk.resumable_writer import BATCH_RECORDS
from lastseen.copying import copy as log_copy
from lastseen.copying import copy_plan, retimed_event
from lastseen.copying.copy import Copied, copy_between, copy_log
from lastseen.copying.copy_plan import CopyPlan
from lastseen.embedded.offline import reading
from lastseen.embedded.settings import Settings
from lastseen.engine import errors
from lastseen.engine.clock import ManualClock, SystemClock, iso_from_ms
from lastseen.engine.log import open_log
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message
from lastseen.replay.recording import SLICE
from lastseen.replay.replay import replay

ROOT = Path(__file__).resolve().parents[2]


def busy_log(partitions: int = 2, keys: int = 30) -> Recording:
    """A log in which something of everything happens."""
    log = Recording(partitions)
    at_ms = NOON_MS
    for number in range(keys):
        key, session, at_ms = f"key{number}", f"s{number}", at_ms + 10
        policy = {"idle_ttl_ms": 30 * MINUTE_MS, "max_messages": 2}
        log.create(at_ms, key, session, policy=policy, attributes={"owner": f"u{number % 3}"}, lag_ms=4)
        for turn in range(3):
            log.tell(at_ms + turn, "touched", key, session, message=f"hello {turn}", lag_ms=4)
        if number % 5 == 1:
            log.tell(at_ms + 4, "suspended", key, session)
        if number % 5 == 2:
            log.tell(at_ms + 4, "held", key, session, holder="job", lease_ms=MINUTE_MS)
        if number % 5 == 3:
            log.tell(at_ms + 4, "closed", key, session, reason="logout")
        if number % 5 == 4:
            log.tell(at_ms + 31 * MINUTE_MS, "touched", key, session)
    return log


def copy_it(source: Recording, partitions: int = 3, at_ms: int = NOON_MS + 32 * MINUTE_MS, **how: Any) -> Copied:
    clock = ManualClock(at_ms)
    return copy_log(source, MemoryLog(clock, partitions), clock=clock, **how)


# ── into files ──


@pytest.mark.thorough
def test_the_slice_of_chat_is_the_same_in_other_partitions(tmp_path: Path) -> None:
    first, second, third = (f"sqlite:///{tmp_path / name}" for name in ("a.db", "b.db", "c.db"))
    replayed = replay(SLICE, first, finish=True).figures
    reported: list[tuple[int, int]] = []
    copied = copy_between(first, second + "?partitions=3", progress=lambda done, total: reported.append((done, total)))
    assert copied.differences == []
    assert (copied.figures.records, copied.live) == (replayed.records, replayed.live)
    assert reported == sorted(reported)
    assert reported[-1] == (2 * replayed.records, 2 * replayed.records)
    assert copy_between(second, third + "?partitions=1").differences == []
    logs = [open_log(url, SystemClock()) for url in (first, second, third)]
    wanted, *found = (
        sorted(each.value or b"" for each in everything(log) if b"lastseen.session" in each.value) for log in logs
    )
    assert found == [wanted, wanted]
    keys = sorted({record.key for record in everything(logs[0])} - {None})[::40]
    shown = [story(log, NOON_MS, keys) for log in logs]
    assert shown[1:] == [shown[0], shown[0]]
    assert shown[0]["statistics"]["ended"] == replayed.ended
    for log in logs:
        log.close()


def test_an_import_is_copied_byte_for_byte(tmp_path: Path) -> None:
    first, second = (f"sqlite:///{tmp_path / name}" for name in ("a.db", "b.db"))
    replay(chat(tmp_path, 3_000), first)
    assert copy_between(first, second, leave_open=True).figures.retimed == 0
    logs = [open_log(url, SystemClock()) for url in (first, second)]
    one, other = ([(each.offset, each.key, each.value) for each in everything(log)[1:]] for log in logs)
    assert len(one) > 3_000
    assert one == other
    for log in logs:
        log.close()
    # Both are open for import, so both are looked at as at the end of the chat.
    with reading(first) as source, reading(second) as copy:
        shown = [[session.as_dict() for session in engine.list().sessions] for engine in (source, copy)]
        assert shown[0] == shown[1] != []


def chat(folder: Path, lines: int) -> Path:
    """The beginning of the recorded chat."""
    path = folder / "chat.jsonl"
    with gzip.open(SLICE) as recording:
        path.write_bytes(b"".join(islice(recording, lines)))
    return path


def test_a_file_that_is_made_has_as_many_partitions_as_the_source(tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path / 'a.db'}"
    with open_engine(source, background=False, partitions=3) as engine:
        engine.create("ana", attributes={"owner": "u1"})
    assert copy_between(source, f"sqlite:///{tmp_path / 'b.db'}").partitions == (3, 3)
    assert copy_between(source, f"sqlite:///{tmp_path / 'c.db'}?partitions=2").partitions == (3, 2)
    assert copy_between(source, "memory://").partitions == (3, 3)


def test_what_the_source_takes_after_the_start_is_not_copied_and_is_counted() -> None:
    source = busy_log()
    first = copy_it(source)

    def meanwhile(done: int, total: int) -> None:
        source.create(NOON_MS, "late", "late")

    copied = copy_it(source, progress=meanwhile)
    assert copied.later > 0
    assert copied.figures == first.figures
    assert copied.differences == []


def test_progress_never_goes_back_nor_beyond_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copy, "PROGRESS_EVERY", 1)
    reported: list[tuple[int, int]] = []
    copied = copy_it(busy_log(), partitions=5, progress=lambda done, total: reported.append((done, total)))
    assert reported == sorted(reported)
    assert {total for _, total in reported} == {2 * copied.figures.records}
    assert reported[-1] == (2 * copied.figures.records,) * 2


# ── interrupted ──


def torn(source: Recording, at: int, clock: ManualClock, partitions: int = 3) -> MemoryLog:
    """A target that holds the first records of a copy, partition by partition as far as they go."""
    whole = MemoryLog(clock, partitions)
    copy_log(source, whole, clock=clock)
    target = MemoryLog(clock, partitions)
    target.append([Message(*each[:1], each[3] or "", each[4] or b"") for each in everything(whole)[:at]])
    return target


@pytest.mark.parametrize("at", [1, 2, 20, 70, 10_000])
def test_an_interrupted_copy_goes_on_where_it_was(at: int) -> None:
    source, clock = busy_log(), ManualClock(NOON_MS + 32 * MINUTE_MS)
    target = torn(source, at, clock)
    held = len(everything(target))
    source.create(NOON_MS + 40 * MINUTE_MS, "since then", "later")
    copied = copy_log(source, target, clock=clock)
    assert (copied.found, copied.written, copied.later) == (held, len(everything(target)), 1)
    assert copied.differences == []
    assert len({event["id"] for event in events(target)}) == len(events(target)) == copied.figures.copied.total()


def test_a_copy_that_was_left_open_can_be_closed_by_copying_again() -> None:
    source, clock = busy_log(), ManualClock(NOON_MS + 32 * MINUTE_MS)
    target = MemoryLog(clock, 2)
    opened = copy_log(source, target, clock=clock, leave_open=True)
    assert opened.as_dict()["open_for_import"] is True
    closed = copy_log(source, target, clock=clock)
    assert (closed.written, closed.written - closed.found) == (opened.written + 2, 2)
    assert closed.differences == []


# ── in use ──


@pytest.fixture
def in_use(tmp_path: Path) -> Iterator[tuple[Engine, ManualClock]]:
    """An engine on a copy that was made five minutes after the last event; its log's clock is turned by the test."""
    source = Recording()
    limits = {"policy": {"idle_ttl_ms": 30 * MINUTE_MS}}
    source.create(NOON_MS, "ana", "s1", lag_ms=900, **limits)
    source.create(NOON_MS + MINUTE_MS, "bob", "s2", lag_ms=900, **limits)
    clock = ManualClock(NOON_MS + 6 * MINUTE_MS)
    target = open_log(f"sqlite:///{tmp_path / 'copy.db'}", clock, partitions=2, genesis=False)
    assert copy_log(source, target, clock=clock).differences == []
    with Engine(target, clock, Settings.of(background=False)) as engine:
        yield engine, clock


def test_sessions_of_a_copy_expire_when_they_would_have(in_use: tuple[Engine, ManualClock]) -> None:
    engine, clock = in_use
    clock.set(NOON_MS + 30 * MINUTE_MS - 1)
    assert {session.key for session in engine.list().sessions} == {"ana", "bob"}
    assert engine.prune().due == []
    clock.advance(1)
    assert [(due.key, due.reason, due.deadline_ms) for due in engine.prune().due] == [
        ("ana", "idle", NOON_MS + 30 * MINUTE_MS)
    ]  # fmt: skip
    assert engine.get("ana") is None
    assert engine.get("bob") is not None
    assert engine.session_spans("ana")[0].ended_at_ms == NOON_MS + 30 * MINUTE_MS


def test_a_copy_is_a_log_like_any_other(in_use: tuple[Engine, ManualClock]) -> None:
    engine, clock = in_use
    clock.set(NOON_MS + 29 * MINUTE_MS)
    assert engine.touch("ana").deadline_ms == NOON_MS + 59 * MINUTE_MS
    engine.create("eve")
    clock.set(NOON_MS + 58 * MINUTE_MS)
    assert {session.key for session in engine.list().sessions} == {"ana", "eve"}
    assert engine.statistics()["void"] == {}


def test_no_producer_can_forge_time_once_the_copy_is_made(in_use: tuple[Engine, ManualClock]) -> None:
    engine, clock = in_use
    forged = Recording(2)
    forged.tell(NOON_MS + 2 * MINUTE_MS, "touched", "bob", engine.get("bob").session_id)  # type: ignore[union-attr]
    clock.set(NOON_MS + 20 * MINUTE_MS)
    (record,) = everything(forged)
    engine._log.append([Message(record.partition, "bob", record.value or b"")])
    engine.refresh()
    assert engine.statistics()["void"] == {"clock_skew": 1}


# ── refused ──


def used(clock: ManualClock) -> MemoryLog:
    log = MemoryLog(clock, 2, genesis=True)
    with Engine(log, clock, Settings.of(background=False)) as engine:
        engine.create("ana")
        records = everything(log)
    again = MemoryLog(clock, 2)
    again.append([Message(each.partition, each.key or "", each.value or b"") for each in records])
    return again


def only_in_partition_1(clock: ManualClock) -> MemoryLog:
    log = MemoryLog(clock, 2)
    log.append([Message(1, "ana", b"{}")])
    return log


def copy_of_another(clock: ManualClock) -> MemoryLog:
    log = MemoryLog(clock, 2)
    copy_log(busy_log(), log, clock=clock)
    return log


REFUSED: dict[str, Callable[[ManualClock], MemoryLog]] = {
    "is not a copy": used, "and is not a copy": only_in_partition_1, "copy of another log": copy_of_another,
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_a_target_that_holds_anything_else_is_refused_and_left_alone(says: str) -> None:
    clock = ManualClock(NOON_MS + 32 * MINUTE_MS)
    target = REFUSED[says](clock)
    before = everything(target)
    with pytest.raises(errors.LogMismatch, match=f"{says}.*or a new one"):
        copy_log(busy_log(), target, clock=clock)
    assert everything(target) == before


def test_a_copy_that_has_been_used_is_refused() -> None:
    source, clock = busy_log(), ManualClock(NOON_MS + 32 * MINUTE_MS)
    target = MemoryLog(clock, 2)
    copy_log(source, target, clock=clock)
    target.append([Message(1, "ana", b"{}")])
    before = everything(target)
    with pytest.raises(errors.LogMismatch, match="partition 1 continues after its last record"):
        copy_log(source, target, clock=clock)
    assert everything(target) == before


def test_an_interrupted_copy_that_another_process_wrote_to_is_refused() -> None:
    source, clock = busy_log(), ManualClock(NOON_MS + 32 * MINUTE_MS)
    target = torn(source, 20, clock)
    target.append([Message(0, "ana", b"{}")])
    with pytest.raises(errors.LogMismatch, match="its record at offset 20 of partition 0 differs"):
        copy_log(source, target, clock=clock)


class Crowded(MemoryLog):
    """A log to which another process writes at the same time."""

    def append(self, messages):  # type: ignore[no-untyped-def]
        """Append the messages, after another process's."""
        super().append([Message(0, "eve", b"{}")] if len(messages) > 1 else [])
        return super().append(messages)


def test_a_copy_stops_when_another_process_writes_to_the_target() -> None:
    clock = ManualClock(NOON_MS + 32 * MINUTE_MS)
    with pytest.raises(errors.LogMismatch, match="another process has written to it since"):
        copy_log(busy_log(), Crowded(clock, 2), clock=clock)


def test_a_log_that_has_lost_records_since_is_refused() -> None:
    source, clock = busy_log(), ManualClock(NOON_MS + 32 * MINUTE_MS)
    target = torn(source, 20, clock)
    del source._records[0][-1]
    with pytest.raises(errors.LogMismatch, match="more of this log than the log holds itself"):
        copy_log(source, target, clock=clock)


def test_a_source_in_which_a_record_is_missing_is_refused() -> None:
    source = busy_log()
    del source._records[1][3]
    with pytest.raises(errors.LogMismatch, match="partition 1: the record at offset 3 is missing"):
        copy_it(source)


def test_a_source_that_is_ahead_of_the_clock_is_refused() -> None:
    source = Recording()
    source.create(NOON_MS, "ana", "s1")
    copy_it(source, at_ms=NOON_MS - 60_000)
    with pytest.raises(errors.ClockSkew, match=f"accepted it at {iso_from_ms(NOON_MS)}, which is in the future"):
        copy_it(source, at_ms=NOON_MS - 60_001)


def test_a_log_is_not_copied_into_itself_nor_made_by_being_copied(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with pytest.raises(errors.LogUnavailable, match="there is no log"):
        copy_between(url, "memory://")
    assert list(tmp_path.iterdir()) == []
    with open_engine(url, background=False) as engine:
        engine.create("ana")
    with pytest.raises(errors.InvalidSetting, match="the same log"):
        copy_between(url, f"sqlite:///{tmp_path}/./a.db")


# ── broken ──

Patch = Callable[[pytest.MonkeyPatch], None]


def broken_time(patch: pytest.MonkeyPatch) -> None:
    """The producer's time is left in place."""
    patch.setattr(copy_plan, "with_log_time", lambda event, value, at_ms: (value, event, False))


def altered(change: Callable[[Any], None], name: str) -> Patch:
    """The data of one event are not those of the source."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        real = CopyPlan._take

        def take(self: CopyPlan, outcome: Any) -> Message | None:
            message = real(self, outcome)
            if message is None or b'"key5"' not in message.value or name.encode() not in message.value:
                return message
            event = msgspec.json.decode(message.value)
            change(event)
            return message._replace(value=msgspec.json.encode(event))

        patch.setattr(CopyPlan, "_take", take)

    return apply


def dropped(name: str, key: str) -> Patch:
    """One kind of event under one key is not copied."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        real = CopyPlan._take

        def take(self: CopyPlan, outcome: Any) -> Message | None:
            message = real(self, outcome)
            is_it = (
                message is not None and f".{name}.".encode() in message.value and f'"{key}"'.encode() in message.value
            )
            return None if is_it else message

        patch.setattr(CopyPlan, "_take", take)

    return apply


def swallowing(patch: pytest.MonkeyPatch) -> None:
    """What the target holds is not what it was given."""
    real = MemoryLog.append

    def append(self: MemoryLog, messages: Any) -> Any:
        positions = real(self, messages)
        for number, offset in positions:
            record = self._records[number][offset]
            if b'"key5"' in (record.value or b""):
                self._records[number][offset] = record._replace(value=(record.value or b"").replace(b"hello", b"HELLO"))
        return positions

    patch.setattr(MemoryLog, "append", append)


BROKEN: dict[str, tuple[Patch, set[str]]] = {
    "times": (broken_time, {"session", "ending", "record"}),
    "an attribute": (altered(lambda e: e["data"]["attributes"].update(mood=1), "created"), {"session"}),
    "an owner": (altered(lambda e: e["data"]["attributes"].update(owner="eve"), "created"), {"session"}),
    "a limit": (altered(lambda e: e["data"]["policy"].update(idle_ttl_ms=10**7), "created"), {"session"}),
    "a message": (altered(lambda e: e["data"].update(message="hullo"), "hello 2"), {"session"}),
    "an id of a message": (altered(lambda e: e.update(id="other"), "hello 2"), {"session"}),
    "a session id": (altered(lambda e: e["data"].update(session_id="x" * 22), "created"), {"session", "statistic"}),
    "a touch": (dropped("touched", "key5"), {"session", "statistic"}),
    "a suspension": (dropped("suspended", "key6"), {"session", "statistic"}),
    "a lease": (dropped("held", "key7"), {"session", "statistic"}),
    "an ending": (dropped("closed", "key8"), {"session", "ending", "statistic"}),
    "the messages of the dead": (dropped("touched", "key8"), {"ending", "statistic"}),
    "bytes in the target": (swallowing, {"session", "record"}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_copy_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, whats = BROKEN[name]
    source = busy_log()
    assert copy_it(source).differing == 0
    apply(monkeypatch)
    copied = copy_it(source)
    assert {each.what for each in copied.differences} >= whats
    assert copied.as_dict()["ok"] is False


def test_differences_name_the_key_and_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped("held", "key7")(monkeypatch)
    copied = copy_it(busy_log())
    by_name = {each.name: each for each in copied.differences}
    assert set(by_name) == {"applied", "key7"}
    assert set(by_name["key7"].source) == {"version", "leases"}
    assert by_name["key7"].copy["leases"] is None


def test_only_the_first_differences_are_named_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_time(monkeypatch)
    copied = copy_it(busy_log(keys=60))
    named = Counter(each.what for each in copied.differences)
    assert named["session"] == named.most_common(1)[0][1] == log_copy.MOST_NAMED
    assert copied.differing > 40


def test_a_batch_ends_before_it_is_too_large() -> None:
    sizes: list[int] = []

    class Watched(MemoryLog):
        def append(self, messages):  # type: ignore[no-untyped-def]
            sizes.append(len(messages))
            return super().append(messages)

    clock = ManualClock(NOON_MS + 99 * MINUTE_MS)
    source = Recording()
    for number in range(300):
        source.create(NOON_MS, f"key{number}", f"s{number}", attributes={"a": "x" * 16_000})
    for number in range(2_500):
        source.tell(NOON_MS, "touched", f"key{number % 300}", f"s{number % 300}")
    source.tell(NOON_MS, "touched", "key0", "s0", message="x" * 60_000)
    copied = copy_log(source, Watched(clock), clock=clock)
    assert copied.differences == []
    assert max(sizes) == BATCH_RECORDS
    assert sizes[0] == 1
    assert sum(sizes) == copied.written
    # The large ones fill a batch by their bytes: there are too few of them to do so by their number.
    assert sizes[1] < 300


def test_the_extension_attribute_is_named_as_cloudevents_asks() -> None:
    assert retimed_event.SENT_TIME.isascii()
    assert retimed_event.SENT_TIME.isalnum()
    assert retimed_event.SENT_TIME.islower()
    assert len(retimed_event.SENT_TIME) <= 20
