"""What every log does, whatever it is kept in: one suite, run unchanged by each adapter (`engine.log.port`).

An adapter's tests derive from `LogContract`, or from `DurableLogContract` if its logs outlive their closing, and give
a fixture `place`: each call gives a new place for a log, as a function that opens the log there, given a clock.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from lastseen.engine.clock import Clock, ManualClock
from lastseen.engine.errors import EngineClosed, InvalidInput, LogMismatch
from lastseen.engine.events import MAX_RECORD_BYTES
from lastseen.engine.log.port import Log, Message, Position, Record
from tests.patience import PATIENCE_S

T0 = 1_700_000_000_000
Make = Callable[[ManualClock], Log]


def message(text: str, partition: int = 0) -> Message:
    """A message whose key and value tell it apart."""
    return Message(partition, f"key-{text}", text.encode())


def everything(log: Log, window: int = 1_000) -> list[list[Record]]:
    """All records of a log by partition."""
    found: list[list[Record]] = []
    for partition, end in enumerate(log.end_offsets()):
        records: list[Record] = []
        while len(records) < end:
            page = log.read(partition, len(records), window)
            assert page, "a log that has not ended gave nothing to read"
            records += page
        found.append(records)
    return found


def together(*calls: Callable[[], object]) -> list[object]:
    """Run calls in threads of their own that start at once; their results."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        ready.wait(PATIENCE_S)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(PATIENCE_S) for future in [pool.submit(run, call) for call in calls]]


LARGE = [b"%03d" % number + b"x" * (MAX_RECORD_BYTES - 1_000) for number in range(48)]
"""Values of 6 MiB together."""


def check_large(log: Log) -> None:
    """Read values, `LARGE`, from different places: none of the reads gives all of them."""
    for start in (0, 1, 30, 47):
        read = log.read(0, start, 1_000)
        assert [record.value for record in read] == LARGE[start : start + len(read)]
        assert 1 <= len(read) <= 9, "more than 1 MiB at once"
    assert [record.value for record in everything(log)[0]] == LARGE


