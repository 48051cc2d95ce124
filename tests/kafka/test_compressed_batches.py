"""Compressed batches on a real broker: each codec is read, what does not inflate is void, and nothing stops."""

from __future__ import annotations

import logging
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import kafka.errors
import lz4.frame
import pytest
from kafka import TopicPartition
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka_fixtures import SharedBroker
from kafka_topics import Open, eventually, message, new_topic, new_url, records, values, write_foreign

import lastseen
from lastseen.engine import errors
from lastseen.engine.log.kafka.decompression import GZIP, LZ4, MAX_INFLATED_BYTES, NONE
from lastseen.engine.log.kafka.library_internals import UnreadableFetch, watch_fetches
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome
from tests.kafka.published import checkpoints_of, live_in, refold
from tests.kafka.raw_batches import batch_of, body_of, produce

SENT = [("a", b"x" * 500), ("b", b"y" * 500)]
MEGABYTE = 1024 * 1024
MAX_MORE_BYTES = 64 * MEGABYTE


def gzip_of_one_value(size: int) -> bytes:
    """One record whose value is so many zeros, compressed."""
    head, tail = (part for part in body_of([("bomb", b"")]).split(b"bomb"))
    compressor = zlib.compressobj(9, wbits=31)

    def varint(number: int) -> bytes:
        number <<= 1
        coded = b""
        while number > 0x7F:
            coded, number = coded + bytes([number & 0x7F | 0x80]), number >> 7
        return coded + bytes([number])

    # Its parts: attributes, two deltas, the key and its length, the value and its length, and no headers.
    before = b"\0\0\0" + varint(4) + b"bomb" + varint(size)
    assert head[1:] == b"\0\0\0" + varint(4)
    assert tail == b"\0\0"
    parts = [compressor.compress(varint(len(before) + size + 1) + before)]
    zeros = b"\0" * MEGABYTE
    parts += [compressor.compress(zeros[: min(MEGABYTE, size - at)]) for at in range(0, size, MEGABYTE)]
    return b"".join([*parts, compressor.compress(b"\0"), compressor.flush()])


def damaged() -> dict[str, tuple[bytes, int]]:
    """Bodies that the broker takes, and that cannot be read: its decoders do not look at every byte."""
    body = body_of(SENT)
    checked = bytearray(lz4.frame.compress(body, block_linked=False, content_checksum=True))
    checked[-1] ^= 0xFF
    return {
        "bytes behind gzip": (zlib.compress(body, wbits=31) + b"more", GZIP),
        "a wrong checksum in lz4": (bytes(checked), LZ4),
        "bytes behind lz4": (lz4.frame.compress(body, block_linked=False) + b"more", LZ4),
        "records that do not follow one another": (body.replace(b"\x02\x02b", b"\x06\x02b"), NONE),
    }


# ── what is read ──


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_each_codec_takes_effect(kafka_broker: SharedBroker, codec: str) -> None:
    source, url = new_url(kafka_broker.address), new_topic(kafka_broker.address)
    with lastseen.open_engine(source, facts=False, prune=False) as engine:
        for key in ("ana", "ben", "eva"):
            engine.open(key)
            engine.touch(key)
        engine.close("ben")
        log = engine._log
        sent = [(str(each.key).encode(), each.value) for each in records(log)]
    write_foreign(url, sent, **{"compression.type": codec, "linger.ms": 200})
    with lastseen.open_engine(url, facts=False, prune=False) as engine:
        assert set(live_in(engine)) == {"ana", "eva"}
        assert engine.statistics()["void"] == {}
        assert sum(engine.statistics()["applied"].values()) == len(sent)


