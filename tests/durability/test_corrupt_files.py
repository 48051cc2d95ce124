"""Bytes of the log, the snapshot or the history are changed, zeroed or missing: no read is wrong, nothing crashes.

`LASTSEEN_DAMAGES` sets how often each file is damaged (30), `LASTSEEN_DAMAGE_SEED` how.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest

import lastseen
from lastseen.doctor.sqlite_log import opened_file
from lastseen.embedded.audit import rebuild, verify
from lastseen.engine.errors import LastseenError, LogCorrupt, SnapshotError
from lastseen.projections.history import History
from tests.durability import corruption
from tests.durability.corruption import FILES, FOUND, LOG, REFUSED, SAID, SAME, Broken, Sound, damages

DAMAGES = int(os.environ.get("LASTSEEN_DAMAGES", "30"))
SEED = int(os.environ.get("LASTSEEN_DAMAGE_SEED", str(random.SystemRandom().randrange(10**9))))
WHAT_CAN_COME = {
    LOG: {SAME, REFUSED, FOUND},
    f"{LOG}-wal": {SAME, REFUSED, FOUND},
    f"{LOG}.snapshot": {SAME, SAID, REFUSED},
    f"{LOG}.snapshot-wal": {SAME, SAID, REFUSED},
    f"{LOG}.history": {SAME, SAID, REFUSED, FOUND},
    f"{LOG}.history-wal": {SAME, SAID, REFUSED, FOUND},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """What is damaged, before it is."""
    return Sound(tmp_path_factory.mktemp("sound") / "files")


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_damaged_it_is_said_or_found(sound: Sound, tmp_path: Path, name: str) -> None:
    came = damages(sound, name, tmp_path, SEED, DAMAGES)
    assert set(came) <= WHAT_CAN_COME[name]
    assert name.endswith("snapshot-wal") or came.total() > came[SAME], "none of the damage showed, so nothing was shown"


def test_files_that_are_sound_are_found_so(sound: Sound, tmp_path: Path) -> None:
    for home in (sound.killed, sound.shut):
        folder = tmp_path / home.name
        shutil.copytree(home, folder)
        url = f"sqlite:///{folder / LOG}"
        assert [check for check in verify(url) if not check.ok] == []
        assert rebuild(url).differences == []


def test_a_record_that_is_changed_in_its_place_is_found(sound: Sound, tmp_path: Path) -> None:
    shutil.copytree(sound.shut, tmp_path / "changed")
    url = f"sqlite:///{tmp_path / 'changed' / LOG}"
    with closing(sqlite3.connect(tmp_path / "changed" / LOG)) as log:
        log.execute("UPDATE stored_events SET state = replace(state, 'logout', 'logins') WHERE rowid = 200")
        changed = log.execute("UPDATE stored_events SET topic = 'another' WHERE rowid = 100").rowcount
        log.commit()
    assert changed == 1
    assert [check.what for check in verify(url) if not check.ok] == ["snapshot"], "its digest is not the log's any more"
    assert any("partition 0: the refold is at" in each for each in rebuild(url).differences)


@pytest.mark.parametrize(
    ("column", "value"),
    [("log_time_ms", b"\xff"), ("log_time_ms", "soon"), ("state", 5), ("state", "text"), ("state", 0.5), ("topic", 7)],
)
@pytest.mark.parametrize("row", ["30", "(SELECT MAX(rowid) FROM stored_events)"])
def test_a_row_of_the_log_that_is_none_is_void_and_is_found(
    sound: Sound, tmp_path: Path, column: str, value: object, row: str
) -> None:
    shutil.copytree(sound.shut, tmp_path / "rows")
    url = f"sqlite:///{tmp_path / 'rows' / LOG}"
    with closing(sqlite3.connect(tmp_path / "rows" / LOG)) as log:
        assert log.execute(f"UPDATE stored_events SET {column} = ? WHERE rowid = {row}", (value,)).rowcount == 1
        log.commit()
    assert [check.what for check in verify(url) if not check.ok] != []
    for suffix in ("snapshot", "history"):  # all of it is to be folded
        for place in (tmp_path / "rows").glob(f"{LOG}.{suffix}*"):
            place.unlink()
    with lastseen.open_engine(url, clock=lastseen.ManualClock(sound.now_ms), background=False) as engine:
        engine.open("one more")
        assert len(engine.history("one more")) == 1


@pytest.mark.parametrize("name", [LOG, f"{LOG}.snapshot", f"{LOG}.history"])
def test_a_schema_whose_words_are_no_text_is_a_typed_error_wherever_it_is(
    sound: Sound, tmp_path: Path, name: str
) -> None:
    shutil.copytree(sound.shut, tmp_path / "schema")
    place, url = tmp_path / "schema" / name, f"sqlite:///{tmp_path / 'schema' / LOG}"
    whole = place.read_bytes()
    place.write_bytes(whole.replace(b"CREATE TABLE ", b"CREATE \xfaABLE ", 1))
    assert place.read_bytes() != whole
    with closing(sqlite3.connect(place)) as damaged, pytest.raises(UnicodeDecodeError):
        damaged.execute("SELECT * FROM sqlite_master")
    with suppress(LogCorrupt):
        assert [check.what.split(" ")[0] for check in verify(url) if not check.ok] == [name.rpartition(".")[2]]
    refused = nullcontext() if name == f"{LOG}.snapshot" else pytest.raises(LastseenError, match=corruption.NEXT_STEP)
    with refused, lastseen.open_engine(url, clock=lastseen.ManualClock(sound.now_ms), background=False) as engine:
        assert any("snapshot" in note for note in engine.notes), "it goes on without, and says so"
    if name == LOG:
        with pytest.raises(LogCorrupt), opened_file(place):
            pytest.fail("a damaged log was looked at")


def test_a_wrong_read_that_no_check_finds_is_caught(
    sound: Sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corruption, "is_found", lambda _: False)
    with pytest.raises(
        Broken, match=rf"log\.db: seed {SEED}, damage \d+: a wrong read, and no check finds it: records"
    ):
        damages(sound, LOG, tmp_path, SEED, 100)


@pytest.mark.parametrize(
    ("column", "value"), [("verdict", 999), ("at_ms", "soon"), ("session_id", b"\xff"), ('"offset"', 1.5)]
)
def test_a_row_of_the_history_that_is_none_is_a_typed_error(
    sound: Sound, tmp_path: Path, column: str, value: object
) -> None:
    shutil.copytree(sound.shut, tmp_path / "rows")
    with closing(sqlite3.connect(tmp_path / "rows" / f"{LOG}.history")) as history:
        history.execute(f"UPDATE entries SET {column} = ? WHERE key = 'key-3' AND name = 'created'", (value,))
        history.commit()
    clock = lastseen.ManualClock(sound.now_ms)
    url = f"sqlite:///{tmp_path / 'rows' / LOG}"
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        with pytest.raises(SnapshotError, match="delete it together with the snapshot"):
            engine.history("key-3")
        assert len(engine.history("key-2")) > 1, "other keys are returned"


def test_a_history_of_rubbish_is_a_typed_error_and_leaves_no_file_open(tmp_path: Path) -> None:
    place = tmp_path / "log.history"
    History(str(place), "identity").close()
    content = bytearray(place.read_bytes())
    at = content.index(b"CREATE TABLE meta")
    content[at : at + 12] = b"\xab" * 12
    place.write_bytes(content)
    with pytest.raises(SnapshotError, match="if the file is damaged, delete it together with the snapshot"):
        History(str(place), "identity")
    place.unlink()
    History(str(place), "identity").close()