class LogContract:
    """The port's promises."""

    @pytest.fixture
    def place(self) -> Callable[[], Make]:
        """Each adapter gives its own."""
        raise NotImplementedError

    @pytest.fixture
    def make(self, place: Callable[[], Make]) -> Make:
        return place()

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(T0)

    def log_clock(self, clock: ManualClock) -> Clock:
        """The clock of log times: the one that a log is opened with, unless it has its own."""
        return clock

    @pytest.fixture
    def log(self, make: Make, clock: ManualClock) -> Iterator[Log]:
        opened = make(clock)
        yield opened
        opened.close()

    # ── places ──

    def test_a_new_log_is_empty(self, log: Log) -> None:
        assert log.end_offsets() == [0] * log.partitions
        assert [log.read(partition, 0, 10) for partition in range(log.partitions)] == [[]] * log.partitions

    def test_every_log_has_an_identity(self, log: Log) -> None:
        assert isinstance(log.identity, str)
        assert len(log.identity) >= 22

    def test_offsets_count_from_zero_in_each_partition(self, log: Log) -> None:
        for offset in range(5):
            for partition in range(log.partitions):
                assert log.append([message("x", partition)]) == [Position(partition, offset)]
        assert log.end_offsets() == [5] * log.partitions

    def test_positions_come_in_the_order_of_the_messages(self, log: Log) -> None:
        partitions = [number % log.partitions for number in range(20)]
        random.Random(5).shuffle(partitions)
        sent = [message(str(number), partition) for number, partition in enumerate(partitions)]
        for part in (sent[:7], sent[7:8], sent[8:]):
            for position, (partition, key, value) in zip(log.append(part), part, strict=True):
                assert position.partition == partition
                assert log.read(partition, position.offset, 1)[0][3:5] == (key, value)
        for partition, records in enumerate(everything(log)):
            assert [record.value for record in records] == [each.value for each in sent if each.partition == partition]
            assert [record[:2] for record in records] == [(partition, offset) for offset in range(len(records))]

    def test_nothing_appended_changes_nothing(self, log: Log) -> None:
        assert log.append([]) == []
        assert log.append_soon([]).result(PATIENCE_S) == []
        assert log.end_offsets() == [0] * log.partitions

    def test_bytes_and_keys_come_back_as_they_were(self, log: Log) -> None:
        sent = [
            Message(0, "ключ-✓-\U0001f600", bytes(range(256))),
            Message(0, "k" * 512, b""),
            Message(0, "", b"\0" * 9),
        ]
        log.append(sent)
        assert [(record.key, record.value) for record in log.read(0, 0, 9)] == [each[1:] for each in sent]

    # ── time ──

    def test_a_record_bears_the_time_at_which_the_log_took_it(self, log: Log, clock: ManualClock) -> None:
        times = LogTimes(self.log_clock(clock))
        with times.of(b"a"):
            log.append([message("a")])
        clock.advance(1_234)
        with times.of(b"b", b"c"):
            log.append([message("b"), message("c")])
        assert times.faults(log.read(0, 0, 9)) == []
        assert len(log.read(0, 0, 9)) == 3

    def test_log_time_never_goes_back(self, log: Log, clock: ManualClock) -> None:
        times = LogTimes(self.log_clock(clock))
        with times.of(b"a"):
            log.append([message("a")])
        clock.advance(-3_600_000)
        with times.of(b"b"):
            log.append([message("b", log.partitions - 1)])
        clock.advance(3_600_001)
        with times.of(b"c"):
            log.append([message("c")])
        stored = [record for records in everything(log) for record in records]
        assert times.faults(stored) == []
        at_ms = {record.value: record.timestamp_ms for record in stored}
        assert at_ms[b"a"] <= at_ms[b"b"] <= at_ms[b"c"]

    # ── reading ──

    def test_reads_are_windows(self, log: Log) -> None:
        log.append([message(str(number)) for number in range(30)])
        for start in (0, 1, 13, 28, 29, 30):
            for size in (1, 2, 29, 30, 31, 500):
                read = log.read(0, start, size)
                assert [record.offset for record in read] == list(range(start, min(start + size, 30)))
                assert [record.value for record in read] == [b"%d" % record.offset for record in read]

    def test_large_records_come_in_less_at_a_time(self, log: Log) -> None:
        for start in range(0, len(LARGE), 4):
            log.append([Message(0, "key", value) for value in LARGE[start : start + 4]])
        check_large(log)

    @pytest.mark.parametrize("count", [0, 3])
    def test_reading_outside_the_log_is_a_mismatch(self, log: Log, count: int) -> None:
        log.append([message(str(number)) for number in range(count)])
        assert log.read(0, count, 10) == []
        for outside in (-1, count + 1, count + 1_000):
            with pytest.raises(LogMismatch):
                log.read(0, outside, 10)

    def test_what_was_appended_can_be_read_at_once(self, log: Log) -> None:
        for number in range(50):
            (position,) = log.append([message(str(number))])
            assert log.read(0, position.offset, 10)[0].value == b"%d" % number
            assert log.end_offsets()[0] == number + 1

    # ── waiting ──

    def test_waiting_for_what_is_there_takes_no_time(self, log: Log) -> None:
        log.append([message("a")])
        assert log.wait(Position(0, 0), 0) is True

    def test_waiting_for_what_does_not_come_ends(self, log: Log) -> None:
        began = time.monotonic()
        assert log.wait(Position(0, 0), 0.05) is False
        assert 0.04 <= time.monotonic() - began < PATIENCE_S
        log.append([message("a")])
        assert log.wait(Position(0, 1), 0) is False

    def test_no_wake_up_is_lost(self, log: Log) -> None:
        rounds, last = 100, log.partitions - 1

        def play(turn: int) -> bool:
            # Each waits for the other's record before it appends its own: who is not woken holds up both.
            for offset in range(rounds):
                place = Position(last, offset)
                if offset % 2 == turn and log.append([message(str(offset), last)]) != [place]:
                    return False
                if not log.wait(place, PATIENCE_S):
                    return False
            return True

        def watch() -> bool:
            return all(log.wait(Position(last, offset), PATIENCE_S) for offset in range(rounds))

        began = time.monotonic()
        assert together(lambda: play(0), lambda: play(1), watch) == [True] * 3
        assert time.monotonic() - began < PATIENCE_S, "a reader slept through an append"

    # ── without waiting ──

    def test_appends_without_waiting_callers_are_kept_in_order(self, log: Log) -> None:
        futures = [log.append_soon([message(f"{number}a"), message(f"{number}b")]) for number in range(50)]
        positions = [future.result(PATIENCE_S) for future in futures]
        assert positions == [[Position(0, 2 * number), Position(0, 2 * number + 1)] for number in range(50)]
        values = [record.value for record in log.read(0, 0, 200)]
        assert values == [f"{number}{half}".encode() for number in range(50) for half in "ab"]

    # ── many at once ──

    def test_every_acknowledged_message_is_there_once_and_in_its_callers_order(self, log: Log) -> None:
        callers, calls = 8, 25
        acknowledged: list[list[tuple[Position, bytes]]] = [[] for _ in range(callers)]

        def call(caller: int) -> None:
            choose = random.Random(caller)
            for number in range(calls):
                partition = choose.randrange(log.partitions)
                batch = [message(f"{caller}.{number}.{k}", partition) for k in range(choose.randint(1, 4))]
                positions = log.append(batch) if number % 3 else log.append_soon(batch).result(PATIENCE_S)
                acknowledged[caller] += [(place, each.value) for place, each in zip(positions, batch, strict=True)]

        together(*(lambda caller=caller: call(caller) for caller in range(callers)))
        stored = everything(log, window=7)
        values = [record.value for records in stored for record in records]
        assert sorted(values) == sorted(value for answers in acknowledged for _, value in answers)
        for answers in acknowledged:
            assert [stored[place.partition][place.offset].value for place, _ in answers] == [v for _, v in answers]
            for partition in range(log.partitions):
                offsets = [place.offset for place, _ in answers if place.partition == partition]
                assert offsets == sorted(offsets)
        for records in stored:
            assert all(earlier.timestamp_ms <= later.timestamp_ms for earlier, later in pairwise(records))

    def test_a_message_that_no_log_can_take_affects_only_its_sender(self, log: Log) -> None:
        bad: list[Any] = [
            Message(log.partitions, "k", b""), Message(-1, "k", b""), Message(0, "\ud800", b""),
            Message(0, "k", "text"), Message(0, "k", None),
        ]  # fmt: skip
        good = [log.append_soon([message("a")])]
        for each in bad:
            for append in (log.append, log.append_soon):
                with pytest.raises(InvalidInput):
                    append([message("before"), each])
        good.append(log.append_soon([message("b")]))
        assert [future.result(PATIENCE_S) for future in good] == [[Position(0, 0)], [Position(0, 1)]]
        assert log.end_offsets() == [2] + [0] * (log.partitions - 1)

    def test_an_append_overtakes_none_that_its_caller_sent_before(self, log: Log) -> None:
        for number in range(50):
            earlier = log.append_soon([Message(0, "", b"")])
            assert log.append([Message(0, "", b"")]) == [Position(0, 2 * number + 1)]
            assert earlier.result(PATIENCE_S) == [Position(0, 2 * number)]

    def test_a_caller_that_gives_up_waiting_stops_no_other(self, log: Log) -> None:
        futures = [log.append_soon([message(str(number))]) for number in range(100)]
        assert not any(future.cancel() for future in futures), "what is on its way cannot be called back"
        assert log.append_soon([message("next")]).result(PATIENCE_S) == [Position(0, 100)]

    def test_a_callback_may_append_at_once(self, log: Log) -> None:
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        futures = [log.append_soon([message(str(number))]) for number in range(20)]
        for future in futures:
            future.add_done_callback(lambda _: answers.put(log.append([message("answer")])))
        assert len([answers.get(timeout=PATIENCE_S) for _ in futures]) == 20
        assert log.end_offsets()[0] == 40

    # ── closing ──

    def test_closing_lets_appends_finish_or_refuses_them(self, place: Callable[[], Make], clock: ManualClock) -> None:
        for round_ in range(15):
            log = place()(clock)
            reported: list[Position] = []
            began = threading.Event()

            def append(log: Log = log, reported: list[Position] = reported, began: threading.Event = began) -> str:
                try:
                    while True:
                        reported += log.append([message("x")])
                        if len(reported) > 5:
                            began.set()
                except EngineClosed:
                    return "closed"

            def close(log: Log = log, began: threading.Event = began) -> None:
                began.wait(PATIENCE_S)
                log.close()

            assert together(*[append] * (1 + round_ % 2), close) == ["closed"] * (1 + round_ % 2) + [None]
            assert sorted(reported) == [Position(0, offset) for offset in range(len(reported))]

    def test_a_closed_log_says_so(self, log: Log) -> None:
        log.append([message("a")])
        log.close()
        log.close()
        for use in (
            lambda: log.append([message("b")]),
            lambda: log.append_soon([message("b")]),
            lambda: log.read(0, 0, 1),
            lambda: log.read(0, 1, 1),
            lambda: log.end_offsets(),
            lambda: log.wait(Position(0, 0), 0),
        ):
            with pytest.raises(EngineClosed):
                use()

    def test_closing_finishes_what_is_under_way(self, log: Log) -> None:
        futures = [log.append_soon([message(str(number))]) for number in range(200)]
        log.close()
        assert [future.result(0) for future in futures] == [[Position(0, number)] for number in range(200)]

    def test_closing_lets_those_go_who_wait(self, log: Log) -> None:
        def wait() -> object:
            try:
                return log.wait(Position(0, 0), PATIENCE_S)
            except EngineClosed:
                return "closed"

        began = time.monotonic()
        assert together(wait, wait, log.close) == ["closed", "closed", None]
        assert time.monotonic() - began < PATIENCE_S

    # ── against the model ──

    def test_it_is_a_list_for_each_partition(self, place: Callable[[], Make]) -> None:
        run_state_machine_as_test(
            lambda: LogAgainstLists(place(), self.log_clock, is_durable=isinstance(self, DurableLogContract)),
            settings=settings(max_examples=15, stateful_step_count=25),
        )


