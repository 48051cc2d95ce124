"""Whatever services, pruners, retries and vandals have put on a log: its copy tells the same story."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import Recording, everything, story

from lastseen.bulk import resumable_writer
from lastseen.copying.copy import copy_log
from lastseen.engine.clock import ManualClock
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.partitioner import partition_of
from tests.properties.histories import KEYS, WrittenRecord, history

SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(1, 5)


def crowd(seeds: Sequence[int], partitions: int, length: int, share_ids: bool = False) -> Recording:
    """A log of several histories at once, each with keys of its own; each key has ids of its own, or all share them."""
    log = Recording(partitions)
    lines: list[Iterator[WrittenRecord]] = []
    for number, seed in enumerate(seeds):
        names = {key.encode(): f"{key}/{number}".encode() for key in KEYS}
        lines.append(renamed(history(seed, length, steady=number > 0), names, None if share_ids else number * 10))
    choose = random.Random(seeds[0])
    while lines:
        line = choose.choice(lines)
        written_record = next(line, None)
        if written_record is None:
            lines.remove(line)
        else:
            log.put(
                written_record.timestamp_ms,
                written_record.key,
                of_this_log(written_record, partitions),
                mark=written_record.mark,
            )
    for partition in range(partitions):
        log.tell(latest_ms(log), "import_finished", KEYS[0], "", partition=partition, kind="log")
    return log


def of_this_log(record: WrittenRecord, partitions: int) -> bytes | None:
    """What is written; a genesis record names this log's partitions, since others would void the rest."""
    if record.value is None or record.key is None or b"lastseen.log.opened.v1" not in record.value:
        return record.value
    numbers = b'"partition":%d,"partitions":%d' % (partition_of(record.key, partitions), partitions)
    return re.sub(rb'"partition": ?\d+, ?"partitions": ?\d+', numbers, record.value)


def renamed(
    written_records: list[WrittenRecord], names: dict[bytes, bytes], number: int | None
) -> Iterator[WrittenRecord]:
    """A history with other keys and ids, however its JSON is written."""
    for written_record in written_records:
        key, value = written_record.key, written_record.value
        for old, new in names.items():
            for plain, other in ((old, new), *((escaped(old), escaped(new)) for _ in range(not old.isascii()))):
                value = None if value is None else value.replace(b'"' + plain + b'"', b'"' + other + b'"')
            key = new.decode() if key == old.decode() else key
        if value is not None and number is not None and written_record.key in KEYS:
            own = f'"sess{number + KEYS.index(written_record.key):03d}-'.encode()
            value = value.replace(b'"session-', own).replace(b'"never-se', own)
        yield written_record._replace(key=key, value=value)


def escaped(text: bytes) -> bytes:
    """Text as JSON in ASCII."""
    return text.decode().encode("ascii", "backslashreplace").replace(b"\\xe9", b"\\u00e9")


def latest_ms(log: Recording) -> int:
    """The latest time that anything in a log says."""
    return max(record.timestamp_ms for record in everything(log))


@settings(max_examples=150)
@given(st.lists(SEEDS, min_size=1, max_size=4), COUNTS, COUNTS)
def test_a_copy_tells_the_same_story(seeds: list[int], partitions: int, others: int) -> None:
    source = crowd(seeds, partitions, 60)
    now_ms = latest_ms(source)
    clock = ManualClock(now_ms)
    target = MemoryLog(clock, others)
    copied = copy_log(source, target, clock=clock)
    assert copied.differences == []
    assert copied.differing == 0
    figures = copied.figures
    assert not figures.lost
    assert set(figures.left_out) <= {
        "clock_skew",
        "log_event",
        "no_key",
        "tombstone",
        "too_large",
        "control",
        "transactional",
        "unreadable",
        "wrong_partition",
    }
    assert figures.records == len(everything(source)) == figures.copied.total() + figures.left_out.total()
    assert copied.written == len(everything(target)) == figures.copied.total() + 2 * others
    assert story(target, now_ms) == story(source, now_ms)


@settings(max_examples=100)
@given(st.lists(SEEDS, min_size=2, max_size=4), COUNTS, COUNTS, st.data())
def test_vandals_are_survived_and_nothing_is_hidden(
    seeds: list[int], partitions: int, others: int, data: st.DataObject
) -> None:
    # Ids that are used under several keys, and records in partitions that are not their keys'.
    orderly = crowd(seeds, partitions, 40, share_ids=True)
    source = Recording(partitions)
    for record in everything(orderly):
        stray = data.draw(st.integers(0, partitions - 1)) if record.offset % 7 == 0 else None
        source.put(record.timestamp_ms, record.key, record.value, stray)
    clock = ManualClock(latest_ms(source))
    copied = copy_log(source, MemoryLog(clock, others), clock=clock)
    figures = copied.figures
    assert figures.records == figures.copied.total() + figures.left_out.total()
    # What the copy cannot say as its source does is a difference; and there is no other reason for one.
    if not figures.lost and not figures.moved:
        assert copied.differences == []


@settings(max_examples=60)
@given(SEEDS, COUNTS, COUNTS, st.lists(st.integers(1, 60), max_size=6))
def test_interrupted_anywhere_it_comes_to_the_same_log(
    seed: int, partitions: int, others: int, cuts: list[int]
) -> None:
    source = crowd([seed, seed + 1], partitions, 40)
    clock = ManualClock(latest_ms(source))
    whole = MemoryLog(clock, others)
    copy_log(source, whole, clock=clock)
    torn = Torn(clock, others)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable_writer, "BATCH_RECORDS", 7)
        for cut in cuts:
            torn.patience = cut
            try:
                copy_log(source, torn, clock=clock)
            except InterruptedError:
                continue
    torn.patience = 2**30
    copied = copy_log(source, torn, clock=clock)
    assert copied.differences == []
    assert [each[:2] + each[3:] for each in everything(torn)] == [each[:2] + each[3:] for each in everything(whole)]


class Torn(MemoryLog):
    """A log that dies in the middle of an append: some partitions have got their part, others have not."""

    patience = 0

    def append(self, messages):  # type: ignore[no-untyped-def]
        """Append as many messages as there is patience for."""
        held, self.patience = self.patience, self.patience - len(messages)
        if self.patience >= 0:
            return super().append(messages)
        super().append(sorted(messages, key=lambda message: message.partition)[: max(held, 0)])
        raise InterruptedError
