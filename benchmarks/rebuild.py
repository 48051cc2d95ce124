"""D: rebuild and restart. A log folded from its beginning; a process that starts on what is kept of its sessions."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import lastseen
from benchmarks import rebuild_peers
from benchmarks.answering import answered_by
from benchmarks.measure import Row, Size, in_turn, missing, rate, ratio
from benchmarks.servers import PeerMissing
from benchmarks.workload import fill, key_of, touches
from infra.kafka.choice import NoKafka
from infra.kafka.jars import DownloadFailed
from lastseen.engine.clock import ManualClock, SystemClock
from lastseen.engine.codec import decode
from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from lastseen.projections.follower import BATCH_RECORDS
from lastseen.projections.partition import Partition

NOTES = """
- *Refold* reads every record of a log, judges it and applies it, in one process: nearly all are touches. The *codec
  alone* decodes the same records from memory and throws the events away. *From Kafka* is one node on the same machine
  and a process of its own, four partitions.
- *Start without a snapshot* is `open_engine` with its defaults and a snapshot on disk, in a process of its own, on the
  same topic: until it is ready, with view, bodies, history, snapshot, statistics, pruner and facts. All facts are
  published before.
- *Restart* is the time until a new process has answered for a session of its own choice, its imports not counted: the
  engine opens its log, its snapshot and its history (`freeze` on), and is ready to append. The page cache is warm.
- *redis* is the time from its start to its first answer, having loaded the same number of keys from an RDB file or from
  its append-only file. *pickle* and *JSON* load a dictionary of sessions as a file of that format has it: floors, which
  know no log to follow and no deadlines, and whose files must be written whole each time.
