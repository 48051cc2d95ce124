"""`lastseen producers check`: each source with what is wrong with its records, and how to fix it; and what the doctor
says of those who write."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.program import app
from lastseen.doctor import producers as doctor_producers
from lastseen.doctor.findings import Finding, Severity
from lastseen.doctor.producers import newest, producer_findings, producers
from lastseen.doctor.record_faults import FIXES, Fault, judged
from lastseen.engine.clock import ManualClock, SystemClock, iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.genesis import SUBJECT, genesis
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log, Mark, Message, Record
from lastseen.engine.partitioner import partition_of

PARTITIONS = 3
SESSION = "s" * 22
TOUCHED = "lastseen.session.touched.v1"
MAKER = "/lastseen/log"
"""The source of the first record of each partition."""


def event(source: str, key: str, at_ms: int, kind: str = TOUCHED, **data: Any) -> bytes:
    return envelope(kind, uuid.uuid4().hex, source, key, iso_from_ms(at_ms), {"session_id": SESSION} | data)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["producers", "check", *arguments])


class Reader:
    """An open log as the doctor sees one (`findings.ReadOnlyLog`)."""

    def __init__(self, log: Log) -> None:
        self.identity, self.ends = log.identity, log.end_offsets()
        self.starts = [0] * len(self.ends)
        self.read = log.read


def written(log: Log, at_ms: int) -> dict[str, Fault | None]:
    """Write records of many sources; the fault that each source's records have."""
    home = partition_of("ana", PARTITIONS)
    sent: Sequence[tuple[str, bytes, Fault | None, int]] = [
        ("/sound", event("/sound", "ana", at_ms), None, home),
        ("unknown", b"rubbish", Fault.MALFORMED, home),
        ("/loose", event("/loose", "bob", at_ms), Fault.MALFORMED, home),
        ("/old", event("/old", "ana", at_ms - 660_000), Fault.CLOCK_SKEW, home),
        ("/fast", event("/fast", "ana", at_ms + 61_000), Fault.CLOCK_SKEW, home),
        ("/shop", event("/shop", "ana", at_ms, "com.example.order.v1"), Fault.UNKNOWN_TYPE, home),
        ("/astray", event("/astray", "ana", at_ms), Fault.WRONG_PARTITION, (home + 1) % PARTITIONS),
    ]
    log.append([Message(partition, "ana", value) for _, value, _, partition in sent])
    return {MAKER: None} | {source: fault for source, _, fault, _ in sent}


@pytest.mark.parametrize("url", ["memory://?partitions=3", "sqlite:///{}/log.db?partitions=3"])
def test_each_source_has_its_fault(tmp_path: Path, url: str) -> None:
    log = open_log(url.format(tmp_path), SystemClock())
    expected = written(log, SystemClock().now_ms())

    reports = producers(reader := Reader(log), newest(reader, 100))

    assert {each.source: [fault.fault for fault in each.faults] for each in reports} == {
        source: [] if fault is None else [fault] for source, fault in expected.items()
    }
    assert {each.source for each in reports[-2:]} == {MAKER, "/sound"}, "those with faults come first"
    log.close()


def test_the_command_says_what_is_wrong_and_how_to_repair_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    log = open_log(f"{url}?partitions={PARTITIONS}", SystemClock())
    expected = written(log, SystemClock().now_ms())
    log.close()

    result = run("--log", url, "-o", "json")

    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ok"], found["records"], found["faulty"]) == (False, 10, 6)
    for each in found["sources"]:
        assert [fault["fix"] for fault in each["faults"]] == [
            FIXES[fault] for fault in [expected[each["source"]]] if fault is not None
        ]
    by_source = {each["source"]: each["faults"] for each in found["sources"]}
    assert "its key is 'ana', and the event's subject 'bob'" in by_source["/loose"][0]["says"]
    assert "s behind the log's clock" in by_source["/old"][0]["says"]
    home = partition_of("ana", PARTITIONS)
    astray = (home + 1) % PARTITIONS
    assert by_source["/astray"][0]["says"] == f"its key belongs to partition {home}, and it is in {astray}"
    assert (by_source["/astray"][0]["partition"], by_source["/astray"][0]["offset"]) == (astray, 1)
    table = run("--log", url)
    assert table.exit_code == 1
    assert "murmur2_random" in table.stdout
    assert "6 of 10 records are void by themselves" in table.stderr
    rows = [json.loads(line) for line in run("--log", url, "-o", "jsonl").stdout.splitlines()]
    assert {(row["source"], row.get("fault")) for row in rows} == set(expected.items())


