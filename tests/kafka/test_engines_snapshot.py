"""The snapshot of an engine on a topic is deleted, spoilt or cut: the topic has everything, and the engine says so."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import lastseen
from lastseen.engine.errors import SnapshotError
from tests.kafka.kafka_topics import eventually, new_url
from tests.kafka.published import checkpoints_of, facts_due, facts_in, live_in, names, refold, states_in
from tests.kafka_fixtures import SharedBroker

PARTITIONS = 2
SEED = 20_261_122
PARTS = 12
"""How many places a file is cut at."""
PAGE_BYTES, DAMAGE_BYTES = 4_096, 64
SNAPSHOT, ARCHIVE = "engine.snapshot", "engine.snapshot.archive-1"


class Lived(NamedTuple):
    """A topic, and what an engine that has lived on it left behind."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def lived(kafka_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Some life, an archive, and some more life."""
    url, folder = new_url(kafka_broker.address, PARTITIONS), tmp_path_factory.mktemp("lived")
    with lastseen.open_engine(url, snapshot=str(folder / SNAPSHOT), archive_interval=None) as engine:
        for number in range(200):
            engine.open(f"key-{number}", attributes={"owner": f"owner-{number % 7}", "text": "x" * 100})
            if number == 120:
                assert engine.archive() == str(folder / ARCHIVE)
        for number in range(0, 200, 5):
            engine.close(f"key-{number}")
    pack(folder / SNAPSHOT)
    return Lived(url, folder)


@pytest.fixture
def folder(lived: Lived, tmp_path: Path) -> Path:
    """A copy of what it left behind."""
    shutil.copytree(lived.folder, tmp_path / "copy")
    return tmp_path / "copy"


def start(lived: Lived, folder: Path, **settings: Any) -> list[str]:
    """Start an engine from what there is; what it has to say. What it knows is what the topic says."""
    quiet = {"background": False, "facts": False, "prune": False}
    with lastseen.open_engine(lived.url, snapshot=str(folder / SNAPSHOT), **(quiet | settings)) as engine:
        partitions = refold(lived.url)
        assert engine.checkpoints() == checkpoints_of(partitions)
        assert {view.key for view in engine.list(limit=1_000).sessions} == {key for p in partitions for key in p.active}
        assert dict(engine.get("key-3").attributes) == {"owner": "owner-3", "text": "x" * 100}  # type: ignore[union-attr]
        return list(engine.notes)


def test_a_sound_snapshot_needs_no_word(lived: Lived, folder: Path) -> None:
    assert start(lived, folder) == []


def test_a_deleted_snapshot_is_folded_anew(lived: Lived, folder: Path) -> None:
    (folder / SNAPSHOT).unlink()
    assert start(lived, folder) == []
    assert (folder / SNAPSHOT).stat().st_size > 0
    for file in folder.iterdir():
        file.unlink()
    assert start(lived, folder) == []


@pytest.mark.parametrize("with_archive", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_a_snapshot_that_was_cut_is_replaced(lived: Lived, folder: Path, with_archive: bool) -> None:
    for length in lengths_of(lived.folder / SNAPSHOT):
        renew(lived, folder, with_archive)
        with (folder / SNAPSHOT).open("r+b") as file:
            file.truncate(length)
        check_notes(start(lived, folder), with_archive, f"cut at {length}")


@pytest.mark.parametrize("with_archive", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_a_snapshot_that_was_overwritten_is_replaced(lived: Lived, folder: Path, with_archive: bool) -> None:
    chance = random.Random(SEED)
    for place in places_of(lived.folder / SNAPSHOT):
        renew(lived, folder, with_archive)
        with (folder / SNAPSHOT).open("r+b") as file:
            file.seek(place)
            file.write(chance.randbytes(DAMAGE_BYTES))
        notes = start(lived, folder, facts=True)
        if notes:
            check_notes(notes, with_archive, f"overwritten at {place}")
        else:
            # Attributes are not read before a caller requests them.
            with pytest.raises(SnapshotError, match=r"cannot be read: .* The log is not affected"):
                read_all(lived, folder)


def read_all(lived: Lived, folder: Path) -> None:
    """Ask for everything that the snapshot holds of live sessions."""
    snapshot = str(folder / SNAPSHOT)
    with lastseen.open_engine(lived.url, snapshot=snapshot, background=False, facts=False, prune=False) as engine:
        for view in engine.list(limit=1_000).sessions:
            assert view.attributes


def test_a_damaged_archive_is_passed_over(lived: Lived, folder: Path) -> None:
    for name in (SNAPSHOT, ARCHIVE):
        with (folder / name).open("r+b") as file:
            file.truncate(5_000)
    notes = start(lived, folder)
    assert [bool(f"{ARCHIVE} is damaged too" in note) for note in notes] == [False, True, False]
    assert "everything is folded from the log" in notes[-1]


@pytest.mark.parametrize("with_archive", [True, False])
def test_others_still_receive_the_facts(lived: Lived, folder: Path, with_archive: bool) -> None:
    renew(lived, folder, with_archive)
    (folder / SNAPSHOT).write_bytes(b"no snapshot" * 1_000)
    with lastseen.open_engine(lived.url, snapshot=str(folder / SNAPSHOT)) as engine:
        check_notes(engine.notes, with_archive, "overwritten")
        engine.open("afterwards")
        engine.close("afterwards")
        expected = facts_due(lived.url)
        assert eventually(lambda: names(facts_in(lived.url)) == expected)
        assert eventually(lambda: states_in(lived.url) == live_in(engine))
        assert engine.health() == {}


def renew(lived: Lived, folder: Path, with_archive: bool) -> None:
    """Copy everything anew."""
    shutil.rmtree(folder)
    shutil.copytree(lived.folder, folder)
    if not with_archive:
        for archive in folder.glob("*.archive-*"):
            archive.unlink()


def lengths_of(file: Path) -> Iterator[int]:
    """Where to cut a file: in its middle, at pages and off them, just before its end. At 0 it would be a new one."""
    size = file.stat().st_size
    yield from (1, 100, 4_096, 4_097, size - 4_096, size - 1)
    yield from (size * part // PARTS for part in range(1, PARTS))


def pack(file: Path) -> None:
    """Leave no unused page in a file: where nothing is stored, nothing can be damaged."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM")


def places_of(file: Path) -> Iterator[int]:
    """Where to overwrite a file: its head, and the end of each page, where SQLite puts what a page holds first."""
    content = file.read_bytes()
    yield from (0, 16, 100)
    ends = [end - DAMAGE_BYTES for end in range(PAGE_BYTES, len(content) + 1, PAGE_BYTES)]
    yield from (end for end in ends if 0 not in content[end : end + 4])


def check_notes(notes: list[str], with_archive: bool, what: str) -> None:
    """It says what was damaged, and what it took instead."""
    assert len(notes) == 2, (what, notes)
    assert f"{SNAPSHOT} is damaged" in notes[0], what
    assert "was renamed to" in notes[0], what
    assert (ARCHIVE in notes[1]) is with_archive, (what, notes)
    assert "folded from the log" in notes[1], what
