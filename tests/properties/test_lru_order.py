"""The LRU order in parts is one order, whatever happens; and no step of a partition costs what lives there."""

from __future__ import annotations

import json
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.log.port import Record
from lastseen.projections import lru_order
from lastseen.projections.lru_order import LruOrder
from lastseen.projections.partition import Partition

EPOCH_MS = 1_700_000_000_000
STEPS = st.lists(st.tuples(st.sampled_from(["use", "use", "use", "drop", "again"]), st.integers(0, 30)), max_size=120)


@given(STEPS)
def test_it_is_one_order(steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lru_order, "FEW", 5)
        patch.setattr(lru_order, "PARTS", 4)
        model: OrderedDict[str, Any] = OrderedDict()
        order: Any = LruOrder()
        for offset, (step, number) in enumerate(steps):
            key = f"key-{number}"
            if step == "use" and key in model:
                model[key].last_active_offset = offset
                model.move_to_end(key)
                order.move_to_end(key)
            elif step == "use":
                model[key] = order[key] = SimpleNamespace(key=key, last_active_offset=offset)
            elif step == "drop":
                assert order.pop(key) is model.pop(key, None)
            else:
                order = LruOrder(model.values())
            assert order.get(key) is model.get(key)
            assert (key in order) == (key in model)
            assert len(order) == len(model)
            assert list(order) == list(model)
            assert list(order.values()) == list(model.values())
            assert order.oldest() is next(iter(model.values()), None)
            assert len(model) < 20 or len(order.parts) == 4, "it comes in parts"


def test_nothing_of_a_partition_grows_as_one_piece() -> None:
    partition, many = Partition(0), 6_000
    for number in range(many):
        key, at = f"key-{number}", iso_from_ms(EPOCH_MS)
        data = {"session_id": f"session-{number:014d}", "policy": {}, "attributes": {"owner": f"owner-{number}"}}
        event = {
            "specversion": "1.0", "id": f"event-{number}", "source": "/service", "subject": key, "time": at,
            "type": "lastseen.session.created.v1", "datacontenttype": "application/json", "data": data,
        }  # fmt: skip
        partition.fold(Record(0, number, EPOCH_MS, key, json.dumps(event, separators=(",", ":")).encode()))
    assert len(partition.active) == len(partition.by_id) == len(partition.by_owner) == many
    for whole in (partition.active.parts, partition.by_id.parts(), partition.by_owner.parts()):
        assert max(map(len, whole)) < many / 16
