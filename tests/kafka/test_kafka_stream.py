"""The thread that fetches ahead, beside a consumer that gives what a test wants, when it wants."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kafka_topics import eventually

from lastseen.engine import errors
from lastseen.engine.log.kafka import stream as kafka_stream
from lastseen.engine.log.kafka.record_runs import Chunk, records_of
from lastseen.engine.log.kafka.stream import Stream
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Record
from lastseen.engine.log.read_size import MAX_READ_BYTES
from tests.patience import PATIENCE_S

KAFKA_URL = parse_kafka_url("kafka://nowhere/topic")


def chunk(start: int, end: int, size: int = 1) -> Chunk:
    """Records of a partition, as a fetch gives them."""
    return Chunk(start, end, size, lambda: [Record(0, offset, 0, "k", b"%d" % offset) for offset in range(start, end)])


class Scripted:
    """In place of a consumer: what it gives comes from the test, and the position that it is given is noted."""

    def __init__(self, *_: object) -> None:
        self.may_be_another_topic = False
        self.answers: queue.Queue[Any] = queue.Queue()
        self.polls = 0
        self.at: dict[int, int] = {}
        self.paused: set[int] = set()

    def assign(self, offsets: dict[int, int]) -> None:
        self.at = dict(offsets)

    def seek(self, partition: int, offset: int) -> None:
        self.at[partition] = offset

    def pause(self, partitions: list[int]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: list[int]) -> None:
        self.paused -= set(partitions)

    def poll(self, _: int) -> dict[int, list[Chunk]]:
        self.polls += 1
        answer = self.answers.get(timeout=PATIENCE_S)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def close(self) -> None:
        pass


class Unasked:
    """A broker whose topic stays as it is."""

    def check_identity(self) -> None:
        pass


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()
    monkeypatch.setattr(kafka_stream, "Fetch", lambda *_: scripted)
    return scripted


@pytest.fixture
def stream(fetch: Scripted) -> Iterator[Stream]:
    lookup: Any = Unasked()
    started = Stream(KAFKA_URL, [100, 7], threading.Condition(), lookup, 1)
    yield started
    started._is_closed.set()
    fetch.answers.put({})
    started.close()


def test_what_comes_from_where_the_stream_was_before_is_dropped(stream: Stream, fetch: Scripted) -> None:
    assert eventually(lambda: fetch.polls == 1)
    stream.move(0, 5, 0)
    fetch.answers.put({0: [chunk(100, 110)], 1: [chunk(7, 9)]})
    assert eventually(lambda: fetch.polls == 2)
    assert fetch.at == {0: 5, 1: 7}
    assert stream.read(0, 5, 10) == [], "it stands at 5, and has nothing yet"
    assert [record.offset for record in stream.read(1, 7, 10) or ()] == [7, 8]
    fetch.answers.put({0: [chunk(2, 8)]})
    assert eventually(lambda: fetch.polls == 3)
    assert [record.offset for record in stream.read(0, 5, 10) or ()] == [5, 6, 7], "a batch may begin before"


def test_a_gap_is_reported_and_not_passed(stream: Stream, fetch: Scripted) -> None:
    fetch.answers.put({0: [chunk(100, 102), chunk(103, 105)]})
    assert eventually(lambda: fetch.polls == 2)
    assert [record.offset for record in stream.read(0, 100, 10) or ()] == [100, 101]
    for _ in range(2):
        with pytest.raises(errors.LogMismatch, match="after offset 101 comes 103"):
            stream.read(0, 102, 10)
    fetch.answers.put({})
    assert eventually(lambda: fetch.polls == 3)
    assert 0 in fetch.paused, "what cannot be followed is not fetched"
    stream.move(0, 103, 0)
    assert stream.read(0, 103, 10) == []


def test_what_was_given_already_is_not_given_again(stream: Stream, fetch: Scripted) -> None:
    fetch.answers.put({0: [chunk(100, 104)]})
    fetch.answers.put({0: [chunk(100, 104), chunk(104, 105)]})
    assert eventually(lambda: fetch.polls == 3)
    assert [record.offset for record in stream.read(0, 100, 10) or ()] == [100, 101, 102, 103, 104]
    assert stream._ends == [105, 7]


def test_no_reader_is_left_behind(stream: Stream, fetch: Scripted) -> None:
    fetch.answers.put({0: [chunk(100, 104)]})
    assert eventually(lambda: fetch.polls == 2)
    assert stream.read(0, 100, 1)
    stream.move(0, 3, PATIENCE_S)
    assert stream.read(0, 101, 1), "it is where its reader is"
    stream.move(0, 3, 0)
    assert stream.read(0, 101, 1) is None


def test_a_consumer_that_fails_is_replaced(stream: Stream, fetch: Scripted) -> None:
    fetch.answers.put({0: [chunk(100, 103)]})
    assert eventually(lambda: fetch.polls == 2)
    fetch.at.clear()
    fetch.answers.put(OSError("the network is down"))
    assert eventually(lambda: fetch.polls == 3)
    assert fetch.at == {0: 103, 1: 7}, "the next goes on where the last one was"
    assert stream.failure is None
    fetch.answers.put({0: [chunk(103, 104)]})
    assert eventually(lambda: fetch.polls == 4)
    assert stream.trouble is None
    assert len(stream.read(0, 100, 10) or ()) == 4


def test_a_read_opens_no_chunk_beyond_what_it_gives() -> None:
    opened: list[int] = []

    def make(offset: int) -> Chunk:
        def records() -> list[Record]:
            opened.append(offset)
            return [Record(0, offset, 0, "k", b"x" * (MAX_READ_BYTES // 2))]

        return Chunk(offset, offset + 1, 1, records)

    chunks = [make(offset) for offset in range(5)]
    assert [each.offset for each in records_of(chunks, 0, 5)] == [0, 1]
    assert opened == [0, 1]
