"""Exports and imports: nothing is lost on the way, whatever kind of file, wherever it was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import lastseen
from lastseen.engine.errors import ExportError, InvalidSetting, LogMismatch, LogUnavailable
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Mark, Message, Record
from lastseen.engine.log.sqlite.reader import SqliteLogReader
from lastseen.exchange import history, json_lines, parquet, sessions
from lastseen.exchange.files import reader
from tests.contracts.log_contract import everything

T0 = 1_700_000_000_000
MINUTE_MS = 60_000
ENDINGS = ("jsonl", "parquet")
PARTITIONS = 3


@pytest.fixture
def clock() -> lastseen.ManualClock:
    return lastseen.ManualClock(T0)


@pytest.fixture
def url(tmp_path: Path, clock: lastseen.ManualClock) -> str:
    """A log with sessions of every kind, and with records that are none of ours."""
    url = f"sqlite:///{tmp_path / 'log.db'}?partitions={PARTITIONS}"
    with lastseen.open_engine(url, clock=clock, background=False, suspend_ttl="2h") as engine:
        for number in range(30):
            engine.open(f"key-{number}", attributes={"owner": f"owner-{number % 4}", "n": number, "é": None})
            clock.advance(1_000)
        for number in range(0, 30, 3):
            engine.touch(f"key-{number}", message={"text": f"hello {number}"})
            clock.advance(MINUTE_MS)
        for number in range(0, 30, 5):
            engine.suspend(f"key-{number}")
        clock.advance(MINUTE_MS)
        engine.resume("key-0")
        engine.touch("key-0", message="again")
        engine.take_lease("key-3", "job", 30 * MINUTE_MS)
        engine.close("key-6")
        clock.advance(10 * MINUTE_MS)
        engine.prune()
        log = engine._log
        log.append([Message(0, "key-1", b"\xff\xfe rubbish"), Message(1, "key-2", b'{"no": "event"}')])
    return url


@pytest.fixture(params=ENDINGS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"export.{request.param}"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts in a small export."""
    monkeypatch.setattr(parquet, "PART_ROWS", 10)


def live(url: str, clock: lastseen.ManualClock) -> dict[str, Any]:
    """What an engine shows of the live sessions of a log, but for places and versions."""
    with lastseen.open_engine(url, clock=clock, background=False, snapshot=":memory:") as engine:
        found = {}
        for view in engine.list(limit=1_000).sessions:
            shown = view.as_dict()
            del shown["position"], shown["version"]
            messages = [(each.at_ms, each.event_id, each.value) for each in engine.messages(view.key)]
            found[view.key] = shown | {"messages": messages, "suspended": view.suspended_at_ms}
        order = [view.key for view in engine.list(sort="lru", limit=1_000).sessions]
        return {"sessions": found, "lru": order}


def records_of(url: str, clock: lastseen.ManualClock) -> list[Any]:
    log = open_log(url, clock)
    try:
        return list(chain.from_iterable(everything(log)))
    finally:
        log.close()


# ── history ──


def test_history_has_every_record_with_its_verdict(url: str, file: Path, clock: lastseen.ManualClock) -> None:
    wanted = records_of(url, clock)
    exported = history.export_history(url, file)
    rows = list(reader(file).rows())
    assert exported.rows == len(rows) == len(wanted)
    assert [(r["partition"], r["offset"], r["timestamp_ms"], r["key"], r["value"]) for r in rows] == [
        record[:5] for record in wanted
    ]
    assert {row["verdict"] for row in rows} == {"applied", "malformed"}
    assert {row["type"] for row in rows if row["verdict"] == "malformed"} == {None}
    assert "lastseen.session.suspended.v1" in {row["type"] for row in rows}
    assert all(bool(row["session_id"]) == ("session" in row["type"]) for row in rows if row["type"])


@pytest.mark.parametrize("partitions", [1, PARTITIONS, 5])
def test_history_comes_back_as_it_was(
    url: str, file: Path, clock: lastseen.ManualClock, tmp_path: Path, partitions: int
) -> None:
    history.export_history(url, file)
    back = f"sqlite:///{tmp_path / 'back.db'}?partitions={partitions}"
    copied = history.import_history(file, back, clock=clock)
    assert (copied.differing, copied.found) == (0, 0)
    wanted, found = live(url, clock), live(back, clock)
    assert found["sessions"] == wanted["sessions"]
    again = history.import_history(file, back, clock=clock)
    assert (again.differing, again.found, again.written) == (0, copied.written, copied.written)


