"""The thread of the group: no exception ends it, of whatever kind and wherever it is raised. No broker is needed."""

from __future__ import annotations

from typing import Any

import pytest

from lastseen.engine.log import duty_health
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.kafka import group
from lastseen.engine.log.kafka.assignor import Assigned
from lastseen.engine.log.kafka.group import Membership
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.shared_log import Held, MemberSettings
from tests.patience import eventually


class Consumer:
    """A member of the group as far as the thread uses one; `poll` raises while it is broken."""

    is_broken = True
    left = 0

    def subscribe(self, _topics: list[str], listener: Any) -> None:
        """Partition 0 is assigned at once."""
        listener._membership.assigned(frozenset({0}), Assigned())

    def poll(self, timeout_ms: int) -> None:
        """Raise, or do nothing."""
        if Consumer.is_broken:
            raise RuntimeError(f"injected into a poll of {timeout_ms} ms")

    def close(self, **_: Any) -> None:
        """Leave the group; this fails too."""
        Consumer.left += 1
        raise ValueError("injected into close")


def test_membership_survives_any_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty_health, "RETRY_S", 0.01)
    monkeypatch.setattr(group, "finish_rebalance", lambda _: None)
    monkeypatch.setattr(Consumer, "is_broken", True)
    monkeypatch.setattr(Consumer, "left", 0)
    opened: list[int] = []

    def open_member(*_: Any, **__: Any) -> Consumer:
        opened.append(1)
        if len(opened) == 1:
            raise RuntimeError("injected into the opening")
        return Consumer()

    monkeypatch.setattr(group, "open_member", open_member)
    health = DutyHealth()
    url = parse_kafka_url("kafka://127.0.0.1:1/nowhere")
    membership = Membership(
        url, 1, MemberSettings(), lambda: Held(frozenset(), frozenset()), lambda: None, health
    )  # fmt: skip
    try:
        eventually(lambda: health.counts["group"] >= 3 and "group" in health.failures)
        assert "injected" in str(health.failures["group"])
        Consumer.is_broken = False
        eventually(lambda: not health.failures and membership.owned() == {0})
    finally:
        membership.close()
    assert membership.owned() == frozenset()
    assert len(opened) == Consumer.left + 1, "each member that joined has left"