class DurableLogContract(LogContract):
    """What a log promises beyond that if it outlives its closing."""

    def test_it_is_all_there_when_it_is_opened_again(self, make: Make, clock: ManualClock) -> None:
        first = make(clock)
        first.append([message(str(number), number % first.partitions) for number in range(20)])
        before = everything(first), first.end_offsets(), first.identity, first.partitions
        first.close()
        again = make(clock)
        assert (everything(again), again.end_offsets(), again.identity, again.partitions) == before
        assert again.append([message("more")])[0].offset == before[1][0]
        again.close()

    def test_large_records_come_in_less_at_a_time_when_it_is_opened_again(self, make: Make, clock: ManualClock) -> None:
        first = make(clock)
        for start in range(0, len(LARGE), 4):
            first.append([Message(0, "key", value) for value in LARGE[start : start + 4]])
        first.close()
        again = make(clock)
        check_large(again)
        again.close()

    def test_what_was_not_waited_for_is_there_after_closing(self, make: Make, clock: ManualClock) -> None:
        first = make(clock)
        for number in range(300):
            first.append_soon([message(str(number))])
        first.close()
        again = make(clock)
        assert [record.value for record in everything(again)[0]] == [b"%d" % number for number in range(300)]
        again.close()

    def test_an_older_clock_does_not_turn_log_time_back(self, make: Make, clock: ManualClock) -> None:
        times = LogTimes(self.log_clock(clock))
        first = make(clock)
        with times.of(b"a", b"b"):
            first.append([message("a", first.partitions - 1)])
            first.append([message("b")])
        first.close()
        clock.advance(-86_400_000)
        again = make(clock)
        with times.of(b"c"):
            again.append([message("c")])
        stored = [record for records in everything(again) for record in records]
        assert times.faults(stored) == []
        assert len(stored) == 3
        again.close()

    def test_two_who_have_it_open_see_one_log(self, make: Make, clock: ManualClock) -> None:
        # Whose clock is ahead writes first: what comes after can be no earlier.
        ahead = ManualClock(T0 + 500)
        times = LogTimes(self.log_clock(ahead))
        ours, theirs = make(clock), make(ahead)
        for number in range(20):
            writer, reader = (ours, theirs) if number % 3 else (theirs, ours)
            with times.of(b"%d" % number):
                assert writer.append([message(str(number))]) == [Position(0, number)]
            assert reader.wait(Position(0, number), PATIENCE_S)
            assert reader.read(0, number, 5)[0].value == b"%d" % number
        assert everything(ours, 3) == everything(theirs, 7)
        at_ms = [record.timestamp_ms for record in everything(ours)[0]]
        assert at_ms == sorted(at_ms)
        assert times.faults(everything(ours)[0]) == []
        ours.close()
        theirs.close()


