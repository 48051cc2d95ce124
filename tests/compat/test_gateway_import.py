"""Moving in: what an old store's sessions.json becomes."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gateway_stage import DAY, HOUR, MIN, T0, source
from hypothesis import given, settings
from hypothesis import strategies as st

import lastseen
from lastseen.compat.gateway import (
    ExpiryWatcher,
    GatewayConfig,
    Imported,
    SessionEntry,
    SessionResetPolicy,
    SessionStore,
    import_sessions,
    importing,
    moving_in,
)
from lastseen.engine.errors import InvalidEvent, InvalidSetting, LogMismatch, LogUnavailable
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Message, Position
from lastseen.engine.session import Status
from tests.contracts.log_contract import everything
from tests.patience import PATIENCE_S

KEYS = [f"agent:main:telegram:dm:{number}" for number in range(6)]


def old(number: int, updated_ms: int, **other: Any) -> dict[str, Any]:
    """An entry as the old store wrote it, in local time: here UTC."""
    updated = datetime.fromtimestamp(updated_ms / 1000, UTC).replace(tzinfo=None)
    created = datetime.fromtimestamp((T0 - 200 * DAY) / 1000, UTC).replace(tzinfo=None)
    return {
        "session_key": KEYS[number], "session_id": f"20230501_120000_{number:08x}", "created_at": created.isoformat(),
        "updated_at": updated.isoformat(), "display_name": None, "platform": "telegram", "chat_type": "dm",
        "input_tokens": 0, "total_tokens": 0, "last_prompt_tokens": number, "estimated_cost_usd": 0.0,
        "cost_status": "unknown", "expiry_finalized": False, "suspended": False, "resume_pending": False,
        "resume_reason": None, "last_resume_marked_at": None, "is_fresh_reset": False,
        "origin": source(str(number)).to_dict(), **other,
    }  # fmt: skip


def store_file(folder: Path, entries: dict[str, Any]) -> Path:
    """A sessions.json."""
    path = folder / "sessions.json"
    path.write_text(json.dumps(entries, indent=2), "utf-8")
    return path


STORE = {
    KEYS[0]: old(0, T0 - 100 * DAY),
    KEYS[1]: old(1, T0 - DAY, suspended=True, display_name="Ana"),
    KEYS[2]: old(2, T0 - HOUR, resume_pending=True, resume_reason="restart_timeout"),
    KEYS[3]: old(3, T0 - MIN),
}


@pytest.fixture
def clock() -> lastseen.ManualClock:
    return lastseen.ManualClock(T0)


def run(path: Path, clock: lastseen.ManualClock, name: str = "new.db", **options: Any) -> Imported:
    """Import into a log beside the file."""
    return import_sessions(path, f"sqlite:///{path.parent / name}", timezone="UTC", clock=clock, **options)


def rows(folder: Path, name: str = "new.db") -> list[tuple[int, str | None, bytes | None]]:
    """Every record of a log."""
    log = open_log(f"sqlite:///{folder / name}", lastseen.ManualClock(T0), genesis=False)
    try:
        return [(number, *record[3:5]) for number, records in enumerate(everything(log)) for record in records]
    finally:
        log.close()


def test_sessions_come_over_with_their_own_times(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    path = store_file(tmp_path, STORE)
    imported = run(path, clock)
    assert (imported.entries, imported.imported, imported.skipped, imported.appended) == (4, 4, [], 4 + 4 + 1 + 2)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with SessionStore(tmp_path, GatewayConfig(), url=url, clock=clock) as store:
        entries = {entry.session_key: entry for entry in store.list_sessions()}
        assert set(entries) == set(STORE)
        for key, before in STORE.items():
            expected = SessionEntry.from_dict(before, UTC)
            assert entries[key] == expected
        session = store.engine.get(KEYS[1])
        assert session is not None
        assert session.status is Status.SUSPENDED
        assert session.deadline_ms == T0 - DAY + 365 * DAY
        assert session.owner == "telegram:user-1"
        assert store.has_any_sessions()
        assert ExpiryWatcher(store).tick() == 1  # the one that was not used for 100 days
        again = store.get_or_create_session(source("3"))
        assert again.session_id == STORE[KEYS[3]]["session_id"]
        assert again.updated_at == datetime.fromtimestamp(T0 / 1000, UTC)


BAD = {
    "no object": 7,
    "no time": {name: value for name, value in old(4, T0).items() if name != "updated_at"},
    "null time": old(4, T0, created_at=None),
    "another key": old(4, T0),
    KEYS[4]: old(4, T0 + 2 * MIN),
    KEYS[5]: old(5, T0, platform="telepathy"),
    **{
        f"bad {number}": {**old(4, T0), "session_key": f"bad {number}", **fault}
        for number, fault in enumerate([
            {"origin": {"platform": "telepathy", "chat_id": "1"}}, {"origin": {"platform": "telegram"}},
            {"origin": "telegram"}, {"updated_at": "yesterday"}, {"updated_at": 5}, {"session_id": "../../etc"},
            {"session_id": 5}, {"created_at": "9999-01-01T00:00:00"}, {"created_at": "0001-01-01T00:00:00+14:00"},
        ])
    },
    "a\nb": {**old(4, T0), "session_key": "a\nb"},
    "": {**old(4, T0), "session_key": ""},
}  # fmt: skip


def test_bad_entries_and_unknown_platforms_are_reported_and_skipped(
    tmp_path: Path, clock: lastseen.ManualClock
) -> None:
    imported = run(store_file(tmp_path, {**BAD, **STORE}), clock)
    assert imported.imported == len(STORE)
    reported = {each.key: each.why for each in imported.skipped}
    assert list(reported) == list(BAD)
    assert all(reported.values())
    assert "unknown platform 'telepathy'" in reported[KEYS[5]]
    assert "future" in reported[KEYS[4]]
    assert "its session_key differs" in reported["another key"]
    assert "no updated_at" in reported["no time"]
    only_good = tmp_path / "good"
    only_good.mkdir()
    run(store_file(only_good, STORE), clock)
    # Not a byte of what was skipped is there, but for what the marks say of the file.
    assert [row[1:] for row in rows(tmp_path)[1:-1]] == [row[1:] for row in rows(only_good)[1:-1]]


CORRECTED: dict[str, tuple[dict[str, Any], Any]] = {
    "total_tokens": ({"total_tokens": "5"}, 0),
    "last_prompt_tokens": ({"last_prompt_tokens": 2**70}, 0),
    "input_tokens": ({"input_tokens": True}, 0),
    "estimated_cost_usd": ({"estimated_cost_usd": float("nan")}, 0.0),
    "display_name": ({"display_name": 5}, None),
    "cost_status": ({"cost_status": "x" * 20_000}, "unknown"),
    "resume_reason": ({"resume_reason": "\ud83d"}, None),
    "chat_type": ({"chat_type": ["dm"]}, "dm"),
    "suspended": ({"suspended": "no"}, True),  # as the old store had it
    "resume_pending": ({"resume_pending": 1}, True),
    "is_fresh_reset": ({"is_fresh_reset": ""}, False),
    "last_resume_marked_at": ({"last_resume_marked_at": "yesterday"}, None),
}


def test_a_malformed_optional_field_costs_the_field_and_not_the_session(
    tmp_path: Path, clock: lastseen.ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {name: f"agent:main:telegram:dm:{name}" for name in CORRECTED}
    entries = {keys[name]: {**old(0, T0 - HOUR), "session_key": keys[name], **CORRECTED[name][0]} for name in CORRECTED}
    entries[KEYS[1]] = old(1, T0 - HOUR, last_resume_marked_at=5, total_tokens=[])
    path = store_file(tmp_path, entries)
    imported = run(path, clock)
    assert (imported.imported, imported.skipped) == (len(entries), [])
    expected = [(keys[name], name) for name in CORRECTED]
    expected += [(KEYS[1], "total_tokens"), (KEYS[1], "last_resume_marked_at")]
    assert [each[:2] for each in imported.corrections] == expected
    assert imported.as_dict()["corrections"][0] == {
        "key": keys["total_tokens"], "field": "total_tokens", "why": "it is '5', which is dropped"
    }  # fmt: skip
    with SessionStore(
        tmp_path, GatewayConfig(), url=f"sqlite:///{tmp_path / 'new.db'}", clock=clock, sessions_json=False
    ) as store:
        for name, (_, value) in CORRECTED.items():
            assert getattr(store._entries[keys[name]], name) == value
        assert store._entries[keys["suspended"]].total_tokens == 0
    with SessionStore(tmp_path, GatewayConfig(), clock=lastseen.ManualClock(T0 + DAY), sessions_json=False) as store:
        assert len(store.list_sessions()) == len(entries)
    assert "was imported without its total_tokens: it is '5', which is dropped" in caplog.text


def test_what_is_no_store_is_refused_and_nothing_is_written(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    path = tmp_path / "sessions.json"
    for content, error in (
        (None, InvalidSetting),
        ("{", InvalidEvent),
        ("[1]", InvalidEvent),
        ("[" * 10**5, InvalidEvent),
    ):
        if content is not None:
            path.write_text(content, "utf-8")
        with pytest.raises(error):
            run(path, clock)
    assert not (tmp_path / "new.db").exists()


def test_repeatable_without_duplicates(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    path = store_file(tmp_path, {**STORE, KEYS[4]: old(4, T0 + HOUR)})
    first = run(path, clock)
    before = rows(tmp_path)
    clock.advance(DAY)  # what was in the future is not any more, and the import is still the same
    second = run(path, clock)
    assert (first.appended, second.appended, second.imported, second.later) == (first.records, 0, 4, 0)
    assert second.skipped == first.skipped
    assert rows(tmp_path) == before
    other = tmp_path / "other"
    other.mkdir()
    clock.set(T0)
    run(store_file(other, json.loads(path.read_text("utf-8"))), clock)
    assert rows(other) == before  # ids are made of the entries, and of nothing else


def test_repeated_after_the_sessions_have_lived_on_it_changes_nothing(
    tmp_path: Path, clock: lastseen.ManualClock
) -> None:
    path = store_file(tmp_path, STORE)
    run(path, clock)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with SessionStore(tmp_path, GatewayConfig(), url=url, clock=clock) as store:
        store.reset_session(KEYS[3])
        store.engine.close(KEYS[2])
        before = store.list_sessions()
    again = run(tmp_path / "sessions.json.old", clock)  # the store writes its own file in its place
    assert (again.appended, again.later) == (0, 2)
    with SessionStore(tmp_path, GatewayConfig(), url=url, clock=clock) as store:
        assert store.list_sessions() == before


def test_a_log_of_anything_else_is_refused(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    path = store_file(tmp_path, STORE)
    run(path, clock)
    with pytest.raises(LogMismatch, match="timezone UTC"):
        import_sessions(path, f"sqlite:///{tmp_path / 'new.db'}", clock=clock)
    before = rows(tmp_path)
    store_file(tmp_path, {KEYS[3]: STORE[KEYS[3]]})
    with pytest.raises(LogMismatch, match="sha256"):
        run(path, clock)
    assert rows(tmp_path) == before
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'used.db'}", background=False, clock=clock) as engine:
        engine.create("another's")
    with pytest.raises(LogMismatch, match="none of an import"):
        run(path, clock, "used.db")
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'chat.db'}", background=False, clock=clock) as engine:
        first = json.loads(before[0][2] or b"")
        engine._log.append([Message(0, "lastseen:log", json.dumps({**first, "source": "/replay"}).encode())])
    with pytest.raises(LogMismatch, match="none of an import"):
        run(path, clock, "chat.db")


class Interrupted:
    """A log that fails after so many appends, as a topic does whose broker is gone."""

    def __init__(self, log: Any, appends: int) -> None:
        self.log, self.left = log, appends

    def append(self, messages: Any) -> list[Position]:
        if not self.left:
            raise LogUnavailable("the broker is gone")
        self.left -= 1
        found: list[Position] = self.log.append(messages)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


def test_a_log_that_holds_an_import_with_other_options_is_refused(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    path = store_file(tmp_path, STORE)
    run(path, clock)
    before = rows(tmp_path)
    with pytest.raises(LogMismatch, match="record at offset 1 of partition 0 is another"):
        run(path, clock, policy=lastseen.policy(suspend_ttl="1d"))
    assert rows(tmp_path) == before


def test_a_log_of_this_machine_gets_all_of_it_in_one_append(
    tmp_path: Path, clock: lastseen.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_RECORDS", 3)
    monkeypatch.setattr(importing, "open_log", lambda *given, **how: Interrupted(open_log(*given, **how), 1))
    assert run(store_file(tmp_path, STORE), clock).appended == 11


def test_the_order_of_use_is_that_of_the_times_and_not_of_the_file(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    entries = {KEYS[number]: old(number, T0 - (5 - number) * 40 * DAY) for number in (4, 0, 3, 1, 2)}
    run(store_file(tmp_path, entries), clock)
    with SessionStore(tmp_path, GatewayConfig(), url=f"sqlite:///{tmp_path / 'new.db'}", clock=clock) as store:
        assert [session.key for _, session in store.engine._views.in_lru_order()] == KEYS[:5]
        assert store.prune_old_entries(90) == 3


def test_an_entry_that_was_used_before_it_began_began_when_it_was_used(
    tmp_path: Path, clock: lastseen.ManualClock
) -> None:
    run(store_file(tmp_path, {KEYS[0]: old(0, T0 - 300 * DAY)}), clock)
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'new.db'}", background=False, clock=clock) as engine:
        session = engine.get(KEYS[0])
        assert session is not None
        assert (session.created_at_ms, session.last_active_at_ms) == (T0 - 300 * DAY, T0 - 300 * DAY)


def test_an_import_that_was_cut_off_goes_on(
    tmp_path: Path, clock: lastseen.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store_file(tmp_path, {key: old(int(key[-1]), T0 - HOUR) | {"session_key": key} for key in KEYS})
    whole = run(path, clock, "whole.db?partitions=3")
    # A log that machines share takes it in batches.
    monkeypatch.setattr(importing, "SharedLog", object)
    monkeypatch.setattr(importing, "BATCH_RECORDS", 3)
    monkeypatch.setattr(importing, "open_log", lambda *given, **how: Interrupted(open_log(*given, **how), 2))
    runs = 0
    while True:
        runs += 1
        try:
            last = run(path, clock, "parts.db?partitions=3")
            break
        except LogUnavailable:
            url = f"sqlite:///{tmp_path / 'parts.db'}"
            with pytest.raises(LogMismatch, match="finish it first"):
                SessionStore(tmp_path, GatewayConfig(), url=url, clock=clock)
            with lastseen.open_engine(url, clock=clock, background=False) as engine:
                with pytest.raises(LogMismatch, match="finish it first"):
                    SessionStore(tmp_path, GatewayConfig(), engine=engine, clock=clock)
                assert engine.count() >= 0  # it was lent, and is left open
    assert runs > 2
    assert last.records == whole.records > last.appended
    assert rows(tmp_path, "parts.db") == rows(tmp_path, "whole.db")


def test_an_import_that_meets_another_writer_is_refused(
    tmp_path: Path, clock: lastseen.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store_file(tmp_path, STORE)
    run(path, clock, "theirs.db")

    class Late(Interrupted):
        def append(self, messages: Any) -> list[Position]:
            self.log.append(messages[:1])
            return super().append(messages)

    monkeypatch.setattr(importing, "open_log", lambda *given, **how: Late(open_log(*given, **how), 9))
    with pytest.raises(LogMismatch, match="another process"):
        run(path, clock)


def test_nothing_is_half_imported_when_the_process_is_killed(tmp_path: Path) -> None:
    entries = {key: {**old(0, T0), "session_key": key} for key in (f"agent:main:telegram:dm:{n}" for n in range(3_000))}
    path = store_file(tmp_path, entries)
    script = (
        "import os, sys; from pathlib import Path; from lastseen.compat.gateway import importing as g\n"
        "def killed(done, total):\n"
        "    if done == total:\n"
        "        import lastseen.engine.log.sqlite.log as s\n"
        "        s.SqliteLog._finish = lambda *_: os._exit(9)\n"
        f"g.import_sessions(Path({str(path)!r}), {f'sqlite:///{tmp_path}/new.db'!r}, timezone='UTC', progress=killed)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2], timeout=PATIENCE_S
    )
    assert done.returncode == 9  # at the commit, with all of it written
    assert rows(tmp_path) == []
    assert run(path, lastseen.ManualClock(T0)).imported == 3_000


def test_the_store_brings_an_old_one_over_when_it_is_first_opened(
    tmp_path: Path, clock: lastseen.ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {  # wherever this runs
        key: entry | {name: f"{entry[name]}+00:00" for name in ("created_at", "updated_at")}
        for key, entry in STORE.items()
    }
    store_file(tmp_path, {**entries, "agent:main:telepathy:dm:1": {}})
    (tmp_path / "20230501_120000_00000003.jsonl").write_text('{"role": "user", "content": "hi"}\n', "utf-8")
    place = f"sqlite:///{tmp_path / 'sessions.lastseen.db'}"
    open_log(place, clock, genesis=False).close()  # an earlier start came no further
    config = GatewayConfig(default_reset_policy=SessionResetPolicy("none"), session_store_suspended_max_age_days=7)
    with SessionStore(tmp_path, config, clock=clock) as store:
        entry = store.get_or_create_session(source("3"))
        assert entry.session_id == "20230501_120000_00000003"
        assert store.load_transcript(entry.session_id) == [{"role": "user", "content": "hi"}]
        suspended_session = store.engine.get(KEYS[1])
        assert suspended_session is not None
        assert suspended_session.policy.suspend_ttl_ms == 7 * DAY
        store.engine.close(KEYS[2])
    assert "agent:main:telepathy:dm:1" in caplog.text
    with SessionStore(tmp_path, config, clock=clock) as store:
        assert {each.session_key for each in store.list_sessions()} == {KEYS[0], KEYS[1], KEYS[3]}


def test_two_gateways_that_start_at_once_bring_an_old_store_over_once(
    tmp_path: Path, clock: lastseen.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_file(tmp_path, STORE)

    def other_first(path: Path, url: str, **options: Any) -> Imported:
        import_sessions(path, url, **options)
        clock.advance(1)
        monkeypatch.setattr(importing, "_says_of", lambda log, wanted, now_ms: {**wanted, "until_ms": now_ms})
        return import_sessions(path, url, **options)

    monkeypatch.setattr(moving_in, "import_sessions", other_first)
    with SessionStore(tmp_path, GatewayConfig(), clock=clock, sessions_json=False) as store:
        assert len(store.list_sessions()) == len(STORE)
        assert sum(store.engine._log.end_offsets()) == 11
    monkeypatch.setattr(moving_in, "is_empty", lambda url: True)
    with pytest.raises(LogMismatch):
        SessionStore(tmp_path, GatewayConfig(), clock=clock, sessions_json=False)


def test_transcripts_are_counted_and_stay_readable(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    path = store_file(tmp_path, STORE)
    transcript = tmp_path / "20230501_120000_00000000.jsonl"
    transcript.write_text('{"role": "user", "content": "long ago"}\n', "utf-8")
    assert run(path, clock).transcripts == 1
    with SessionStore(tmp_path, GatewayConfig(), url=f"sqlite:///{tmp_path / 'new.db'}", clock=clock) as store:
        assert store.prune_old_entries(90) == 1
        assert store.load_transcript("20230501_120000_00000000")[0]["content"] == "long ago"


def test_local_time_is_read_in_the_time_zone_of_the_gateway(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    path = store_file(tmp_path, {KEYS[0]: {**old(0, T0), "updated_at": "2023-07-01T12:00:00"}})
    url = f"sqlite:///{tmp_path / 'berlin.db'}"
    import_sessions(path, url, timezone="Europe/Berlin", clock=clock)
    with lastseen.open_engine(url, background=False, clock=clock) as engine:
        session = engine.get(KEYS[0])
        assert session is not None
        assert session.last_active_at_ms == round(datetime(2023, 7, 1, 10, tzinfo=UTC).timestamp() * 1000)


def test_progress_is_reported(tmp_path: Path, clock: lastseen.ManualClock) -> None:
    entries = {f"k{number}": None for number in range(2_500)}
    reported: list[tuple[int, int]] = []
    run(store_file(tmp_path, entries), clock, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(old(0, T0))), JSON, max_size=3), JSON)
def test_whatever_an_entry_holds_it_is_imported_or_skipped(faults: dict[str, Any], other: Any) -> None:
    clock = lastseen.ManualClock(T0)
    raw = {KEYS[0]: {**old(0, T0 - HOUR), **faults, "session_key": KEYS[0]}, KEYS[1]: other, KEYS[2]: STORE[KEYS[2]]}
    script = importing.plan_import(
        raw, {}, policy=lastseen.Policy(), partitions=2, until_ms=T0, zone=UTC, progress=lambda done, total: None
    )
    assert {each.key for each in script.skipped} <= {KEYS[0], KEYS[1]}
    log = open_log("memory://?partitions=2", clock, genesis=False)
    log.append(script.messages)
    with lastseen.Engine(log, clock, lastseen.Settings.of(background=False)) as engine:
        assert engine.statistics()["void"] == {}
        assert {session.key for session in engine.list().sessions} == set(raw) - {each.key for each in script.skipped}