"""

POLICY = Policy(idle_ttl_ms=86_400_000)
ENGINE = "engine"
AT_MOST_S = 5.0
START = """
import sys, time, lastseen
started = time.perf_counter()
engine = lastseen.open_engine(sys.argv[1], snapshot=sys.argv[2])
spent = time.perf_counter() - started
assert engine.count() == int(sys.argv[3])
print(spent)
engine.shutdown()
"""


def run(folder: Path, size: Size) -> list[Row]:
    """All figures of this file."""
    rows = refold(folder, size)
    if not size.is_quick:
        rows += from_kafka(folder, size)
    return rows + restart(folder, size)


def fold_all(path: Path, events: int) -> float:
    """Events a second: the whole of an SQLite log, read and folded."""
    with closing(SqliteLog(str(path), ManualClock())) as log:
        partition = Partition(0)
        started = time.perf_counter()
        while records := log.read(0, partition.checkpoint, BATCH_RECORDS):
            for record in records:
                partition.fold(record)
        spent = time.perf_counter() - started
    assert partition.checkpoint == events + 1
    return events / spent


def decode_all(records: list[Record]) -> float:
    """Events a second: the same records, decoded and nothing else."""
    started = time.perf_counter()
    for record in records:
        decode(record.key, record.value)
    spent = time.perf_counter() - started
    assert not isinstance(decode(records[0].key, records[0].value), Verdict)
    return len(records) / spent


def refold(folder: Path, size: Size) -> list[Row]:
    """Fold a log of touches from its file, beside the codec alone."""
    events = 30_000 if size.is_quick else 300_000
    path, clock = folder / "refold.db", ManualClock()
    with closing(SqliteLog(str(path), clock, genesis=True)) as log:
        session_ids = fill(log, size.few, clock.now_ms(), POLICY)
        touches(log, session_ids, events - size.few, clock.now_ms())
        records: list[Record] = []
        while some := log.read(0, len(records), 5_000):
            records += some
    samples = in_turn(
        size.repetitions, {"refold": lambda: fold_all(path, events), "codec": lambda: decode_all(records)}
    )
    # How many a second is asked of the full size: in a short run the first pages weigh too much.
    rows = [
        rate("refold from SQLite, one process", samples["refold"], None if size.is_quick else 150_000),
        ratio("refold from SQLite / codec alone", samples, "refold", "codec", 0.6),
        rate("codec alone", samples["codec"]),
    ]
    rows[0].subject, rows[2].subject = ENGINE, "codec alone"
    return rows


def from_kafka(folder: Path, size: Size) -> list[Row]:
    """Follow a topic from its beginning and fold it, in a process of its own."""
    try:
        from benchmarks import kafka_topic
        from lastseen.engine.log.kafka.log import KafkaLog
        from lastseen.engine.log.kafka.url import parse_kafka_url

        partitions, events = kafka_topic.PARTITIONS, 200_000
        with kafka_topic.broker(folder / "kafka") as address:
            url = kafka_topic.new_topic(address)
            with closing(KafkaLog(parse_kafka_url(url))) as log:
                session_ids = fill(log, size.few, SystemClock().now_ms(), POLICY, partitions=partitions)
                kafka_topic.append_in_batches(log, kafka_topic.some_touches(session_ids, events - size.few))
            publish_all(url)
            places = (str(folder / f"start-{number}.snapshot") for number in count())
            samples = in_turn(
                3,
                {
                    "kafka": lambda: events / kafka_topic._folding(url, list(range(partitions))),
                    "start": lambda: events / answered_by(START, url, next(places), str(size.few)),
                },
            )
    except ImportError as error:
        return [missing(error.name or "Kafka", f"not installed: {error}")]
    except (NoKafka, DownloadFailed) as error:
        return [missing("Kafka", " ".join(str(error).split()))]
    rows = [
        rate("refold from Kafka, one process", samples["kafka"], 100_000),
        rate("start without a snapshot from Kafka, all roles", samples["start"]),
        ratio("start without a snapshot from Kafka / refold from Kafka", samples, "start", "kafka", 0.8),
    ]
    rows[0].subject = rows[1].subject = ENGINE
    return rows


def publish_all(url: str) -> None:
    """Have an engine publish the facts of a topic."""
    with lastseen.open_engine(url) as engine:
        pending = engine._state.outbox
        assert pending is not None
        while any(pending.pending(number) > 1 for number in range(len(engine.log_ends()))):
            time.sleep(0.1)


def restart(folder: Path, size: Size) -> list[Row]:
    """A new process on what is kept of so many live sessions, until it answers for one."""
    sessions = size.many
    path = folder / "restart.db"
    clock = SystemClock()
    with closing(SqliteLog(str(path), clock, genesis=True)) as log:
        fill(log, sessions, clock.now_ms(), POLICY)
    lastseen.open_engine(f"sqlite:///{path}", background=False).shutdown()
    works: dict[str, Callable[[], float]] = {ENGINE: lambda: first_answer(f"sqlite:///{path}", sessions)}
    works |= rebuild_peers.floors(folder, sessions)
    absent: list[Row] = []
    if not size.is_quick:
        try:
            works |= rebuild_peers.redis_loads(folder, sessions)
        except PeerMissing as error:
            absent.append(missing(error.name, error.why))
        except ImportError as error:
            absent.append(missing(error.name or "redis", f"not installed: {error}"))
    samples = in_turn(min(size.repetitions, 3), works)
    rows = []
    for name, values in samples.items():
        row = Row(f"restart with {sessions:,} live, to the first answer: {name}", sorted(values)[len(values) // 2], "s")
        row.subject, row.sessions, row.spread = name, sessions, (min(values), max(values))
        row.plot = f"restart with {sessions:,} live sessions"
        if name == ENGINE and not size.is_quick:
            row.target, row.reached = f"≤ {AT_MOST_S:g} s", row.value <= AT_MOST_S
        rows.append(row)
    return [*rows, *absent]


def first_answer(url: str, sessions: int) -> float:
    """Seconds from opening to the first answer, in a new process that has imported us."""
    script = (
        "import sys, time; import lastseen; started = time.perf_counter();"
        "engine = lastseen.open_engine(sys.argv[1], freeze=True); session = engine.get(sys.argv[2]);"
        "spent = time.perf_counter() - started;"
        "assert session is not None and engine.count() == int(sys.argv[3]);"
        "print(spent); engine.shutdown()"
    )
    return answered_by(script, url, key_of(sessions - 1), str(sessions))
