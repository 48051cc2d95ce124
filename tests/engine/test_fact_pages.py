"""Facts of the past under a prefix: the same facts, for the work of that prefix alone, in turns that are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import Stage
from test_replayed_facts import heard_live

from lastseen import Engine
from lastseen.projections import facts_replay
from lastseen.projections.facts_replay import FactPage

OTHERS = 1_200
"""Records of another tenant."""


class Work:
    """What replays read of an engine's log and history."""

    def __init__(self, engine: Engine, patch: pytest.MonkeyPatch) -> None:
        self.records = self.places = 0
        read, places_under = engine._log.read, engine._history.places_under

        def counted_read(*args: Any) -> Any:
            found = read(*args)
            self.records += len(found)
            return found

        def counted_places(*args: Any) -> Any:
            found = places_under(*args)
            self.places += len(found)
            return found

        patch.setattr(engine._log, "read", counted_read)
        patch.setattr(engine._history, "places_under", counted_places)

    def of_turns(self, pages: Iterator[FactPage]) -> Iterator[tuple[FactPage, int, int]]:
        """Each turn, with the records and the places that it read."""
        for page in pages:
            yield page, self.records, self.places
            self.records = self.places = 0


@pytest.fixture
def engine(stage: Stage) -> Engine:
    """Another tenant's records, with three of ours among them."""
    opened = stage.open()
    opened.open("ours:1")
    for number in range(OTHERS // 2):
        opened.create(f"theirs:{number}")
    opened.touch("ours:1")
    opened.touch_many([f"theirs:{number}" for number in range(OTHERS // 2)])
    opened.touch("ours:1")
    return opened


def test_a_tenant_that_owns_nothing_costs_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    end = engine.reached(0).offset + 1
    work = Work(engine, monkeypatch)
    (page,) = engine.facts_replay(0, "none:").pages(0, end)
    assert (page.facts, page.next_offset) == ([], end)
    assert (work.records, work.places) == (1, 0), "one record, to see that the log goes back so far"


def test_a_tenant_pays_for_its_own_records(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    end = engine.reached(0).offset + 1
    work = Work(engine, monkeypatch)
    (page,) = engine.facts_replay(0, "ours:").pages(0, end)
    assert [fact.kind for fact in page.facts] == ["created", "touched", "touched"]
    assert (work.records, work.places) == (1 + 3, 3)


def test_a_few_records_are_looked_at_one_by_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    end = engine.reached(0).offset + 1
    work = Work(engine, monkeypatch)
    (page,) = engine.facts_replay(0, "theirs:").pages(end - 2, end)
    assert len(page.facts) == 1
    assert work.places == 0, "the places of many records are not looked for to read two"


def test_no_turn_reads_more_than_its_bound(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_replay, "PAGE", 16)
    monkeypatch.setattr(facts_replay, "INDEX_PAGE", 32)
    engine = stage.open()
    engine.open("ours:1")
    for _ in range(100):
        engine.touch("ours:1")
    for number in range(100):
        engine.create(f"theirs:{number}")
    end = engine.reached(0).offset + 1
    work = Work(engine, monkeypatch)
    for prefix, start in (("", 0), ("theirs:", 0), ("ours:", 0), ("ours:", 95), ("none:", 0)):
        turns = list(work.of_turns(engine.facts_replay(0, prefix).pages(start, end)))
        assert turns[-1][0].next_offset == end
        offsets = [page.next_offset for page, _, _ in turns]
        assert offsets == sorted(offsets)
        for _, records, places in turns:
            assert records <= 2 * 16 + 1, "those that were read, and those that a fold begins with"
            assert places <= 32
    # The fold of a session from its beginning is divided, too: 95 records of the past come before the first fact.
    assert len(list(engine.facts_replay(0, "ours:").pages(95, 102))) >= 95 // 16


@settings(max_examples=30)
@given(st.integers(), st.floats(0, 1), st.sampled_from(["", "key-", "key-1", "a", "key-11"]), st.integers(1, 64))
def test_a_prefix_gives_the_facts_of_its_keys(seed: int, share: float, prefix: str, bound: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts_replay, "PAGE", bound)
        patch.setattr(facts_replay, "INDEX_PAGE", max(bound // 2, 1))
        patch.setattr(facts_replay, "MAX_PLACES", max(bound // 3, 1))
        stage = Stage(Path(folder), partitions=2)
        engine, heard = heard_live(stage, seed, 100)
        for number in range(2):
            end = engine.reached(number).offset + 1
            start = int(end * share)
            wanted = [
                fact
                for fact in heard
                if fact.id.partition == number and fact.id.offset >= start and fact.key.startswith(prefix)
            ]
            assert [
                fact for page in engine.facts_replay(number, prefix).pages(start, end) for fact in page.facts
            ] == wanted
        stage.end()
