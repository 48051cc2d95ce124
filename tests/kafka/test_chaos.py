"""kill −9 at random moments: two engines and four writers on one topic, with real chat. Nothing acknowledged is lost.

`LASTSEEN_KAFKA_CYCLES` sets the number of kills (20). A failing run prints its seed; `LASTSEEN_KAFKA_SEED` sets it.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from lastseen.engine import events
from lastseen.engine.log.port import Position
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition
from tests.kafka import chaos_engine, chaos_writer
from tests.kafka.chaos_writer import WRITERS, acknowledged_in, is_fleeting
from tests.kafka.kafka_topics import eventually, new_url
from tests.kafka.processes import Child
from tests.kafka.published import checkpoints_of, facts_due, facts_in, names, refold, states_in, states_of
from tests.kafka_fixtures import SharedBroker

CYCLES = int(os.environ.get("LASTSEEN_KAFKA_CYCLES", "20"))
SEED = int(os.environ.get("LASTSEEN_KAFKA_SEED", str(random.SystemRandom().randrange(10**9))))
CYCLES_A_TOPIC = 50
FEW_CYCLES = 4
"""Kills on one topic before the next begins with an empty one."""
PARTITIONS = 4
PROGRESS_BYTES = 6_000
"""How much the writers acknowledge, at most, from one kill to the next: some 400 events."""
SETTLED_WITHIN_S = 90
_logger = logging.getLogger(__name__)


class Lost(AssertionError):
    """Something acknowledged is not in the log, or the log, the engines and what was published disagree."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} (LASTSEEN_KAFKA_SEED={SEED})")


class Chaos:
    """A topic, the processes that use it, and what they received."""

    def __init__(self, address: str, folder: Path, seed: int, *, is_broken: bool = False) -> None:
        self.url = new_url(address, PARTITIONS)
        self.chance = random.Random(seed)
        self.files = [folder / f"acknowledged-{number}" for number in range(WRITERS)]
        self.engines = [
            Child(chaos_engine.live, self.url, settings(folder / "one.snapshot") | {"member": "one"}),
            Child(chaos_engine.live, self.url, settings(folder / "two.snapshot")),
        ]
        self.writers = [
            Child(chaos_writer.write, self.url, file, share, self.chance.randrange(10**9), is_broken)
            for share, file in enumerate(self.files)
        ]

    def __enter__(self) -> Chaos:
        try:
            for child in [*self.engines, *self.writers]:
                child.start()
            for child in [*self.engines, *self.writers]:
                child.wait_until_open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in [*self.engines, *self.writers]:
            child.kill()

    def kill_one(self) -> None:
        """Let the writers get some way, and then kill one at random, and start it again."""
        enough = self.written() + self.chance.randrange(PROGRESS_BYTES)
        assert eventually(lambda: self.written() >= enough, SETTLED_WITHIN_S), "the writers stand still"
        victim = self.chance.choice([*self.engines, *self.engines, *self.writers])
        victim.kill()
        victim.start()

    def written(self) -> int:
        """How many bytes of acknowledgements there are."""
        return sum(file.stat().st_size for file in self.files)

    def settle(self) -> list[chaos_engine.Report]:
        """Stop the writers, and wait until the engines have done all that there is to do; what they say then."""
        for writer in self.writers:
            writer.kill()
        reports: list[chaos_engine.Report] = []

        def is_settled() -> bool:
            reports[:] = [engine.ask() for engine in self.engines]
            return is_all_done(reports)

        if not eventually(is_settled, SETTLED_WITHIN_S):
            raise Lost(f"the engines do not come to rest: {[each._replace(live={}) for each in reports]}")
        return reports


def settings(snapshot: Path) -> dict[str, object]:
    """An engine that keeps all that it can lose."""
    return {"snapshot": str(snapshot), "snapshot_interval": 50, "archive_interval": "2s", "max_body_bytes": 20_000}


def is_all_done(reports: list[chaos_engine.Report]) -> bool:
    """Whether all partitions have one owner each, which has published all, and what is short-lived has ended."""
    owned = sorted(number for report in reports for number in report.owned)
    if owned != list(range(PARTITIONS)) or any(map(is_fleeting, (key for each in reports for key in each.live))):
        return False
    ends = {number: checkpoint for number, (checkpoint, _) in reports[0].checkpoints.items()}
    return all({number: each.checkpoints[number][0] for number in ends} == ends for each in reports)


class Folded:
    """The log, folded once more, with what matters to those who wrote it."""

    def __init__(self, url: str) -> None:
        self.placed: dict[int, list[Position]] = defaultdict(list)
        """Where the event of each line stands; more than once, if it was written more than once."""
        self.verdicts: dict[Position, Verdict] = {}
        self.endings: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.partitions = refold(url, self._see)

    def _see(self, outcome: Outcome) -> None:
        at = Position(outcome.record.partition, outcome.record.offset)
        self.verdicts[at] = outcome.verdict
        event, ended, ending = outcome.event, outcome.ended, outcome.ending
        assert event is not None, f"no writer has written the rubbish at {at}"
        if event.source == chaos_writer.SOURCE:
            self.placed[int(event.id.removeprefix("line-"))].append(at)
        if ended is None or ending is None:
            return
        self.endings[ended.session_id] += 1
        expected = ("logout", None) if not is_fleeting(ended.key) else ("idle", ended.deadline_ms())
        if ending.reason != expected[0] or expected[1] not in (None, ending.at_ms):
            self.wrong.append(f"{ended.session_id} under {ended.key} ended for {ending.reason} at {ending.at_ms}")


