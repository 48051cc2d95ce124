"""The file that other parts of the gateway read: written soon, whole, and over no other store's file."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from gateway_stage import DAY, KEY, T0, GatewayStage, source
from test_gateway_import import STORE, store_file

import lastseen
from lastseen.compat.gateway import GatewayConfig, SessionStore, import_sessions, moving_in, sessions_json
from lastseen.compat.gateway.importing import holds_import_of
from lastseen.engine.errors import LogMismatch, LogUnavailable
from lastseen.engine.log.sqlite.log import SqliteLog
from tests.patience import PATIENCE_S, eventually


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[GatewayStage]:
    stage = GatewayStage(tmp_path)
    yield stage
    stage.close()


def in_file(folder: Path) -> dict[str, Any]:
    """What the file has."""
    path = folder / "sessions.json"
    entries: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return entries


def test_the_file_follows_what_begins_changes_and_ends(stage: GatewayStage, tmp_path: Path) -> None:
    store = stage.open(sessions_json=True)
    entry = store.get_or_create_session(source())
    eventually(lambda: in_file(tmp_path).get(KEY, {}).get("session_id") == entry.session_id)
    local = datetime.fromtimestamp(T0 / 1000)  # noqa: DTZ006 - as the old store wrote it
    assert in_file(tmp_path)[KEY]["updated_at"] == local.isoformat()
    assert in_file(tmp_path)[KEY]["origin"] == source().to_dict()
    fresh = store.reset_session(KEY)
    assert fresh is not None
    eventually(lambda: in_file(tmp_path).get(KEY, {}).get("session_id") == fresh.session_id)
    store.engine.touch(KEY, attributes={"display_name": "Ana"})  # another process's record looks like this
    eventually(lambda: in_file(tmp_path).get(KEY, {}).get("display_name") == "Ana")
    stage.clock.advance(100 * DAY)
    assert store.prune_old_entries(90) == 1
    store.close()
    assert in_file(tmp_path) == {}
    assert [path.name for path in tmp_path.iterdir() if "sessions" in path.name] == ["sessions.json"]


def test_the_file_is_private_and_written_only_after_a_change(stage: GatewayStage, tmp_path: Path) -> None:
    store = stage.open(sessions_json=True)
    store.get_or_create_session(source())
    file = store._file
    assert file is not None
    file.write()
    path = tmp_path / "sessions.json"
    before = path.stat()
    assert before.st_mode & 0o777 == 0o600
    file.write()
    assert path.stat().st_ino == before.st_ino
    path.unlink()
    file.write()
    assert in_file(tmp_path).keys() == {KEY}


def test_the_writer_ends_with_the_engine(tmp_path: Path) -> None:
    engine = lastseen.open_engine("memory://", clock=lastseen.ManualClock(T0), background=False)
    store = open_in(tmp_path, engine=engine)
    store.get_or_create_session(source())
    engine.shutdown()
    assert store._file is not None
    store._file.request_write()
    store._file._thread.join(PATIENCE_S)
    assert not store._file._thread.is_alive()
    store.close()
    store.close()


def test_no_file_by_choice(stage: GatewayStage, tmp_path: Path) -> None:
    store = stage.open(sessions_json=False)
    store.get_or_create_session(source())
    store.close()
    assert not (tmp_path / "sessions.json").exists()


def test_a_file_that_cannot_be_written_is_warned_of_and_retried(
    stage: GatewayStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stage.open(sessions_json=True)
    assert store._file is not None

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    failures = ((sessions_json, "replace_file", full), (store._file, "_entries", down), (store._file, "_version", down))
    for owner, name, failing in failures:
        store._file.write()
        (tmp_path / "sessions.json").unlink()
        caplog.clear()
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, failing)
            store.get_or_create_session(source())
            for _ in range(3):
                store._file.write()
            assert in_file(tmp_path) == {}
            assert store._file._thread.is_alive()
        assert caplog.text.count("was not written, and is tried again: the ") == 1
        store._file.write()
        assert in_file(tmp_path).keys() == {KEY}


def down() -> Iterator[Any]:
    raise LogUnavailable("the log is down")


def open_in(folder: Path, **options: Any) -> SessionStore:
    """A store on its own file in a folder."""
    return SessionStore(folder, GatewayConfig(), clock=lastseen.ManualClock(T0), **options)


def test_the_old_stores_file_is_kept_under_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    before = store_file(tmp_path, STORE).read_bytes()
    with open_in(tmp_path) as store:
        assert set(store._entries) == set(STORE)
    assert (tmp_path / "sessions.json.old").read_bytes() == before
    assert in_file(tmp_path).keys() == STORE.keys()
    with open_in(tmp_path):
        pass
    assert not (tmp_path / "sessions.json.old1").exists()
    assert "not imported" not in caplog.text


def test_a_file_that_comes_when_the_log_is_in_use_is_not_imported_and_the_store_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_in(tmp_path, sessions_json=False) as store:
        store.get_or_create_session(source())
    store_file(tmp_path, STORE)
    for _ in range(2):
        caplog.clear()
        with open_in(tmp_path, sessions_json=False) as store:
            assert set(store._entries) == {KEY}
        assert "has 4 sessions of another store, which are not imported" in caplog.text
    (tmp_path / "sessions.json.old").write_text("mine", "utf-8")
    with open_in(tmp_path):
        pass
    assert json.loads((tmp_path / "sessions.json.old1").read_bytes()).keys() == STORE.keys()
    caplog.clear()
    with open_in(tmp_path):
        assert "not imported" not in caplog.text


def test_a_file_that_was_imported_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store_file(tmp_path, STORE)
    for _ in range(2):
        with open_in(tmp_path, sessions_json=False) as store:
            assert set(store._entries) == set(STORE)
    assert "not imported" not in caplog.text


def test_a_log_that_has_lost_the_record_of_its_import_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_file(tmp_path, STORE)
    with open_in(tmp_path, sessions_json=False):
        pass

    def trimmed(*_: object) -> Any:
        raise LogMismatch("the log begins at offset 7")

    def asked(path: Path, url: str) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr(SqliteLog, "read", trimmed)
            return holds_import_of(path, url)

    monkeypatch.setattr(moving_in, "holds_import_of", asked)
    with open_in(tmp_path, sessions_json=False) as store:
        assert set(store._entries) == set(STORE)
    assert "not imported" in caplog.text


def test_a_file_that_another_process_takes_at_the_start_fails_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store_file(tmp_path, STORE)
    begun = []

    def other_first(path: Path, url: str, **options: Any) -> Any:
        import_sessions(path, url, **options)
        with monkeypatch.context() as patched:
            patched.setattr(moving_in, "import_sessions", import_sessions)
            begun.append(open_in(tmp_path))  # which puts its own file there
        eventually((tmp_path / "sessions.json.old").exists)
        eventually((tmp_path / "sessions.json").exists)
        return import_sessions(path, url, **options)

    monkeypatch.setattr(moving_in, "import_sessions", other_first)
    with open_in(tmp_path) as store:
        assert set(store._entries) == set(STORE)
    begun[0].close()
    assert "not imported" not in caplog.text


@pytest.mark.parametrize(
    "content", [b"[]", b"\xff", b"[" * 100_000, b'{"a": 7}'], ids=["list", "binary", "deep", "number"]
)
def test_a_file_that_is_no_store_is_kept_and_not_in_the_way(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sessions.json").write_bytes(content)
    with open_in(tmp_path) as store:
        store.get_or_create_session(source())
    assert in_file(tmp_path).keys() == {KEY}
    assert (tmp_path / "sessions.json.old").read_bytes() == content
    assert "is kept as sessions.json.old" in caplog.text


def test_an_empty_file_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "sessions.json").touch()
    with open_in(tmp_path) as store:
        store.get_or_create_session(source())
    assert in_file(tmp_path).keys() == {KEY}
    assert not (tmp_path / "sessions.json.old").exists()


def test_a_store_that_is_dropped_without_being_closed_leaves_no_thread(tmp_path: Path) -> None:
    with lastseen.open_engine("memory://", clock=lastseen.ManualClock(T0), background=False) as engine:
        store = open_in(tmp_path, engine=engine)
        store.get_or_create_session(source())
        assert store._file is not None
        thread = store._file._thread
        del store

        def is_over() -> bool:
            gc.collect()  # not once: the thread may be writing
            return not thread.is_alive()

        eventually(is_over)


def test_a_relative_folder_stays_where_it_is_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_in(Path("sessions")) as store:
        entry = store.get_or_create_session(source())
        monkeypatch.chdir(tmp_path / "there")
        store.append_to_transcript(entry.session_id, {"role": "user", "content": "hello"})
        assert (tmp_path / "sessions" / f"{entry.session_id}.jsonl").read_bytes()
    assert in_file(tmp_path / "sessions").keys() == {KEY}
