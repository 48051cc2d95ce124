"""A process that exists for the engine may take what it has loaded out of the collector's sight."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from stage import Stage


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


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
    again.touch("key")
    assert [session.key for session in again.list().sessions] == ["key"]
