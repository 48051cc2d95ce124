"""A process that exists for the engine may take what it has loaded out of the collector's sight."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from stage import Stage

from lastseen.embedded.garbage_collection import THRESHOLDS, freeze_after_start


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # an engine of another test may have raised them, which is for good
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.parametrize("freeze", [True, False])
def test_what_is_loaded_is_frozen_if_asked_for(on_disk: Stage, freeze: bool) -> None:
    engine = on_disk.open()
    engine.open("key")
    engine.shutdown()
    again = on_disk.open(freeze=freeze)
    # Unfreezing puts everything frozen among the oldest: before that, they are not there.
    lru = again._views.partitions[0].active
    assert (gc.get_freeze_count() > 0) is freeze
    assert any(each is lru for each in gc.get_objects()) is not freeze
    assert (gc.get_threshold() == THRESHOLDS) is freeze
    again.touch("key")
    assert [session.key for session in again.list().sessions] == ["key"]


@pytest.mark.parametrize(
    ("before", "after"),
    [((700, 10, 10), THRESHOLDS), ((100_000, 10, 100), (100_000, 20, 100)), ((0, 10, 10), (0, 10, 10))],
)
def test_the_collector_looks_less_often_but_is_not_switched_on(
    before: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    gc.set_threshold(*before)
    freeze_after_start()
    assert gc.get_threshold() == after
