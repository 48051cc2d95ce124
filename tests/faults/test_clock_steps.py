"""The wall clock of a working process is stepped: no lie, no session ended before its log time, and it recovers.

On SQLite the log's clock *is* this machine's, so both step together, and log time never goes back. On Kafka the
broker's clock is right, and only the engine's process is wrong.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_fixtures import SharedBroker

import lastseen
from lastseen.projections.partition import Outcome
from tests.durability.test_exhaustion import said
from tests.faults.stepping import stepped
from tests.kafka.kafka_topics import eventually, new_url
from tests.kafka.published import checkpoints_of, refold
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough

BACKWARD = """
engine = lastseen.open_engine(url, idle_ttl="30m", snapshot_interval=50)
kept = engine.open("kept")
callers = Callers(engine)
callers.start()
callers.goes_on("done")
step({by!r})
callers.goes_on("ClockSkew")
refused(lambda: engine.touch("kept"))
refused(lambda: engine.open("new"))
assert engine.get("kept").session_id == kept.session_id, "reads go on"
assert engine.get("new") is None
engine.flush()
assert engine.prune().due == []
step("+0")
callers.goes_on("done")
touched = engine.touch("kept")
assert touched.session_id == kept.session_id and touched.version == 2
outcomes = callers.end()
assert set(outcomes) == {{"done", "ClockSkew"}}, outcomes
assert callers.slowest_s < 5, callers.slowest_s
statistics = engine.statistics()
assert statistics["ended"] == {{}} and set(statistics["void"]) == {{"clock_skew"}}, statistics
assert engine.health() == {{}}
labels = [entry.verdict.label for entry in engine.history("kept")]
assert labels == ["applied", "clock_skew", "applied"], labels
checkpoints = engine.checkpoints()
engine.shutdown()
engine = lastseen.open_engine(url, background=False)
assert engine.checkpoints() == checkpoints and engine.refold() == [] and engine.notes == []
engine.shutdown()
"""
FORWARD_WITHIN_LIMITS = """
engine = lastseen.open_engine(url, idle_ttl="30m", snapshot_interval=50)
kept = engine.open("kept")
callers = Callers(engine)
callers.start()
callers.goes_on("done")
step("+15m")
callers.goes_on("done")
assert engine.touch("kept").session_id == kept.session_id
# A quarter of an hour may come between the time that an event bears and the log's.
assert callers.outcomes.pop("ClockSkew", 0) <= 1 and set(callers.outcomes) == {"done"}, callers.outcomes
step("+0")
callers.goes_on("ClockSkew")
refused(lambda: engine.touch("kept"))
assert engine.get("kept").session_id == kept.session_id, "reads go on"
step("+6m")  # as it is 6 minutes later: log time is less than 10 minutes ahead now
callers.goes_on("done")
assert engine.touch("kept").session_id == kept.session_id
outcomes = callers.end()
assert set(outcomes) == {"done", "ClockSkew"}, outcomes
assert callers.slowest_s < 5, callers.slowest_s
assert engine.statistics()["ended"] == {} and engine.health() == {}
assert engine.refold() == []
engine.shutdown()
"""
FORWARD_BEYOND_LIMITS = """
engine = lastseen.open_engine(url, idle_ttl="30m", snapshot_interval=50)
brief, lasting = engine.open("brief"), engine.open("lasting", policy=lastseen.policy(idle_ttl="1d"))
suspended = engine.open("suspended")
engine.suspend("suspended")
step("+2h")
assert engine.get("brief") is None, "what is due by the log's clock is not seen alive"
assert engine.touch("lasting").session_id == lasting.session_id
engine.prune()  # as the pruner does within a minute
life = engine.last_session_span("brief")
assert life.reason == "idle" and life.ended_at_ms == brief.last_active_at_ms + 30 * 60_000, life
step("+0")
for key in ("lasting", "suspended"):
    refused(lambda: engine.close(key))