def test_a_batch_that_was_damaged_on_its_way_is_fetched_again(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_topic(kafka_broker.address)
    write_foreign(url, [(b"a", b"1")])
    write_foreign(url, [(b"b", b"2")])
    write_foreign(url, [(b"c", b"3")])
    validate, damaged_once = DefaultRecordBatch.validate_crc, {1, 2}

    def validate_later(batch: DefaultRecordBatch) -> bool:
        if batch.base_offset in damaged_once:
            damaged_once.remove(batch.base_offset)
            return False
        return bool(validate(batch))

    log = opened(url)
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", validate_later)
    with caplog.at_level(logging.WARNING, "lastseen"):
        assert values(log) == [b"1", b"2", b"3"]
    assert damaged_once == set()
    assert [each for each in caplog.messages if "fetched again" in each] == caplog.messages
    assert len(caplog.messages) == 2


def test_a_batch_that_is_damaged_at_the_broker_stops_its_partition_alone(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_topic(kafka_broker.address, 2)
    log = opened(url)
    log.append([message("a", 0), message("b", 1), message("c", 1)])
    validate = DefaultRecordBatch.validate_crc
    monkeypatch.setattr(
        DefaultRecordBatch, "validate_crc", lambda batch: batch.base_offset != 1 and bool(validate(batch))
    )
    write_foreign(url, [(b"k", b"damaged")], 0)
    reader = opened(url)
    for _ in range(2):
        assert [each.value for each in reader.read(0, 0, 1)] == [b"a"]
        with pytest.raises(errors.LogCorrupt, match=r"partition 0: .* offset 1 does not match its checksum"):
            reader.read(0, 1, 10)
    assert values(reader, 1) == [b"b", b"c"], "the other partition is read as before"


@pytest.mark.parametrize(
    "error", [kafka.errors.CorruptRecordError("too short"), struct.error("unpack requires a buffer of 61 bytes")]
)
def test_bytes_that_are_no_batch_stop_their_partition_alone(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    url = new_topic(kafka_broker.address, 2)
    log = opened(url)
    log.append([message("a", 0), message("b", 1)])
    next_batch = MemoryRecords.next_batch

    def next_or_damage(records: MemoryRecords) -> DefaultRecordBatch | None:
        if records._next_slice is not None and b"no batch" in bytes(records._next_slice):
            raise error
        return next_batch(records)

    monkeypatch.setattr(MemoryRecords, "next_batch", next_or_damage)
    reader = opened(url)
    assert [values(reader, number) for number in range(2)] == [[b"a"], [b"b"]]
    write_foreign(url, [(b"k", b"no batch")], 0)
    for _ in range(2):
        with pytest.raises(errors.LogCorrupt, match=r"partition 0: .* offset 1 "):
            reader.read(0, 1, 10)
    log.append([message("c", 1)])
    assert values(reader, 1) == [b"b", b"c"], "the other partition is read as before"
    late = opened(url)
    assert [each.value for each in late.read(0, 0, 1)] == [b"a"]
    with pytest.raises(errors.LogCorrupt, match=r"partition 0: .* offset 1 "):
        late.read(0, 1, 10)
    assert values(late, 1) == [b"b", b"c"]


def test_a_broker_that_finds_its_records_damaged_names_their_partition() -> None:
    def parse(_: object) -> str:
        return "parsed"

    consumer = SimpleNamespace(_fetcher=SimpleNamespace(_parse_fetched_data=parse))
    assert watch_fetches(consumer, lambda: None)
    place = TopicPartition("topic", 3)

    def fetched(code: int) -> object:
        return SimpleNamespace(
            partition_data=SimpleNamespace(error_code=code), topic_partition=place, fetched_offset=17
        )  # fmt: skip

    assert consumer._fetcher._parse_fetched_data(fetched(0)) == "parsed"
    with pytest.raises(UnreadableFetch) as damage:
        consumer._fetcher._parse_fetched_data(fetched(kafka.errors.CorruptRecordError.errno))
    assert damage.value.args == (3, 17)


# ── what is void ──


def test_what_cannot_be_inflated_is_void_and_nothing_stops(
    kafka_broker: SharedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_url(kafka_broker.address, 2)
    bodies = damaged()
    with ExitStack() as opened, caplog.at_level(logging.WARNING, "lastseen"):
        engines = [opened.enter_context(lastseen.open_engine(url)) for _ in range(2)]
        ana = engines[0].open("ana")
        assert eventually(lambda: set(live_in(engines[1])) == {"ana"})
        number = engines[0]._views.partition_of("ana").number
        for body, codec in bodies.values():
            error, _ = produce(url, batch_of(body, len(SENT), codec), number)
            assert error == 0, "the broker takes it"
            engines[1].touch("ana")
        void: list[Record] = []

        def see(outcome: Outcome) -> None:
            if outcome.verdict is Verdict.MALFORMED:
                void.append(outcome.record)

        partitions = refold(url, see)
        assert [each[3:] for each in void] == [(None, None, Mark.UNREADABLE)] * len(SENT) * len(bodies)
        assert {each.partition for each in void} == {number}
        for engine in engines:
            assert eventually(lambda engine=engine: engine.checkpoints() == checkpoints_of(partitions))
            assert engine.statistics()["void"] == {"malformed": len(void)}
            assert engine.health() == {}
            assert engine.get("ana").version == ana.version + len(bodies)
    said = [each for each in caplog.messages if "cannot be read" in each]
    assert len(said) == len(bodies), "each batch is reported once, however many read it"
    assert f"partition {number}: the batch at the offsets {void[0].offset} to {void[1].offset} cannot" in said[0]


def test_a_batch_that_explodes_is_void_and_takes_little_memory(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    log.append([message("a")])
    values(log)
    for size in (300 * MEGABYTE, MAX_INFLATED_BYTES):
        batch = batch_of(gzip_of_one_value(size), 1, GZIP)
        assert len(batch) < MEGABYTE
        assert produce(url, batch)[0] == 0, "the broker takes it"
    log.append([message("b")])
    before = start_peak()
    found = [log.read(0, offset, 1)[0] for offset in range(4)]
    assert peak() - before < MAX_MORE_BYTES
    assert [each.value for each in found] == [b"a", None, None, b"b"]


def test_a_batch_within_the_limit_is_read_with_little_memory(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    log.append([message("a")])
    values(log)
    size = MAX_INFLATED_BYTES - 100
    assert produce(url, batch_of(gzip_of_one_value(size), 1, GZIP))[0] == 0
    log.append([message("b")])
    before = start_peak()
    (found,) = log.read(0, 1, 10)
    assert found.value is not None
    assert len(found.value) == size
    assert peak() - before < MAX_MORE_BYTES + 4 * MEGABYTE, "its value is copied once out of what was inflated"
    assert [each.value for each in log.read(0, 2, 10)] == [b"b"]


def start_peak() -> int:
    """Measure this process's largest memory from now on; what it takes now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