@pytest.mark.parametrize("mark", [Mark.CONTROL, Mark.TRANSACTIONAL])
def test_a_record_of_a_transaction_has_its_verdict_and_no_effect_where_it_is_imported(
    url: str, file: Path, clock: lastseen.ManualClock, monkeypatch: pytest.MonkeyPatch, mark: Mark
) -> None:
    everything = SqliteLogReader.read

    def marked(log: SqliteLogReader, partition: int, *place: int) -> list[Record]:
        return [record._replace(mark=mark) for record in everything(log, partition, *place)]

    with monkeypatch.context() as patch:
        patch.setattr(SqliteLogReader, "read", marked)
        exported = history.export_history(url, file)
    assert {row["verdict"] for row in reader(file).rows()} == {mark.name.lower()}
    imported = history.import_history(file, "memory://", clock=clock)
    assert imported.figures.left_out == {mark.name.lower(): exported.rows}
    assert imported.live == 0


def test_history_without_a_number_of_partitions_keeps_its_own(
    url: str, file: Path, clock: lastseen.ManualClock, tmp_path: Path
) -> None:
    history.export_history(url, file)
    assert history.import_history(file, f"sqlite:///{tmp_path / 'b.db'}", clock=clock).partitions == (3, 3)


class Cut(Exception):
    """The export was interrupted."""


