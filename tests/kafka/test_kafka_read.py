"""Reading from Kafka: whatever stands in the topic, within bounds, and never past something that is missing."""

from __future__ import annotations

import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka import TopicPartition
from kafka_fixtures import SharedBroker
from kafka_topics import (
    Foreign,
    Open,
    administering,
    eventually,
    message,
    new_topic,
    read_foreign,
    records,
    values,
    write_foreign,
)

from lastseen.engine import errors
from lastseen.engine.log.kafka.stream import MIN_AHEAD_BYTES
from lastseen.engine.log.kafka.topic import NewTopics, create
from lastseen.engine.log.port import Message, Position
from lastseen.projections.partition import Partition
from tests.patience import PATIENCE_S

POISON: list[Foreign] = [
    (b"good", b"{}"), (None, b"no key"), (b"\xff\xfe", b"key is no text"), (b"tombstone", None), (b"", b""),
    (b"k", bytes(range(256))), (None, None), (b"k" * 5_000, b"{" * 70_000), (b"a\0b", b'{"a":1}'), (b"last", b"{}"),
]  # fmt: skip


# ── what stands there ──


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_others_write_is_read_whatever_it_is(opened: Open, kafka_broker: SharedBroker, compression: str) -> None:
    url = new_topic(kafka_broker.address)
    choose = random.Random(3)
    sent = [*POISON, *((b"k%d" % n, choose.randbytes(choose.randrange(500))) for n in range(2_000)), *POISON]
    write_foreign(url, sent, **{"compression.type": compression})
    theirs = read_foreign(url, len(sent))
    for window in (1, 700, 10_000) if compression == "none" else (999,):
        log = opened(url)
        found = records(log, window=window, count=None if window > 1 else 20)
        for offset, (record, their) in enumerate(zip(found, theirs, strict=window > 1)):
            assert record[:3] == (0, offset, their.timestamp()[1])
            assert (record.key, record.value) == (text_of(their.key()), their.value())
        log.close()
    folded = Partition(0)
    assert {folded.fold(record).verdict.name for record in found} <= {"MALFORMED", "UNKNOWN_TYPE"}, "the fold lives"


def text_of(key: bytes | None) -> str | None:
    """A key as the port gives it."""
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def test_bytes_that_are_damaged_on_the_way_are_noticed(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka.record.default_records import DefaultRecordBatch

    url = new_topic(kafka_broker.address)
    write_foreign(url, [(b"a", b"b")])
    log = opened(url)
    assert log.read(0, 1, 10) == []
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda _: False)
    for _ in range(2):
        with pytest.raises(errors.LogCorrupt, match="offset 0"):
            log.read(0, 0, 10)


# ── where the stream is, and where it is not ──


def test_reading_on_and_on_is_fetched_ahead(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address, 2)
    for partition in range(2):
        write_foreign(url, [(b"k", b"%d" % n + b"x" * 300) for n in range(20_000)], partition)
    log = opened(url)
    asked: list[str] = []
    page = log._lookup.page
    log._lookup.page = lambda *arguments: asked.append("") or page(*arguments)  # type: ignore[func-returns-value]
    pages = [records(log, partition, window=512) for partition in range(2)]
    assert [[record.offset for record in each] for each in pages] == [list(range(20_000))] * 2
    assert len(asked) < 20, "the stream was to take over"


def test_readers_at_different_places_do_not_disturb_each_other(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    write_foreign(url, [(b"k", b"%d" % n) for n in range(5_000)])
    log = opened(url)

    def read_all(window: int) -> bool:
        return values(log, window=window) == [b"%d" % n for n in range(5_000)]

    def look_around(seed: int) -> bool:
        choose = random.Random(seed)
        places = [choose.randrange(5_000) for _ in range(100)]
        return all(log.read(0, place, 1)[0].value == b"%d" % place for place in places)

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(read_all, 512), pool.submit(read_all, 77), *(pool.submit(look_around, s) for s in (1, 2))]
        assert [job.result(PATIENCE_S) for job in jobs] == [True] * 4


def test_so_much_is_fetched_ahead_and_no_more(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url, max_ahead_bytes=1)
    assert log.read(0, 0, 1) == []
    other = opened(url)
    batch = [Message(0, "k", b"x" * 10_000) for _ in range(40)]
    for _ in range(60):
        other.append(batch)
    stream = log._stream
    assert stream is not None
    assert eventually(lambda: stream._runs[0].size >= MIN_AHEAD_BYTES)
    # Paused: nothing more comes, though there is much more.
    time.sleep(0.5)  # waits: for what must not come
    held = stream._runs[0].size
    assert held < MIN_AHEAD_BYTES + 5 * 1024 * 1024 < 24_000_000
    time.sleep(0.3)  # waits: for what must not come
    assert stream._runs[0].size == held
    assert len(records(log, window=100)) == 2_400, "and it goes on when it is read"