def test_options_are_checked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    lastseen.open_engine(url, background=False).shutdown()
    assert run("--log", url, "--since", "1h", "--records", "5").exit_code == 0
    assert run("--log", url, "--since", "yesterday").exit_code == 2
    assert run("--log", url, "--records", "0").exit_code == 2
    assert run("--log", f"sqlite:///{tmp_path}/none.db").exit_code == 4


def test_sound_records_are_no_finding(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    with lastseen.open_engine(url, background=False, partitions=2) as engine:
        for number in range(10):
            engine.open(f"key-{number}")

    result = run("--log", url)

    assert result.exit_code == 0, result.stdout
    assert "/lastseen" in result.stdout
    assert "12 records of 2 sources are as they must be" in result.stderr


def test_only_the_newest_are_read_by_number_or_time(tmp_path: Path) -> None:
    clock = ManualClock()
    log = open_log("memory://", clock)
    for number in range(100):
        log.append([Message(0, "ana", event(f"/service/{number}", "ana", clock.now_ms()))])
        clock.advance(1_000)
    reader = Reader(log)

    by_number = producers(reader, newest(reader, 7))
    by_time = producers(reader, newest(reader, 1_000, clock.now_ms() - 10_000))
    by_both = producers(reader, newest(reader, 3, clock.now_ms() - 10_000))

    assert {each.source for each in by_number} == {f"/service/{number}" for number in range(93, 100)}
    assert {each.source for each in by_time} == {f"/service/{number}" for number in range(90, 100)}
    assert {each.source for each in by_both} == {f"/service/{number}" for number in range(97, 100)}
    assert producers(reader, newest(reader, 1_000, clock.now_ms())) == []


def test_imported_history_has_times_of_its_own() -> None:
    clock = ManualClock()
    log = open_log("memory://", clock, genesis=False)
    at_ms = clock.now_ms()
    log.append([genesis(log.identity, 0, 1, at_ms, source="/import", event_id="1", imports=True)])
    log.append([Message(0, "ana", event("/history", "ana", at_ms - 30 * 86_400_000))])
    log.append([Message(0, "ana", event("/slow", "ana", at_ms - 3_600_000))])

    def faulty() -> dict[str, int]:
        reader = Reader(log)
        return {each.source: each.faulty for each in producers(reader, newest(reader, 100))}

    assert faulty() == {"/import": 0, "/history": 0, "/slow": 1}
    end = envelope("lastseen.log.import_finished.v1", "2", "/import", SUBJECT, iso_from_ms(at_ms), {})
    log.append([Message(0, SUBJECT, end), Message(0, "ana", event("/late", "ana", at_ms - 3_600_000))])
    assert faulty() == {"/import": 0, "/history": 0, "/slow": 0, "/late": 1}


@pytest.mark.parametrize(
    ("mark", "fault"),
    [
        (Mark.CONTROL, Fault.CONTROL), (Mark.TRANSACTIONAL, Fault.TRANSACTIONAL), (Mark.UNREADABLE, Fault.UNREADABLE),
    ],
)  # fmt: skip
def test_a_marked_record_keeps_its_source(mark: Mark, fault: Fault) -> None:
    value = None if mark is Mark.CONTROL else event("/sink", "ana", 0)
    seen = judged(Record(0, 5, 0, "ana", value, mark), 1)

    assert (seen.source, seen.fault) == ("unknown" if value is None else "/sink", fault)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("ana", None, "it has no value"),
        ("ana", b"x" * 200_000, "its value has 200000 bytes, and the limit is 131072"),
        ("ana", b"rubbish", "its value is no JSON"),
        ("ana", b'{"amount":7}', "its value is no CloudEvent in structured mode: it has no specversion 1.0"),
        ("ana", event("/a", "ana", 0, session_id="short"), "lastseen.session.touched.v1.session_id = 'short'"),
        ("ana", event("/a", "bob", 0), "its key is 'ana', and the event's subject 'bob': they must be the same"),
        (None, event("/a", "bob", 0), "it has no key, or one that is not UTF-8"),
        ("ana", event("/a", "ana", 0).replace(b"1970-01-01", b"1970-02-31"), "its time '1970-02-31T00:00:00.000Z' is"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_the_fault_of_a_malformed_record_is_reported(key: str | None, value: bytes | None, says: str) -> None:
    seen = judged(Record(0, 0, 0, key, value), 1)

    assert seen.fault is Fault.MALFORMED
    assert seen.says.startswith(says), seen.says


def test_sources_that_are_made_up_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_producers, "MAX_SOURCES", 5)
    log = open_log("memory://", clock := ManualClock())
    log.append([Message(0, "ana", event(f"/made-up/{number}", "ana", clock.now_ms())) for number in range(40)])
    reader = Reader(log)

    reports = producers(reader, newest(reader, 1_000))

    assert {each.source: each.records for each in reports} == {
        "other": 36, MAKER: 1, **{f"/made-up/{number}": 1 for number in range(4)},
    }  # fmt: skip


# ── the doctor ──


def found(log: Log, now_ms: int) -> dict[str, Finding]:
    return {each.check: each for each in producer_findings(Reader(log), now_ms)}


def flooded(clock: ManualClock, others: int = 20, pause_ms: int = 0) -> Log:
    """A log in which one source wrote 2,000 records and others a few."""
    log = open_log("memory://", clock)
    sources = ["/runaway"] * 2_000 + [f"/service/{number}" for number in range(others)]
    for source in sources:
        log.append([Message(0, "ana", event(source, "ana", clock.now_ms()))])
        clock.advance(pause_ms)
    return log


def test_the_doctor_names_the_source_with_most_faults() -> None:
    log = open_log("memory://", clock := ManualClock())
    values = [b"rubbish"] * 3 + [event("/shop", "ana", clock.now_ms(), "com.example.order.v1")] * 5
    values += [event("/sound", "ana", clock.now_ms())] * 7
    log.append([Message(0, "ana", value) for value in values])

    finding = found(log, clock.now_ms())["records"]

    assert finding.severity is Severity.WARNING
    assert finding.says.endswith("16 records, 8 are void by themselves: /shop: 5 unknown_type; unknown: 3 malformed")
    assert "producers check" in finding.next_step


def test_the_doctor_names_the_source_that_floods_a_partition() -> None:
    clock = ManualClock()
    finding = found(flooded(clock), clock.now_ms())["flood"]

    assert finding.severity is Severity.WARNING
    assert finding.says.startswith("/runaway wrote 98% of the newest 1,000 records of partition 0, at ")
    assert "quota" in finding.next_step


@pytest.mark.parametrize("case", ["slowly", "shared", "long ago"])
def test_many_records_are_no_flood_if_they_come(case: str) -> None:
    clock = ManualClock()
    log = flooded(clock, others=200 if case == "shared" else 20, pause_ms=1 if case == "slowly" else 0)
    if case == "long ago":
        clock.advance(600_000)

    assert found(log, clock.now_ms())["flood"].severity is Severity.OK
