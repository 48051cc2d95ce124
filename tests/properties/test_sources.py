"""Counters by source: each record counts once, no counter decreases, memory is bounded whatever producers call
themselves, and the source that writes most is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.engine.events import MAX_RECORD_BYTES
from lastseen.projections.sources import (
    MAX_NAMED,
    MAX_WAITING,
    OTHER,
    REVIEW_RECORDS,
    UNKNOWN,
    SourceReport,
    Sources,
    source_of,
)

BATCH = 512


def count(sources: Sources, written: Iterable[str], void: str = "", most: int = BATCH) -> None:
    """Count a record of each source, in batches of at most so many; all of them void, if a verdict is given."""
    pending = list(written)
    for start in range(0, len(pending), most):
        batch = pending[start : start + most]
        for source in batch:
            counts = sources.counts_of(source)
            counts.records += 1
            if void:
                counts.void[void] += 1
        sources.end_batch(len(batch))


def count_each(sources: Sources, written: Mapping[str, int], void: str = "") -> None:
    """Count so many records of each source, in one batch."""
    count(sources, (source for source, records in written.items() for _ in range(records)), void, 1_000_000)


def reported(sources: Sources) -> dict[str, SourceReport]:
    return {each.source: each for each in sources.report()}


@given(st.lists(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9_000)), max_size=30), max_size=12))
def test_each_record_counts_once_and_no_counter_decreases(batches: list[list[tuple[int, int]]]) -> None:
    sources, total = Sources(), 0
    named_before: dict[str, int] = {}
    shared_before = dict.fromkeys((OTHER, UNKNOWN), 0)
    for batch in batches:
        written: Counter[str] = Counter()
        for number, records in batch:
            written[f"/service/{number}"] += records
        increase = written.total()
        count_each(sources, written, "malformed")
        total += increase

        after = reported(sources)

        assert {OTHER, UNKNOWN} <= after.keys()
        assert len(after) <= MAX_NAMED + 2
        for source, before in shared_before.items():
            assert after[source].records >= before
            shared_before[source] = after[source].records
        for source, before in named_before.items():
            # A counter that was lost begins anew, and a rate takes that for a restart.
            assert source not in after or after[source].records >= before or after[source].records <= increase
        if total == increase <= REVIEW_RECORDS:
            assert sum(each.records for each in after.values()) == total
        assert all(each.void.get("malformed", 0) == each.records for each in after.values())
        named_before = {source: each.records for source, each in after.items() if source not in shared_before}


def test_a_source_for_each_record_takes_no_more_memory_and_leaves_the_busy_ones_their_counters() -> None:
    sources = Sources()
    busy = [f"/gateway/{number}" for number in range(10)]
    count(sources, busy)
    for lap in range(4):
        count(
            sources,
            (
                busy[number // 4 % 10] if number % 4 == 0 else f"/made-up/{lap}/{number}"
                for number in range(2 * REVIEW_RECORDS)
            ),
        )

        count(sources, (f"/made-up/{lap}/{number}" for number in range(MAX_WAITING * 2)))
        assert len(sources._waiting) == MAX_WAITING

    found = reported(sources)

    assert len(found) == MAX_NAMED + 2
    assert all(3_277 <= found[source].records <= 3_281 for source in busy)
    assert sum(each.records for each in found.values()) == 10 + (2 * REVIEW_RECORDS + 2 * MAX_WAITING) * 4


def test_made_up_sources_do_not_take_turns_at_the_counters() -> None:
    sources = Sources()
    count(sources, (f"/made-up/{number}" for number in range(MAX_NAMED)))
    named = reported(sources).keys()
    count(sources, (f"/made-up/{number}" for number in range(MAX_NAMED, 4 * REVIEW_RECORDS)))

    assert reported(sources).keys() == named


def test_the_source_that_wrote_least_of_late_loses_its_counter() -> None:
    sources = Sources()
    services = [f"/service/{number}" for number in range(MAX_NAMED)]
    count_each(sources, dict.fromkeys(services, 1_000))
    count_each(sources, dict.fromkeys(services, 400) | {"/service/7": 350, "/new": 380})

    found = reported(sources)

    assert "/new" in found
    assert found.keys() - {OTHER, UNKNOWN} == {*services, "/new"} - {"/service/7"}


def test_a_source_that_writes_less_than_all_others_takes_no_counter() -> None:
    sources = Sources()
    services = [f"/service/{number}" for number in range(MAX_NAMED)]
    for _ in range(2):
        count_each(sources, dict.fromkeys(services, 400) | {"/new": 300})
        assert "/new" not in reported(sources)


def test_a_source_that_floods_late_is_named_by_the_next_review() -> None:
    sources = Sources()
    count(sources, (f"/made-up/{number}" for number in range(3 * MAX_NAMED)))
    assert "/runaway" not in reported(sources)
    count(sources, ["/runaway"] * REVIEW_RECORDS, "clock_skew")
    before = reported(sources)[OTHER]
    count(sources, ["/runaway"] * 1_000, "clock_skew")

    found = reported(sources)

    assert found["/runaway"] == SourceReport("/runaway", 1_000, {"clock_skew": 1_000})
    assert found[OTHER] == before
    assert next(each.source for each in sources.report()) == "/runaway"


@pytest.mark.parametrize("name", [OTHER, UNKNOWN])
def test_a_source_of_a_shared_name_counts_there(name: str) -> None:
    sources = Sources()
    count(sources, [name] * 3, "malformed")

    assert [(each.source, each.records) for each in sources.report() if each.records] == [(name, 3)]
    assert reported(sources)[name].void == {"malformed": 3}


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (b'{"specversion":"1.0","source":"/gateway","type":"com.example.other"}', "/gateway"),
        (b'{"source":"/gateway","data":[1,2', UNKNOWN),
        (b"rubbish", UNKNOWN),
        (b'{"source":7}', UNKNOWN),
        (b'{"source":"' + b"x" * 257 + b'"}', UNKNOWN),
        (b'{"source":"two\\nlines"}', UNKNOWN),
        (b'["/gateway"]', UNKNOWN),
        (b"", UNKNOWN),
        (None, UNKNOWN),
        (b'{"source":"/gateway","data":"' + b"x" * MAX_RECORD_BYTES + b'"}', UNKNOWN),
        (b"[" * 100_000, UNKNOWN),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_source_of_a_record_without_an_event(value: bytes | None, source: str) -> None:
    assert source_of(value) == source
