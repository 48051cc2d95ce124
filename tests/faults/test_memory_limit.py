"""A working engine under a real memory limit: bodies leave memory, nothing is lost, and no process is killed for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lastseen
from benchmarks.workload import fill, key_of
from lastseen.embedded import memory_pressure
from lastseen.engine.clock import SystemClock
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.session import Policy
from tests.faults.limited import a_cgroup, limited
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough

MIB = 1024 * 1024
LIMIT_BYTES = 112 * MIB
SESSIONS = 20_000
BODIES = """
import json, sys, threading
import lastseen
url, limit_bytes = sys.argv[1], int(sys.argv[2])
engine = lastseen.open_engine(
    url, idle_ttl="1h", max_body_bytes=2**40, max_memory_bytes=limit_bytes or None, snapshot_interval=INTERVAL
)
limit_bytes, highest, failures = engine._maintenance.memory_relief.pressure.limit_bytes, 0.0, []

def use(caller):
    try:
        for number in range(EACH):
            key = f"{caller}:{number}"
            engine.open(key, attributes={"state": "y" * 16_000})
            engine.touch(key, message={"text": "x" * 16_000})
            assert len(engine.messages(key)) == 1
    except BaseException as error:
        failures.append(repr(error))

callers = [threading.Thread(target=use, args=(number,)) for number in range(3)]
for caller in callers:
    caller.start()
while any(caller.is_alive() for caller in callers):
    highest = max(highest, engine.memory_share())
    callers[0].join(0.02)
assert failures == [], failures
for number in range(0, EACH, 7):
    for caller in range(3):
        (message,) = engine.messages(f"{caller}:{number}")
        assert len(message.json) > 16_000
        assert engine.get(f"{caller}:{number}").attributes == {"state": "y" * 16_000}
assert engine.health() == {}, engine.health()
digest = engine.checkpoints()
assert engine.refold() == []
print(json.dumps({"limit": limit_bytes, "highest": highest, "statistics": engine.statistics(), "digest": digest[0]}))
engine.shutdown()
"""
WORK = f"""
SESSIONS = {SESSIONS}
import json, sys, threading
import lastseen
from benchmarks.workload import fill, key_of
from lastseen.engine.session import Policy
url, limit_bytes = sys.argv[1], int(sys.argv[2])

def work(engine):
    for start in range(0, SESSIONS, 2_000):
        engine.touch_many([key_of(number) for number in range(start, start + 2_000)])
"""
START = """
import json, sys
import lastseen
with lastseen.open_engine(sys.argv[1], max_memory_bytes=int(sys.argv[2]) or None) as engine:
    print(json.dumps([engine.checkpoints()[0], engine.count(), engine.notes]))
"""
MEASURE = """
from lastseen.embedded.memory_pressure import trim_heap
with lastseen.open_engine(url, background=False) as engine:
    work(engine)
    engine.flush()
    trim_heap()
    print(json.dumps(int(engine.memory_share() * engine._maintenance.memory_relief.pressure.limit_bytes)))
"""
EVICT = """
engine = lastseen.open_engine(
    url, max_memory_bytes=limit_bytes or None, snapshot_interval="100ms", evict_on_pressure=True, archive_interval=None
)
work(engine)
wait, more = threading.Event(), 0
while not engine.statistics()["ended"]:
    # More and more, until it is too much.
    assert more < 2 * SESSIONS, f"nothing ends at {engine.memory_share()}"
    fill(engine._log, 1_000, engine.now_ms(), Policy(idle_ttl_ms=86_400_000), first=SESSIONS + more)
    more += 1_000
    wait.wait(0.3)
counts = [engine.count()]
while len(counts) < 25 or len(set(counts[-25:])) > 1:
    # Until no more have ended for 2.5 s.
    assert len(counts) < 600, f"it never stops: {counts[-1]} at {engine.memory_share()}"
    wait.wait(0.1)
    counts.append(engine.count())
for number in range(300):
    engine.open(f"later:{number}")
assert engine.health() == {}, engine.health()
print(json.dumps({"more": more, "share": engine.memory_share(), "counts": counts}))
engine.shutdown()
"""


def run(script: str, url: str, limit_bytes: int) -> Any:
    """What a script says at its end, under a limit; none was killed for lack of memory."""
    with a_cgroup(limit_bytes) as cgroup, limited(script, [url], limit_bytes, cgroup) as process:
        out, errors = process.communicate(timeout=PATIENCE_S)
        kills = cgroup.kills() if cgroup is not None else 0
        assert (process.returncode, kills) == (0, 0), errors
    return json.loads(out)


@pytest.mark.parametrize(
    ("interval", "each"),
    [
        ("100ms", 600),
        # No flush is due by the interval, and what is written is more than there is room for.
        ("1h", 1_000),
    ],
)
def test_bodies_leave_memory_and_nothing_is_lost(tmp_path: Path, interval: str, each: int) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    said = run(f"INTERVAL, EACH = {interval!r}, {each}\n{BODIES}", url, LIMIT_BYTES)
    assert said["limit"] == LIMIT_BYTES, "the limit is read off"
    assert said["highest"] > memory_pressure.PRESSURE_THRESHOLD, "memory was never short, so nothing was shown"
    assert said["statistics"]["bodies"]["evictions"]["memory"] > 0
    assert said["statistics"]["ended"] == {}, "no session ends for it, unless that is asked for"
    assert run(START, url, LIMIT_BYTES) == [said["digest"], 3 * each, []]
    for file in ("log.db.snapshot", "log.db.history"):
        (tmp_path / file).unlink()
    assert run(START, url, LIMIT_BYTES) == [said["digest"], 3 * each, []], "from the log alone"


def test_sessions_end_for_memory_where_that_is_asked_for_and_no_more_than_needed(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    url = f"sqlite:///{path}"
    log = SqliteLog(str(path), SystemClock(), genesis=True)
    fill(log, SESSIONS, SystemClock().now_ms(), Policy(idle_ttl_ms=86_400_000))
    log.close()
    with lastseen.open_engine(url, background=False) as engine:
        engine.suspend(key_of(0))
        engine.take_lease(key_of(1), "a job", 3_600_000)
    resident_bytes = run(WORK + MEASURE, url, 2**40)
    said = run(WORK + EVICT, url, int(resident_bytes / 0.88))
    with lastseen.open_engine(url, background=False) as again:
        gone = [number for number in range(SESSIONS + said["more"]) if again.get(key_of(number)) is None]
        assert again.statistics()["ended"] == {"memory": len(gone)}
        assert 0 < len(gone) < SESSIONS / 2, said
        assert again.count() == SESSIONS + said["more"] - len(gone) + 300, "new ones find a place"
        assert not {0, 1, SESSIONS - 1, SESSIONS + said["more"] - 1} & set(gone), "suspended, held, used last, or new"
        assert {again.last_session_span(key_of(number)).reason for number in gone} == {"memory"}  # type: ignore[union-attr]