def test_what_others_append_wakes_those_who_wait(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address, 3)
    log, other = opened(url), opened(url)
    ends = log.known_ends()
    assert ends == [0, 0, 0]
    with ThreadPoolExecutor(2) as pool:
        for turn in range(30):
            growth = pool.submit(log.await_growth, ends, PATIENCE_S)
            waiting = pool.submit(log.wait, Position(turn % 3, turn // 3), PATIENCE_S)
            other.append([message(str(turn), turn % 3)])
            ends = growth.result(PATIENCE_S)
            assert waiting.result(PATIENCE_S)
            assert ends[turn % 3] == turn // 3 + 1
    assert log.await_growth(ends, 0.05) == ends, "nothing more came"


def test_a_wait_is_answered_by_the_broker_where_the_stream_is_held_up(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log, other = opened(url), opened(url)
    log.read(0, 0, 1)
    assert log._stream is not None
    log._stream.close()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(log.wait, Position(0, 0), PATIENCE_S)
        other.append([message("a")])
        assert waiting.result(PATIENCE_S)


# ── what is missing ──


def test_records_that_were_deleted_are_a_mismatch(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    write_foreign(url, [(b"k", b"%d" % n) for n in range(20)])
    behind = opened(url)
    with administering(url) as (admin, kafka_url):
        admin.delete_records({TopicPartition(kafka_url.topic, 0): 7})
    for log in (opened(url), behind):
        for _ in range(2):
            with pytest.raises(errors.LogMismatch, match=r"before offset 7 were deleted.*snapshot.*retention"):
                log.read(0, 0, 10)
        assert [record.value for record in log.read(0, 7, 3)] == [b"7", b"8", b"9"]


def test_records_that_go_while_they_are_followed_are_a_mismatch(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    assert log.read(0, 0, 10) == []
    stream = log._stream
    assert stream is not None
    stream.close()  # it falls behind
    write_foreign(url, [(b"k", b"%d" % n) for n in range(20)])
    with administering(url) as (admin, kafka_url):
        admin.delete_records({TopicPartition(kafka_url.topic, 0): 7})
    log._stream = None
    log._ends[0] = 0
    from lastseen.engine.log.kafka.stream import Stream

    log._stream = Stream(kafka_url, log._ends, log._grown, log._lookup, 1)
    for _ in range(2):
        with pytest.raises(errors.LogMismatch, match="before offset 7 were deleted"):
            log.read(0, 0, 10)
    assert [record.value for record in log.read(0, 7, 1)] == [b"7"]


def test_a_topic_that_was_deleted_is_a_mismatch(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    log.append([message("a")])
    log.read(0, 1, 1)
    with administering(url) as (admin, kafka_url):
        admin.delete_topics([kafka_url.topic])
    assert eventually(lambda: fails_with(log.end_offsets, errors.LogMismatch, "deleted"))
    for use in (lambda: log.read(0, 0, 1), lambda: log.append([message("b")]), lambda: log.wait(Position(0, 9), 1)):
        assert eventually(lambda use=use: fails_with(use, errors.LogMismatch, "deleted"))


def fails_with(use: object, kind: type[Exception], says: str) -> bool:
    """Whether a call raises this."""
    try:
        use()  # type: ignore[operator]
    except kind as error:
        return re.search(says, str(error)) is not None
    except errors.LogError:
        return False
    return False


ANEW = "recreated|has been deleted"
"""Which of the two is seen depends on the moment."""


@pytest.mark.parametrize("more", [0, 5])
def test_a_topic_that_was_made_anew_is_a_mismatch(opened: Open, kafka_broker: SharedBroker, more: int) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    log.append([message(str(n)) for n in range(3)])
    assert log.read(0, 3, 10) == []
    with administering(url) as (admin, kafka_url):
        admin.delete_topics([kafka_url.topic, kafka_url.topic + ".facts", kafka_url.topic + ".state"])
        assert eventually(lambda: kafka_url.topic not in admin.list_topics())
        create(kafka_url, NewTopics(1))
    if more:
        write_foreign(url, [(b"k", b"of another history")] * more)
    assert eventually(lambda: fails_with(lambda: log.read(0, 3, 10), errors.LogMismatch, ANEW))
    assert fails_with(log.end_offsets, errors.LogMismatch, ANEW)
    again = opened(url)
    assert again.identity != log.identity


def test_nothing_is_appended_to_a_topic_that_was_made_anew(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)  # no reader runs, so that only appends examine the topic
    assert log.append([message("a"), message("b"), message("c")])[2] == Position(0, 2)
    with administering(url) as (admin, kafka_url):
        admin.delete_topics([kafka_url.topic, kafka_url.topic + ".facts", kafka_url.topic + ".state"])
        assert eventually(lambda: kafka_url.topic not in admin.list_topics())
        create(kafka_url, NewTopics(1))
    assert eventually(lambda: fails_with(lambda: log.append([message("d")]), errors.LogMismatch, "recreated"))
    assert fails_with(lambda: log.append([message("e")]), errors.LogMismatch, "recreated")


def test_partitions_that_were_added_are_a_mismatch(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address, 2)
    log = opened(url)
    log.append([message("a")])
    log.read(0, 1, 1)
    with administering(url) as (admin, kafka_url):
        admin.create_partitions({kafka_url.topic: 3})
    assert eventually(lambda: fails_with(lambda: log.read(0, 1, 10), errors.LogMismatch, "has 3 partitions"))
    assert fails_with(lambda: log.append([message("b")]), errors.LogMismatch, "has 3 partitions")


def test_a_log_is_closed_during_a_read(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    write_foreign(url, [(b"k", b"x" * 1_000)] * 5_000)
    for _ in range(3):
        log = opened(url)
        reading = threading.Event()

        def read(log: object = log, reading: threading.Event = reading) -> str:
            offset = 0
            try:
                while True:
                    offset += len(log.read(0, offset, 10)) or -offset  # type: ignore[attr-defined]
                    reading.set()
            except errors.EngineClosed:
                return "closed"

        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(read) for _ in range(3)]
            assert reading.wait(PATIENCE_S)
            log.close()
            assert [job.result(PATIENCE_S) for job in jobs] == ["closed"] * 3
        assert not [thread.name for thread in threading.enumerate() if "kafka" in thread.name]
