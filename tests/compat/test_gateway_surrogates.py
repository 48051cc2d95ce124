"""Half an emoji in a name or an id keeps no one from a session, and gives no one another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.compat.gateway import GatewayConfig, Platform, SessionSource, SessionStore
from lastseen.compat.gateway.source import build_session_key
from lastseen.compat.gateway.surrogates import restored, storable
from lastseen.engine.errors import InvalidSetting

HALF = "Ana \ud83d"
PIECES = st.sampled_from(["\\", "\\\\", "u", "d", "ud83d", "\\ud83d", "\ud83d", "\udcff", "é", "日", "🙂", ":", "x"])
TEXT = st.lists(PIECES, max_size=8).map("".join)


@given(TEXT, TEXT)
def test_every_text_can_be_stored_and_none_as_another(one: str, two: str) -> None:
    storable(one).encode("utf-8")
    assert restored(storable(one)) == one
    assert (storable(one) == storable(two)) == (one == two)


def test_ordinary_text_is_stored_as_it_is() -> None:
    value = {"né": ["日本 🙂", "C:\\users", 7, None, {"a": True}]}
    assert storable(value) == value == restored(value)


FIELDS = ("user_name", "chat_name", "chat_topic", "user_id", "chat_id", "thread_id", "guild_id", "message_id")


def test_a_person_with_half_an_emoji_gets_a_session(tmp_path: Path) -> None:
    with SessionStore(tmp_path / "sessions", GatewayConfig()) as store:
        for field in FIELDS:
            source = SessionSource(**{"platform": Platform.TELEGRAM, "chat_id": field, "user_id": "7", field: HALF})
            entry = store.get_or_create_session(source)
            assert getattr(entry.origin, field) == HALF
            again = store.get_or_create_session(source)
            assert (again.session_id, again.origin) == (entry.session_id, source)
            again.display_name = HALF
            store.save_entry(again)
            store.append_to_transcript(entry.session_id, {"role": "user", "content": HALF})
            assert store.load_transcript(entry.session_id)[0]["content"] == HALF
        assert {entry.display_name for entry in store.list_sessions()} == {HALF}
        assert len(store.list_sessions()) == len(FIELDS)
    written = json.loads((tmp_path / "sessions" / "sessions.json").read_bytes())
    assert {entry["display_name"] for entry in written.values() if isinstance(entry, dict)} == {HALF}


def test_an_id_that_looks_like_an_escape_is_another_s(tmp_path: Path) -> None:
    with SessionStore(tmp_path, GatewayConfig()) as store:
        ids = ["\ud83d", "\\ud83d", "\\\ud83d", "\\\\ud83d"]
        entries = [store.get_or_create_session(SessionSource(Platform.TELEGRAM, each, user_id=each)) for each in ids]
        assert len({entry.session_key for entry in entries}) == len({entry.session_id for entry in entries}) == 4
        assert [entry.origin and entry.origin.user_id for entry in entries] == ids


def test_an_import_has_them_too_and_its_output_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = SessionSource(Platform.TELEGRAM, "\ud83d", user_name=HALF)
    key = f"agent:main:telegram:dm:{source.chat_id}"
    entry = {
        "session_key": key, "session_id": "20260101_120000_0badcafe", "created_at": "2026-01-01T12:00:00",
        "updated_at": "2026-01-02T12:00:00", "origin": source.to_dict(),
    }  # fmt: skip
    Path("sessions.json").write_text(json.dumps({key: entry, HALF: {}}))
    log = "sqlite:///new.db"
    result = CliRunner().invoke(app, ["import", "gateway", "sessions.json", "--log", log, "-o", "json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["imported"], [each["key"] for each in figures["skipped"]]) == (1, [HALF])
    with lastseen.open_engine(log, background=False) as engine:
        assert engine.get(build_session_key(source)) is not None


def test_a_filter_that_is_no_unicode_is_refused() -> None:
    with lastseen.open_engine("memory://", background=False) as engine:
        for refused in (lambda: engine.list(owner=HALF), lambda: engine.ended_sessions(reason=HALF)):
            with pytest.raises(InvalidSetting, match="unpaired surrogates"):
                refused()
