"""An engine that stands still past its session timeout, or is killed: others do its duties, and it does no harm."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastseen.projections.partition import Outcome
from tests.kafka import chaos_caller, chaos_engine
from tests.kafka.kafka_topics import eventually, new_url
from tests.kafka.processes import Child
from tests.kafka.published import checkpoints_of, facts_due, facts_in, names, refold, states_in, states_of
from tests.kafka_fixtures import SharedBroker
from tests.patience import paced_s

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
TAKEN_OVER_WITHIN_S = 15.0
NO_PAUSE_S = 2.0
"""No append may take longer than this, with any owners; with nothing wrong it is some milliseconds."""
_logger = logging.getLogger(__name__)


class Scene:
    """Two engines that share the duties on a topic, and a service that uses sessions on it all the time."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.one, self.two = (
            Child(chaos_engine.live, url, {"snapshot": str(folder / f"{name}.snapshot")}) for name in ("one", "two")
        )
        self.caller = Child(chaos_caller.use, url)
        self.children = [self.one, self.two, self.caller]

    def begin(self) -> None:
        """Start everything, and wait until each engine owns its half and has had something to do."""
        for child in self.children:
            child.start()
        reports: list[chaos_engine.Report] = []

        def is_in_progress() -> bool:
            reports[:] = [self.one.ask(), self.two.ask()]
            return self.shared() and all(report.announced for report in reports)

        assert eventually(is_in_progress), [report._replace(live={}) for report in reports]
        self.caller.ask()

    def shared(self) -> bool:
        """Whether each owns its half."""
        one, two = self.one.ask().owned, self.two.ask().owned
        return len(one) == len(two) == PARTITIONS // 2 and one | two == ALL

    def await_successor(self, since_s: float, lost: frozenset[int]) -> float:
        """How long it took until the second engine had done what the first had left undone, everywhere."""
        ends = {number: at for number, (at, _) in self.two.ask().checkpoints.items()}
        pending = {key for key in self.two.ask().live if key.startswith("fleeting-")}

        def has_taken_over() -> bool:
            report = self.two.ask()
            published = all(report.published.get(number, -1) >= ends[number] for number in ALL)
            return report.owned == ALL and published and not pending & report.live.keys()

        assert pending
        assert lost
        assert eventually(has_taken_over, 4 * TAKEN_OVER_WITHIN_S), self.two.ask()._replace(live={})
        return paced_s() - since_s

    def check(self, *engines: Child) -> None:
        """All is quiet: the log is sound, the engines agree with it, and everything was published."""
        used = self.caller.ask(chaos_caller.STOP)
        assert used.failures == []

        def is_quiet() -> bool:
            reports = [engine.ask() for engine in engines]
            return all(set(each.live) == set(chaos_caller.KEPT) for each in reports)

        assert eventually(is_quiet), "what is due is announced"
        wrong: list[Outcome] = []
        partitions = refold(self.url, lambda outcome: wrong.append(outcome) if is_wrong(outcome) else None)
        assert wrong == []
        for engine in engines:
            report = engine.ask()
            assert report.checkpoints == checkpoints_of(partitions)
            assert report.live == states_of(partitions)
            assert report.health == []
        assert {key: state["session_id"] for key, state in states_of(partitions).items()} == used.session_ids
        expected = facts_due(self.url)
        assert eventually(lambda: names(facts_in(self.url)) == expected)
        assert eventually(lambda: states_in(self.url) == states_of(partitions))


def is_wrong(outcome: Outcome) -> bool:
    """Whether a session ended too early, or not for its idleness."""
    ended, ending = outcome.ended, outcome.ending
    if ended is None or ending is None:
        return False
    return ending.reason != "idle" or ending.at_ms != ended.deadline_ms() or outcome.at_ms < ending.at_ms


@pytest.fixture
def scene(kafka_broker: SharedBroker, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(new_url(kafka_broker.address, PARTITIONS), tmp_path)
    try:
        scene.begin()
        yield scene
    finally:
        for child in scene.children:
            child.kill()


@pytest.mark.thorough
def test_an_engine_that_stood_still_is_harmless(scene: Scene) -> None:
    lost = scene.one.ask().owned
    scene.one.freeze()
    stopped_s = paced_s()
    taken_s = scene.await_successor(stopped_s, lost)
    used = scene.caller.ask()
    scene.one.thaw()
    _logger.info("frozen: taken over after %.1f s; largest gap %.3f s", taken_s, used.largest_gap_s)
    assert taken_s < TAKEN_OVER_WITHIN_S
    assert used.largest_gap_s < NO_PAUSE_S
    assert eventually(scene.shared), "it has its share again"
    scene.check(scene.one, scene.two)


@pytest.mark.thorough
def test_the_duties_of_a_killed_engine_are_taken_over(scene: Scene) -> None:
    lost = scene.one.ask().owned
    scene.one.kill()
    taken_s = scene.await_successor(paced_s(), lost)
    used = scene.caller.ask()
    _logger.info("killed: taken over after %.1f s; largest gap %.3f s", taken_s, used.largest_gap_s)
    assert taken_s < TAKEN_OVER_WITHIN_S
    assert used.largest_gap_s < NO_PAUSE_S
    scene.check(scene.two)
