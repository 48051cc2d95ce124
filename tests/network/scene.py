"""Two engines on machines of their own, with callers, on one topic; and what must hold of it all in the end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from lastseen.engine.log.port import Position
from lastseen.projections.partition import Outcome
from tests.kafka.kafka_topics import eventually, new_url
from tests.kafka.processes import Child
from tests.kafka.published import checkpoints_of, facts_due, facts_in, names, refold, states_in, states_of
from tests.network import remote_engine
from tests.network.network import Network
from tests.network.remote_engine import FRESH, READY, STOP, Report
from tests.patience import paced_s

PARTITIONS = 4
DELIVERY_S = 3.0
ANSWERED_WITHIN_S = 2 * DELIVERY_S + 2 * 10 + 4
"""By then a caller has an outcome: the time for delivery, as long for the callers before it, and, where its record was
acknowledged and one before it was not sent, twice the time for which a read waits; some for a busy machine."""
READ_WITHIN_S = 4.0
"""Reads need no broker; but the machine may have other work."""
SETTLED_WITHIN_S = 90.0
_logger = logging.getLogger(__name__)


class Scene:
    """The engines `one` and `two`, each on the machine of its name."""

    def __init__(self, network: Network, address: str, partitions: int = PARTITIONS) -> None:
        self.network = network
        self.partitions = partitions
        with network["watch"].inside():
            self.url = new_url(address, partitions)
        url = f"{self.url}?delivery_timeout_ms={DELIVERY_S * 1000:.0f}"
        self.one, self.two = (
            Child(remote_engine.live, network[name].path, url, name, {"member": name}) for name in ("one", "two")
        )
        self.engines = [self.one, self.two]

    def begin(self) -> None:
        """Start the engines, and wait until each owns its half."""
        for engine in self.engines:
            engine.start()
        assert eventually(self.shares, SETTLED_WITHIN_S), [each.ask().owned for each in self.engines]

    def end(self) -> None:
        """Kill what is left."""
        for engine in self.engines:
            engine.kill()

    def shares(self) -> bool:
        """Whether each owns a part, and together they own all."""
        one, two = self.one.ask().owned, self.two.ask().owned
        return bool(one) and bool(two) and not one & two and len(one | two) == self.partitions

    def goes_on(self, engine: Child, within_s: float = SETTLED_WITHIN_S) -> float:
        """How long it takes until callers of an engine are answered well again."""
        began_s, before = paced_s(), len(engine.ask().acknowledged)
        assert eventually(lambda: len(engine.ask().acknowledged) > before + 30, within_s), engine.ask().said
        return paced_s() - began_s

    def check(self) -> Counter[str]:
        """Let all come to rest, and compare the log with what every caller received; how writes have failed."""
        reports = [engine.ask(STOP) for engine in self.engines]
        for report in reports:
            assert report.surprises == []
            assert report.slowest_read_s < READ_WITHIN_S, f"reads wait for no broker: {report.slowest_read_s:.1f} s"
        assert eventually(self._is_quiet, SETTLED_WITHIN_S), [self._unrest(each) for each in self.engines]
        with self.network["watch"].inside():
            self._check_log(reports)
        return sum((report.failed for report in reports), Counter())

    def _is_quiet(self) -> bool:
        reports = [engine.ask() for engine in self.engines]
        fleeting = [key for report in reports for key in report.live if "fleeting" in key]
        if fleeting or any(report.health for report in reports) or reports[0].checkpoints != reports[1].checkpoints:
            return False
        return self.shares() and not any(engine.ask(READY) for engine in self.engines)

    def _differences(self) -> dict[str, object]:
        """How what engines hold, and what was published, differs from the log as it is by now.

        It may grow all the while: what a producer has given up is still on its way for some seconds.
        """
        published, due = names(facts_in(self.url)), facts_due(self.url)
        states, partitions = states_in(self.url), refold(self.url)
        live, reached = states_of(partitions), checkpoints_of(partitions)
        found: dict[str, object] = {}
        for name, engine in zip(("one", "two"), self.engines, strict=True):
            report = engine.ask()
            if (report.checkpoints, report.live) != (reached, live):
                found[name] = report.checkpoints, reached, _unlike(report.live, live)
        if published != due:
            found["facts"] = [(_without(a, b), _without(b, a)) for a, b in zip(published, due, strict=True)]
        if states != live:
            found["states"] = _unlike(states, live)
        return found

    @staticmethod
    def _unrest(engine: Child) -> dict[str, object]:
        report = engine.ask()
        fleeting = [key for key in report.live if "fleeting" in key]
        return {"due": fleeting, "health": report.health, "ready": engine.ask(READY), "owned": report.owned}

    def _check_log(self, reports: list[Report]) -> None:
        sessions: dict[Position, str] = {}
        values: Counter[bytes] = Counter()
        endings: Counter[str] = Counter()
        early: list[Outcome] = []

        def see(outcome: Outcome) -> None:
            record, ended, ending = outcome.record, outcome.ended, outcome.ending
            values[record.value or b""] += 1
            if outcome.session is not None:
                sessions[Position(record.partition, record.offset)] = outcome.session.session_id
            if ended is not None and ending is not None:
                endings[ended.session_id] += 1
                if "fleeting" in ended.key and (ending.reason, ending.at_ms) != ("idle", ended.deadline_ms()):
                    early.append(outcome)

        refold(self.url, see)
        acknowledged = [each for report in reports for each in report.acknowledged]
        assert [each for each in acknowledged if sessions.get(each[0]) != each[1]] == [], "acknowledged, and not there"
        assert len({at for at, _ in acknowledged}) == len(acknowledged), "two were given one place"
        assert [value for value, count in values.items() if count > 1] == [], "written twice"
        assert {each for report in reports for each in report.ended} <= set(endings), "ended, and not in the log"
        assert [each for each, count in endings.items() if count > 1] == [], "ended twice"
        assert early == [], "what is due ends at its deadline, with any announcer"
        assert eventually(lambda: not self._differences()), self._differences()
        _logger.info("%s acknowledged, %s records", len(acknowledged), sum(values.values()))


def _unlike(some: Mapping[str, object], others: Mapping[str, object]) -> dict[str, object]:
    """By key, what is not the same in both."""
    keys = sorted(some.keys() | others.keys())
    return {key: (some.get(key), others.get(key)) for key in keys if some.get(key) != others.get(key)}


def _without(some: Sequence[object], others: Sequence[object]) -> list[object]:
    """What of some is not among the others."""
    return [each for each in some if each not in others]


def bounded(report: Report) -> None:
    """What callers and readers of an engine have seen while it was cut off: typed errors in time, and reads."""
    assert report.surprises == []
    assert report.slowest_write_s < ANSWERED_WITHIN_S
    assert report.slowest_read_s < READ_WITHIN_S
    assert set(report.failed) & {"OutcomeUnknown", "LogUnavailable"}


def begin_afresh(engine: Child) -> Report:
    """Forget how slow it was so far."""
    report = engine.ask(FRESH)
    assert isinstance(report, Report)
    return report
