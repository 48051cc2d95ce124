"""`eventsourcing`'s own suites for recorders, run unchanged against ours on a file.

Where the stock SQLite recorder's tests use UUIDs, ours use text: a log's `originator_id` is the number of a partition.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import TestCase, mock
from uuid import uuid4

import pytest
from eventsourcing.persistence import StoredEvent

from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.recorder import LogDatastore, LogRecorder

# The module with the suites imports a cipher, for suites of other things, and that a package which we do not need.
with mock.patch.dict("sys.modules", {"eventsourcing.cipher": SimpleNamespace(AESCipher=None)}):
    from eventsourcing.tests import persistence as suites


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suites print rates, which belong to benchmarks."""
    monkeypatch.setattr(suites, "print", lambda *_: None, raising=False)


class OnAFile(TestCase):
    """Makes recorders on a file that goes with the test."""

    recorder_class: type[LogRecorder] = LogRecorder

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "log.db"

    def create_recorder(self) -> LogRecorder:
        datastore = LogDatastore(str(self.path), originator_id_type="text")
        self.addCleanup(datastore.close)
        # The suites leave readers behind, and a connection must not go while one is in it.
        before = set(threading.enumerate())
        self.addCleanup(lambda: [thread.join() for thread in set(threading.enumerate()) - before])
        recorder = self.recorder_class(datastore)
        recorder.create_table()
        return recorder

    def new_originator_id(self) -> str:
        return str(uuid4())


class ForAggregates(LogRecorder):
    """The suite for aggregate recorders wants no notification ids: that is the one thing ours adds to them."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


class TestAggregateRecorder(OnAFile, suites.AggregateRecorderTestCase):
    recorder_class = ForAggregates


class TestApplicationRecorder(OnAFile, suites.ApplicationRecorderTestCase):
    pass


class TestNonInterleavingNotificationIDs(OnAFile, suites.NonInterleavingNotificationIDsBaseCase):
    pass


class TestWhatWeAdd(OnAFile):
    """The differences that the recorder's page names."""

    def test_its_connections_are_durable_and_its_transactions_immediate(self) -> None:
        recorder = self.create_recorder()
        datastore = recorder.datastore
        statements: list[str] = []
        with datastore.get_connection(commit=True) as writer:
            assert writer._sqlite_conn.execute("PRAGMA synchronous").fetchone()[0] == 2
            assert writer._sqlite_conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            writer._sqlite_conn.set_trace_callback(statements.append)
        with datastore.transaction(commit=True):
            pass
        with datastore.get_connection(commit=False) as reader:
            assert reader._sqlite_conn.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert statements == ["BEGIN IMMEDIATE", "COMMIT"]

    def test_there_is_one_writer_and_readers_cannot_exhaust_it(self) -> None:
        datastore = self.create_recorder().datastore
        with (
            datastore.get_connection(commit=False) as first,
            datastore.get_connection(commit=False) as second,
            datastore.get_connection(commit=True) as writer,
            datastore.get_connection(commit=True) as same,
        ):
            assert writer is same
            assert len({id(first), id(second), id(writer)}) == 3

    def test_a_second_writer_of_one_offset_is_refused(self) -> None:
        recorder = self.create_recorder()
        with recorder.datastore.get_connection(commit=True) as writer:
            raw = writer._sqlite_conn
            recorder.insert_records(raw, [Record(0, 0, 5, "k", b"a")])
            with pytest.raises(Exception, match="UNIQUE"):
                recorder.insert_records(raw, [Record(0, 0, 6, "k", b"b")])
        (stored,) = recorder.select_events("0")
        assert stored == StoredEvent("0", 0, "k", b"a")