def check_acknowledged(chaos: Chaos, folded: Folded) -> int:
    """Everything acknowledged is there, where it was said to be, and took effect once; how much that is."""
    acknowledged = [acknowledged_in(file) for file in chaos.files]
    for number, at in itertools.chain(*acknowledged):
        if number not in folded.placed:
            raise Lost(f"the event of line {number} was acknowledged at {at}, and is not in the log")
    for share, published in enumerate(acknowledged):
        steps = chaos_writer.steps(share)
        for number, at in published:
            step = next(step for step in steps if step.number >= number)
            if step.number != number:
                raise Lost(f"line {number} was acknowledged twice, or out of turn")
            check_effect(step, at, folded.placed[number], folded)
    return sum(map(len, acknowledged))


def check_effect(step: chaos_writer.Step, at: Position, places: list[Position], folded: Folded) -> None:
    """An event stands where it was said to, and has taken effect once, however often it was written."""
    if at not in places:
        raise Lost(f"the event of line {step.number} was acknowledged at {at}, and stands at {places}")
    applied = [place for place in places if folded.verdicts[place] is Verdict.APPLIED]
    if len(applied) > 1 or (not applied and not is_fleeting(step.key)):
        raise Lost(f"the event of line {step.number} took effect {len(applied)} times, at {applied} of {places}")
    if not applied and {folded.verdicts[place] for place in places} != {Verdict.EXISTS}:
        raise Lost(f"the event of line {step.number} is void for no reason: {places}")


def check_endings(folded: Folded) -> None:
    """Every session that came to its end has ended once, for the right reason, at the right time."""
    doubled = [session_id for session_id, count in folded.endings.items() if count > 1]
    if doubled:
        raise Lost(f"sessions ended twice: {doubled}")
    if folded.wrong:
        raise Lost(f"sessions ended wrongly: {folded.wrong}")
    left = [key for part in folded.partitions for key in [*part.active, *part.suspended] if is_fleeting(key)]
    if left:
        raise Lost(f"due, and never announced: {left}")


def check_published(chaos: Chaos, partitions: list[Partition]) -> int:
    """Everything was published, in order, and nothing else; how many facts that is."""
    expected = facts_due(chaos.url)
    if not eventually(lambda: names(facts_in(chaos.url)) == expected, SETTLED_WITHIN_S):
        found = names(facts_in(chaos.url))
        missing = [sorted(set(want) - set(have))[:5] for want, have in zip(expected, found, strict=True)]
        raise Lost(f"facts are missing or strange: missing are {missing}")
    if not eventually(lambda: states_in(chaos.url) == states_of(partitions), SETTLED_WITHIN_S):
        raise Lost("the topic of states is not the live view")
    return sum(map(len, expected))


def check_all(chaos: Chaos) -> tuple[int, int]:
    """All that is promised; how many events were acknowledged, and how many facts there are."""
    reports = chaos.settle()
    folded = Folded(chaos.url)
    acknowledged = check_acknowledged(chaos, folded)
    check_endings(folded)
    for report in reports:
        if report.checkpoints != checkpoints_of(folded.partitions):
            raise Lost(f"an engine has other digests than the log: {report.checkpoints}")
        if report.live != states_of(folded.partitions):
            raise Lost("an engine has other sessions than the log")
        if report.notes or report.health:
            raise Lost(f"a kill did damage: {report.notes} {report.health}")
    return acknowledged, check_published(chaos, folded.partitions)


def test_engines_and_writers_are_killed(kafka_broker: SharedBroker, tmp_path: Path) -> None:
    kill_and_check(kafka_broker, tmp_path, SEED, FEW_CYCLES)


@pytest.mark.thorough
@pytest.mark.parametrize("shard", range(-(-CYCLES // CYCLES_A_TOPIC)))
def test_engines_and_writers_are_killed_many_times(kafka_broker: SharedBroker, tmp_path: Path, shard: int) -> None:
    cycles = min(CYCLES_A_TOPIC, CYCLES - shard * CYCLES_A_TOPIC)
    kill_and_check(kafka_broker, tmp_path, SEED + 1 + shard, cycles)


def kill_and_check(kafka_broker: SharedBroker, folder: Path, seed: int, cycles: int) -> None:
    """Kill so many times, then see that nothing is lost and that all engines agree."""
    with Chaos(kafka_broker.address, folder, seed) as chaos:
        for _ in range(cycles):
            chaos.kill_one()
        acknowledged, facts = check_all(chaos)
        begun = [
            (engine.starts, sum(report.begun_at.values()))
            for engine, report in zip(chaos.engines, chaos.settle(), strict=True)
        ]
    _logger.info(
        "seed %s, %s kills: %s events acknowledged, %s facts; starts and records from snapshots: %s",
        seed,
        cycles,
        acknowledged,
        facts,
        begun,
    )
    assert acknowledged > 50 * cycles, "the writers did next to nothing, so nothing was shown"
    assert facts > acknowledged / 4


@pytest.mark.thorough
def test_a_log_that_acknowledges_before_it_writes_is_caught(kafka_broker: SharedBroker, tmp_path: Path) -> None:
    with Chaos(kafka_broker.address, tmp_path, SEED, is_broken=True) as chaos:
        assert eventually(lambda: chaos.written() > PROGRESS_BYTES)
        # Written later after all, an event is not at the offset that its writer received.
        with pytest.raises(Lost, match=r"is not in the log|was acknowledged at .* and stands at"):
            check_all(chaos)


def test_events_are_what_the_recording_says() -> None:
    first = [next(chaos_writer.steps(share)) for share in range(WRITERS)]
    assert len({step.key for step in first}) == WRITERS
    assert {step.kind for step in first} == {events.Created}