@pytest.mark.parametrize("after", [0, 1, 9, 10, 11, 25])
@pytest.mark.usefixtures("small_parts")
def test_a_history_that_was_interrupted_continues(url: str, file: Path, tmp_path: Path, after: int) -> None:
    whole = tmp_path / f"whole{file.suffix}"
    history.export_history(url, whole)
    cut_off(url, file, after)
    with pytest.raises(ExportError, match=r"incomplete|not an export"):
        reader(file)
    exported = history.export_history(url, file)
    assert exported.found in (after, after // 10 * 10)
    assert list(reader(file).rows()) == list(reader(whole).rows())
    assert history.export_history(url, file).found == exported.rows, "started once more, it writes nothing"


def cut_off(url: str, file: Path, after: int) -> None:
    """Interrupt an export of history before it writes one more row than so many."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (json_lines.JsonLinesWriter, parquet.ParquetWriter):
            patch.setattr(kind, "put", interrupted(kind.put, after))
        with pytest.raises(Cut):
            history.export_history(url, file)


def interrupted(put: Any, after: int) -> Any:
    def put_or_cut(self: Any, row: Any) -> None:
        if self.rows == after:
            raise Cut
        put(self, row)

    return put_or_cut


@pytest.mark.parametrize("cut", [1, 20, 200, 3_000])
def test_a_line_that_was_torn_is_written_again(url: str, tmp_path: Path, cut: int) -> None:
    file = tmp_path / "export.jsonl"
    history.export_history(url, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    with pytest.raises(ExportError, match="incomplete"):
        reader(file)
    history.export_history(url, file)
    assert file.read_bytes() == whole


@pytest.mark.usefixtures("small_parts")
def test_what_came_later_is_not_in_a_history_that_goes_on(url: str, file: Path, clock: lastseen.ManualClock) -> None:
    cut_off(url, file, 15)
    count = len(records_of(url, clock))
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.open("later")
    exported = history.export_history(url, file)
    assert (exported.rows, exported.later) == (count, 1)


def test_another_logs_export_is_left_alone(url: str, file: Path, tmp_path: Path) -> None:
    history.export_history(url, file)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with lastseen.open_engine(other, background=False) as engine:
        engine.open("key")
    with pytest.raises(ExportError, match="is an export of history of log"):
        history.export_history(other, file)
    with pytest.raises(ExportError, match="import it with lastseen import history"):
        sessions.import_sessions(file, f"sqlite:///{tmp_path / 'new.db'}")


@pytest.mark.parametrize("name", ["export.tsv", "export", "export.jsonl.gz"])
def test_another_ending_is_refused(url: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSetting, match=r"\.jsonl, \.csv or \.parquet"):
        history.export_history(url, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_log_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable):
        history.export_history(f"sqlite:///{tmp_path / 'none.db'}", tmp_path / "export.jsonl")
    with pytest.raises(InvalidSetting, match="there is no file"):
        history.import_history(tmp_path / "none.jsonl", f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


DAMAGE = {
    "not JSON": lambda lines: [*lines[:3], "{rubbish", *lines[4:]],
    "a row less": lambda lines: [*lines[:3], *lines[4:]],
    "a row twice": lambda lines: [*lines[:3], lines[3], *lines[3:]],
    "another order": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "a column less": lambda lines: [*lines[:3], lines[3].replace('"verdict"', '"virdict"'), *lines[4:]],
    "no base64": lambda lines: [line.replace('{"base64":"//', '{"base64":"!!') for line in lines],
    "a time that is none": lambda lines: [line.replace('"timestamp_ms":1', '"timestamp_ms":"1"+1') for line in lines],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_history_is_not_imported(url: str, tmp_path: Path, clock: lastseen.ManualClock, damage: str) -> None:
    file, back = tmp_path / "export.jsonl", tmp_path / "back.db"
    history.export_history(url, file)
    file.write_text("\n".join(DAMAGE[damage](file.read_text().split("\n"))))
    with pytest.raises(ExportError):
        history.import_history(file, f"sqlite:///{back}", clock=clock)
    assert not back.exists(), "found out before anything was written"


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"[1]\n", b'{"lastseen_export":"history"}\n', b"\xff\n"])
def test_what_is_no_export_is_refused(url: str, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_bytes(content)
    with pytest.raises(ExportError):
        reader(file)
    if content:
        with pytest.raises(ExportError):
            history.export_history(url, file)
        assert file.read_bytes() == content, "another program's file"


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_is_missing_is_noticed(url: str, tmp_path: Path) -> None:
    file = tmp_path / "export.parquet"
    history.export_history(url, file)
    (file / "part-000001.parquet").unlink()
    with pytest.raises(ExportError, match="a part is missing"):
        reader(file)
    (file / "part-000002.parquet").write_bytes(b"PAR1 rubbish PAR1")
    with pytest.raises(ExportError, match="damaged"):
        reader(file)


# ── sessions ──


def test_sessions_come_back_with_times_attributes_and_messages(
    url: str, file: Path, clock: lastseen.ManualClock, tmp_path: Path
) -> None:
    wanted = live(url, clock)
    assert len(wanted["sessions"]) > 10
    assert {each["status"] for each in wanted["sessions"].values()} == {"active", "suspended"}
    exported = sessions_exported(url, file, clock)
    assert exported.rows == len(wanted["sessions"])
    back = f"sqlite:///{tmp_path / 'back.db'}?partitions=2"
    imported = sessions.import_sessions(file, back, clock=clock)
    assert (imported.sessions, imported.skipped, imported.found) == (exported.rows, [], 0)
    assert live(back, clock) == wanted
    again = sessions.import_sessions(file, back, clock=clock)
    assert again.as_dict()["records_appended"] == 0
    assert live(back, clock) == wanted
    clock.advance(20 * MINUTE_MS)
    assert live(back, clock) == live(url, clock), "they end when they would have ended"


def sessions_exported(url: str, file: Path, clock: lastseen.ManualClock) -> history.Exported:
    """Export by the test's clock, which the reading engine otherwise would not know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastseen.embedded.offline.SystemClock", lambda: clock)
        return sessions.export_sessions(url, file)


def test_the_imported_log_is_an_ordinary_one_afterwards(
    url: str, file: Path, clock: lastseen.ManualClock, tmp_path: Path
) -> None:
    sessions_exported(url, file, clock)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    imported = sessions.import_sessions(file, back, clock=clock)
    with lastseen.open_engine(back, clock=clock, background=False) as engine:
        engine.open("new")
        assert engine.touch("key-1") is not None
    again = sessions.import_sessions(file, back, clock=clock)
    assert (again.records, again.found) == (imported.records, imported.records + 2)
    with pytest.raises(LogMismatch, match="cannot take the import of these sessions"):
        sessions.import_sessions(file, url, clock=clock)


def test_rows_that_are_no_sessions_are_skipped_and_listed(
    url: str, clock: lastseen.ManualClock, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    sessions_exported(url, file, clock)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    spoilt = {
        0: {"session_id": "short"}, 1: {"created_at_ms": T0 + 10**12}, 2: {"policy": {"idle_ttl_ms": -1}},
        3: {"key": rows[4]["key"]}, 5: {"attributes": {"x": "x" * 20_000}}, 6: {"messages": [{"at_ms": "never"}]},
        7: {"status": 7}, 8: {"parked_ms": -1}, 9: {"session_id": rows[10]["session_id"]}, 11: {"status": "ended"},
        12: {"last_active_at_ms": rows[12]["created_at_ms"] - 1}, 13: {"parked_ms": 10**9},
        14: {"holders": {f"job-{number}": T0 + 10**9 for number in range(17)}},
    }  # fmt: skip
    for number, change in spoilt.items():
        rows[number] |= change
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    back = f"sqlite:///{tmp_path / 'back.db'}"
    imported = sessions.import_sessions(file, back, clock=clock)
    assert len(imported.skipped) == len(spoilt)
    assert all(why for _, why in imported.skipped)
    assert imported.sessions == len(rows) - len(spoilt) == len(live(back, clock)["sessions"])


def test_an_export_of_sessions_begins_anew_when_the_log_has_gone_on(
    url: str, file: Path, clock: lastseen.ManualClock
) -> None:
    first = sessions_exported(url, file, clock)
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.open("later")
    assert sessions_exported(url, file, clock).rows == first.rows + 1
    assert {row["key"] for row in reader(file).rows()} >= {"later"}


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.writing"))
