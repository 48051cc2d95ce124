"""The network between engine and broker is cut, both ways or one, is slow, loses packets, or comes and goes."""

from __future__ import annotations

import logging
import random
import time

import pytest
from scene import ANSWERED_WITHIN_S, Scene, begin_afresh, bounded

from tests.kafka.kafka_topics import eventually
from tests.network.namespace import Namespace, NoNamespaces
from tests.network.remote_engine import READY
from tests.patience import paced_s

pytestmark = pytest.mark.thorough

SAID_WITHIN_S = 25.0
"""What runs in the background asks the broker, and waits 10 s for an answer."""
TAKEN_OVER_WITHIN_S = 25.0
"""The group waits 10 s for a silent owner, and then for the others to answer."""
FLAPS_S = 8.0
SEED = 2026
_logger = logging.getLogger(__name__)


def test_an_owner_that_is_cut_off_hands_over_and_comes_back(scene: Scene) -> None:
    lost = begin_afresh(scene.one).owned
    assert lost
    scene.network.separate(["one"], ["broker", "two", "watch"])
    cut_s = paced_s()
    assert eventually(lambda: len(scene.two.ask().owned) == scene.partitions, TAKEN_OVER_WITHIN_S), "handed over"
    handed_s = paced_s() - cut_s
    report = scene.one.ask()
    bounded(report)
    assert report.reads > 20, "reads go on from the view"
    assert eventually(lambda: bool(scene.one.ask().health), SAID_WITHIN_S), "what goes wrong is said"
    assert {"log", "lag"} <= set(scene.one.ask(READY)), "and that it is unknown how far the view is behind"
    scene.network.restore()
    resumed_s = scene.goes_on(scene.one)
    failed = scene.check()
    _logger.info("cut off: handed over after %.1f s, resumed after %.1f s; %s", handed_s, resumed_s, dict(failed))


@pytest.mark.parametrize(("sender", "receiver"), [("one", "broker"), ("broker", "one")])
def test_one_way_is_cut(scene: Scene, sender: str, receiver: str) -> None:
    begin_afresh(scene.one)
    scene.network.cut(sender, receiver)
    assert eventually(lambda: scene.one.ask().failed.total() > 0, ANSWERED_WITHIN_S), "callers hear of it"
    scene.goes_on(scene.two)
    bounded(scene.one.ask())
    assert scene.network.lost(sender, receiver) > 0
    scene.network.restore()
    resumed_s = scene.goes_on(scene.one)
    failed = scene.check()
    _logger.info("%s to %s cut: resumed after %.1f s; %s", sender, receiver, resumed_s, dict(failed))


def test_a_slow_and_lossy_way_costs_time_and_nothing_else(scene: Scene) -> None:
    begin_afresh(scene.one)
    for sender, receiver in (("one", "broker"), ("broker", "one")):
        scene.network.change(sender, receiver, delay_ms=30, jitter_ms=20, loss=0.03)
    took_s = scene.goes_on(scene.one) + scene.goes_on(scene.one)
    assert scene.network.lost("one", "broker") + scene.network.lost("broker", "one") > 5
    report = scene.one.ask()
    assert report.surprises == []
    assert report.slowest_write_s > 0.06, "there and back"
    scene.network.restore()
    failed = scene.check()
    _logger.info(
        "slow and lossy: %.1f s for 60 writes, slowest %.2f s; %s", took_s, report.slowest_write_s, dict(failed)
    )


def test_a_network_that_comes_and_goes(scene: Scene) -> None:
    begin_afresh(scene.one)
    chance, until_s = random.Random(SEED), paced_s() + FLAPS_S
    flaps = 0
    while paced_s() < until_s:
        scene.network.separate(["one"], ["broker"])
        time.sleep(chance.uniform(0.1, 1.0))  # waits: a cut has its length
        scene.network.restore()
        time.sleep(chance.uniform(0.1, 1.0))  # waits: so has the time between two
        flaps += 1
    scene.goes_on(scene.one)
    failed = scene.check()
    _logger.info("%s flaps: %s", flaps, dict(failed))


def test_without_the_right_to_make_namespaces_the_error_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("tests.network.namespace._call", refuse)
    with pytest.raises(NoNamespaces, match="that takes root"):
        Namespace("192.0.2.9")