class LogTimes:
    """Between which readings of a clock a log took each record; the same reading twice, if a test turns the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest_ms = 0
        self._bounds: dict[bytes, tuple[int, int]] = {}

    @contextmanager
    def of(self, *values: bytes) -> Iterator[None]:
        """The log takes these values inside."""
        before_ms = max(self._latest_ms, self._clock.now_ms())
        yield
        if values:  # a log that was given nothing looks at no clock
            self._latest_ms = max(before_ms, self._clock.now_ms())
            self._bounds |= dict.fromkeys(values, (before_ms, self._latest_ms))

    def faults(self, records: Sequence[Record]) -> list[str]:
        """The records whose log time is not within their bounds."""
        return [
            f"{record} was taken between {bounds}"
            for record in records
            for bounds in [self._bounds[record.value or b""]]
            if not bounds[0] <= record.timestamp_ms <= bounds[1]
        ]


class LogAgainstLists(RuleBasedStateMachine):
    """A log beside its naive model: a list of (key, value) for each partition, and when each was taken."""

    def __init__(self, make: Make, log_clock: Callable[[ManualClock], Clock], *, is_durable: bool) -> None:
        super().__init__()
        self.make = make
        self.is_durable = is_durable
        self.clock = ManualClock(T0)
        self.times = LogTimes(log_clock(self.clock))
        self.log = make(self.clock)
        self.lists: list[list[tuple[str, bytes]]] = [[] for _ in range(self.log.partitions)]
        self.appended = 0

    def place(self, sent: list[Message]) -> list[Position]:
        """The positions that the messages must get; they are in the model then."""
        positions = []
        for partition, key, value in sent:
            positions.append(Position(partition, len(self.lists[partition])))
            self.lists[partition].append((key, value))
        return positions

    @rule(places=st.lists(st.integers(0, 99), max_size=6), size=st.integers(0, 300), soon=st.booleans())
    def append(self, places: list[int], size: int, soon: bool) -> None:
        self.appended += 1
        sent = [message(f"{self.appended}.{n}" + "x" * size, at % self.log.partitions) for n, at in enumerate(places)]
        with self.times.of(*[each.value for each in sent]):
            got = self.log.append_soon(sent).result(PATIENCE_S) if soon else self.log.append(sent)
        assert got == self.place(sent)

    @rule(by_ms=st.integers(-5_000, 5_000))
    def turn_the_clock(self, by_ms: int) -> None:
        self.clock.advance(by_ms)

    @rule(partition=st.integers(0, 99), start=st.integers(-2, 40), size=st.integers(1, 20), from_end=st.booleans())
    def read(self, partition: int, start: int, size: int, from_end: bool) -> None:
        partition %= self.log.partitions
        rows = self.lists[partition]
        start = len(rows) - start if from_end else start
        if not 0 <= start <= len(rows):
            with pytest.raises(LogMismatch):
                self.log.read(partition, start, size)
            return
        read = self.log.read(partition, start, size)
        wanted = [(partition, start + n, *row) for n, row in enumerate(rows[start : start + size])]
        # A log may give less than it was requested, but something, and in order.
        assert [(*record[:2], *record[3:5]) for record in read] == wanted[: len(read)]
        assert bool(read) == bool(wanted)
        assert self.times.faults(read) == []

    @rule()
    def compare(self) -> None:
        ends = [len(rows) for rows in self.lists]
        assert self.log.end_offsets() == ends
        for partition, end in enumerate(ends):
            assert self.log.wait(Position(partition, end), 0) is False
            assert end == 0 or self.log.wait(Position(partition, end - 1), 0) is True
        stored = everything(self.log, 5)
        assert [[record[3:5] for record in records] for records in stored] == self.lists
        assert [self.times.faults(records) for records in stored] == [[]] * len(stored)

    @precondition(lambda self: self.is_durable)
    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.make(self.clock)

    def teardown(self) -> None:
        self.compare()
        self.log.close()
