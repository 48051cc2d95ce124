"""The soak, short: flat under a steady load, the digest that of a refold; and what it must find, it finds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from kafka_fixtures import SharedBroker

import lastseen
from tests.kafka.kafka_topics import new_url
from tests.soak import leaky, traffic, verdict
from tests.soak.__main__ import PARTITIONS, settings_of, table
from tests.soak.flat import Allowed, growth, judge
from tests.soak.run import Outcome, Plan, soak

pytestmark = pytest.mark.thorough

SECONDS = 12.0
FEW = {"max_sessions": 150, "max_body_bytes": 20_000}
"""So that both bite however slow the machine is."""


def short(url: str, folder: Path, **more: Any) -> Plan:
    """A short run: ended sessions are not remembered by the ten thousands in it."""
    return Plan(url, folder, **{"seconds": SECONDS, "peak_seconds": 2.5, "callers": 2, "fills": False, **more})


def run(plan: Plan, on_kafka: bool = False) -> tuple[Outcome, list[str]]:
    """The outcome of a plan, and what was said on the way."""
    said: list[str] = []
    settings = [{**each, **FEW} for each in settings_of(plan.folder, on_kafka, plan.processes)]
    outcome = soak(plan, settings, said.append)
    return outcome, said


def test_a_steady_load_leaves_everything_flat_and_the_log_says_the_same(tmp_path: Path) -> None:
    outcome, said = run(short(f"sqlite:///{tmp_path / 'log.db'}", tmp_path))
    assert outcome.is_good, table(outcome)
    assert 0 < outcome.held <= 1.1 * outcome.asked < outcome.peak, table(outcome)
    assert {"logout", "rotated", "idle", "suspend_ttl", "capacity"} <= outcome.ended.keys(), "too little went on"
    assert outcome.bodies["evictions"]["capacity"] > 0, "the cache of bodies had no work"
    assert outcome.bodies["misses"] > 0, "no body was read from the snapshot"
    assert {"a: memory", "b: descriptors", "a: threads", "b: lag records", "snapshot"} <= {
        f.name for f in outcome.found
    }
    assert any("calls/s" in line for line in said)


def test_the_same_on_a_broker(kafka_broker: SharedBroker, tmp_path: Path) -> None:
    outcome, _ = run(short(new_url(kafka_broker.address, PARTITIONS), tmp_path), on_kafka=True)
    assert outcome.is_good, table(outcome)
    assert outcome.ended["capacity"] > 0


def test_what_leaks_is_found(tmp_path: Path) -> None:
    plan = short(f"sqlite:///{tmp_path / 'log.db'}", tmp_path, seconds=5.0, processes=1, live=leaky.live)
    outcome, _ = run(plan)
    assert {found.name for found in outcome.found if not found.is_flat} >= {"a: memory", "a: descriptors", "a: threads"}
    assert not outcome.is_good
    assert "GROWS" in table(outcome)


def test_a_digest_that_is_another_is_found(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, background=False) as engine:
        engine.open("a")
        early = engine.checkpoints()
        engine.open("b")
        late = engine.checkpoints()
    assert verdict.differences(url, [early, late]) == []
    offset, _ = late[0]
    spoilt = {0: (offset, early[0][1])}
    (found,) = verdict.differences(url, [early, spoilt])
    assert f"partition 0 up to {offset}" in found


def test_the_memory_of_ended_sessions_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "REMEMBERED_ENDINGS", 2_500)
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}", background=False) as engine:
        assert traffic.fill_memory_of_the_dead(engine._log, engine.now_ms()) == 5_000
        engine.refresh()
        assert engine.statistics()["ended"] == {"logout": 2_500}


NOISE = random.Random(7)


@pytest.mark.parametrize(
    ("values", "is_flat"),
    [
        ([100.0] * 50, True),
        ([100 + NOISE.uniform(-20, 20) for _ in range(200)], True),
        ([100.0] * 40 + [900.0] * 9 + [100.0], True),  # something passing
        ([100 - number for number in range(50)], True),
        ([100 + number * 0.3 for number in range(50)], False),
        ([100 + number * 0.3 + NOISE.uniform(-5, 5) for number in range(1_000)], False),
    ],
)
def test_a_leak_is_distinguished_from_noise(values: list[float], is_flat: bool) -> None:
    samples = [(float(number), value) for number, value in enumerate(values)]
    assert judge("gauge", samples, Allowed(0.05, 1)).is_flat is is_flat


def test_the_slope_is_that_of_the_line() -> None:
    assert growth([(float(at), 3 * at + 5.0) for at in range(2_000)]) == pytest.approx(3 * 1_999)


def test_too_few_samples_tell_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge("gauge", [(1.0, 1.0)] * 9, Allowed(0, 1))