refused(lambda: engine.open("brief"))
assert engine.get("lasting").session_id == lasting.session_id, "reads go on"
step("+111m")  # as it is so much later: log time is less than 10 minutes ahead now
assert engine.touch("lasting").session_id == lasting.session_id
assert engine.resume("suspended").session_id == suspended.session_id
assert engine.open("brief").session_id != brief.session_id
assert engine.statistics()["ended"] == {"idle": 1} and engine.health() == {}
assert engine.refold() == []
engine.shutdown()
"""
BETWEEN_WRITES = """
engine = lastseen.open_engine(url, idle_ttl="30m", prune=False)
kept = engine.open("kept")
step("+2h")
assert engine.get("kept") is None
step("+0")
assert engine.get("kept").session_id == kept.session_id and engine.touch("kept").version == 2
engine.shutdown()
"""
ON_KAFKA = """
engine = lastseen.open_engine(url, idle_ttl="30m")
kept = engine.open("kept")
callers = Callers(engine)
callers.start()
callers.goes_on("done")
print(kept.session_id, flush=True)
for line in sys.stdin:
    by, outcome = line.split()
    step(by)
    callers.goes_on(outcome)
    if outcome == "ClockSkew":
        refused(lambda: engine.open("other"))
    if by.startswith("+") and outcome == "ClockSkew":
        engine.prune()  # its own clock says that much is due; the log says otherwise
    if outcome == "done":
        assert engine.touch("kept").session_id == kept.session_id
    print(outcome, flush=True)
outcomes = callers.end()
# Two hours may come between a caller's two calls: what he has just opened is over by the clock then.
assert outcomes.pop("SessionEnded", 0) <= 1, outcomes
assert set(outcomes) == {"done", "ClockSkew"}, outcomes
assert callers.slowest_s < 5, callers.slowest_s
assert engine.health() == {}, engine.health()
engine.shutdown()
"""


def run(script: str, url: str, folder: Path) -> None:
    """Run a script to its end."""
    with stepped(script, url, folder) as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}"


@pytest.mark.parametrize("by", ["-15m", "-2h"])
def test_set_back_it_refuses_writes_and_ends_nothing_until_it_is_right(url: str, tmp_path: Path, by: str) -> None:
    run(BACKWARD.format(by=by), url, tmp_path)


def test_set_forward_within_the_limits_no_session_ends(url: str, tmp_path: Path) -> None:
    run(FORWARD_WITHIN_LIMITS, url, tmp_path)


def test_set_forward_beyond_a_limit_ends_by_log_time_and_what_lasts_longer_stays(url: str, tmp_path: Path) -> None:
    run(FORWARD_BEYOND_LIMITS, url, tmp_path)


def test_set_forward_and_back_while_nothing_is_written_leaves_no_trace(url: str, tmp_path: Path) -> None:
    run(BETWEEN_WRITES, url, tmp_path)


@pytest.fixture
def topic(kafka_broker: SharedBroker) -> str:
    return new_url(kafka_broker.address, 2)


@pytest.fixture
def beside(topic: str) -> Iterator[lastseen.Engine]:
    """An engine whose clock is right."""
    with lastseen.open_engine(topic, idle_ttl="30m") as engine:
        yield engine


def test_on_kafka_an_engine_with_a_wrong_clock_affects_no_other(
    topic: str, beside: lastseen.Engine, tmp_path: Path
) -> None:
    with stepped(ON_KAFKA, topic, tmp_path) as process:
        session_id = said(process)
        assert session_id, said_wrong(process)
        for by in ("+2h", "-2h", "+15m", "-15m"):
            for order in (f"{by} ClockSkew\n", "+0 done\n"):
                tell_line(process, order)
                assert said(process) == order.split()[1], said_wrong(process)
                touched = beside.touch("kept")
                assert touched is not None
                assert touched.session_id == session_id, "the others go on with it all the time"
        # A little behind is tolerated: what is late on its way looks the same.
        tell_line(process, "-5m done\n")
        assert said(process) == "done", said_wrong(process)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
    ended: list[Outcome] = []
    partitions = refold(topic, lambda outcome: ended.append(outcome) if outcome.ended is not None else None)
    assert ended == [], "a wrong clock ends nothing"
    assert eventually(lambda: beside.checkpoints() == checkpoints_of(partitions))
    assert set(beside.statistics()["void"]) == {"clock_skew"}


def tell_line(process: subprocess.Popen[str], line: str) -> None:
    """Say something to a process."""
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def said_wrong(process: subprocess.Popen[str]) -> str:
    """Why a process has ended."""
    process.kill()
    return process.communicate()[1]
