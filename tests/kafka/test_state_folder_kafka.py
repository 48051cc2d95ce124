"""An engine on Kafka without the setting `snapshot` keeps snapshot and history in the account's folder for state."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka_topics import new_url

import lastseen
from lastseen.embedded.state_folder import left_snapshots
from tests.kafka_fixtures import SharedBroker


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    return new_url(kafka_broker.address)


def folder_of(engine: lastseen.Engine) -> str:
    """The name of the folder that an engine keeps its files in."""
    return Path(engine.snapshot_state().path).parent.name


def test_a_start_goes_on_from_what_the_last_one_left(url: str) -> None:
    with lastseen.open_engine(url, facts=False) as engine:
        engine.open("someone")
        engine.close("someone")
        identity, before = engine._log.identity, engine._views.partitions[0].checkpoint
        assert engine.notes == []
        assert engine.snapshot_state().path != ":memory:"
    assert [str(path) for path in left_snapshots(identity)] == [engine.snapshot_state().path]

    with lastseen.open_engine(url, facts=False, background=False) as again:
        stored = again._state.snapshot._file.partitions()[0]
        assert stored.checkpoint == before
        assert [entry.name for entry in again.history("someone")] == ["created", "closed"]
        assert again.explain("someone").status == "ended"


def test_engines_on_one_machine_share_no_files(url: str) -> None:
    with (
        lastseen.open_engine(url, facts=False) as one,
        lastseen.open_engine(url, facts=False) as two,
    ):
        assert (folder_of(one), folder_of(two)) == ("silent-0", "silent-1")
        one.open("someone")
        two.refresh()
        assert two.explain("someone").status == "active"
    with lastseen.open_engine(url, facts=False) as next_one:
        assert folder_of(next_one) == "silent-0"


def test_without_a_folder_it_is_in_memory_and_says_so(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with lastseen.open_engine(url, facts=False) as engine:
        assert engine.snapshot_state().path == ":memory:"
        (note,) = engine.notes
        assert "in memory" in note
        assert "Name a file with the setting `snapshot`" in note
    with lastseen.open_engine(url, facts=False, snapshot="memory") as chosen:
        assert chosen.snapshot_state().path == ":memory:"
        assert chosen.notes == []
