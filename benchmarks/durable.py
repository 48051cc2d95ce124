"""C: durable operations. A touch that is on the disk when the call returns, through the engine and through its peers.

One by one, by 64 callers at once, and in batches of 100, each for the same time in turn.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

import lastseen
from benchmarks.durable_drive import BATCH, CALLERS, EACH, Rate, Subject, by_callers, in_batches, keys_of, one_by_one
from benchmarks.measure import Row, Size, in_turn, missing, rate, ratio
from benchmarks.servers import PeerMissing

NOTES = """
- A touch through the *engine* is decided on the live view, encoded, appended, flushed to the disk, read back, judged,
  applied to the view and answered with the session. History and snapshot are written by threads behind it, once a
  second as by default, and what these have not written when its turn of one second ends is written then: all of it
  counts as the engine's time.
- *Bare sqlite3* commits rows of the same size into a table of the same schema (WAL, FULL) and does nothing else: it
  knows no session, checks nothing, and answers no one. *Bare file* is the same bytes and `fdatasync`. They are floors.
  For them 64 callers are batches of 64: what could be gathered from 64 callers at most.
- The *tables*, *redis* and *diskcache* overwrite what they knew: none keeps a log, so none can say later what happened,
  and none refuses a touch of a session that is due. *eventsourcing* keeps a log. *Quix Streams*
  (3.28.1, in an environment of its own) keeps none without Kafka, and does not wait for the disk; no user would
  set it to.
- All touch the same 10,000 live sessions in the same shuffled order. 64 callers are threads of one Python process, each
  of which waits for its own answer; redis and PostgreSQL have a process of their own beside it, on the other core.
- redis answers 64 connections after one flush for all whose commands it had read, PostgreSQL likewise.
"""

PEERS = (
    "durable_floors.bare_sqlite", "durable_floors.bare_file", "durable_tables.sqlite_table",
    "durable_tables.postgres_table", "durable_caches.redis_always", "durable_caches.redis_everysec",
    "durable_caches.disk_cache", "durable_aggregates.aggregates", "durable_aggregates.aggregates_at_best",
    "durable_rocksdb.rocksdb_states",
)  # fmt: skip
QUICK_PEERS = ("durable_floors.bare_sqlite", "durable_tables.sqlite_table", "durable_aggregates.aggregates")
"""Those that need neither a server nor a download."""

Opens = Callable[[Path, Sequence[str]], AbstractContextManager[list[Subject]]]
"""Opens subjects with their files in a folder, and a live session for each key. May raise `PeerMissing`."""

ENGINE, BARE, REDIS, AGGREGATES = "engine", "bare sqlite3", "redis-py, AOF always", "eventsourcing aggregates"
ONE, MANY, HUNDRED = "one caller", f"{CALLERS} callers", f"batches of {BATCH}"
TARGETS = (
    (ONE, BARE, 0.7), (ONE, REDIS, 1.0), (MANY, BARE, 0.6), (MANY, f"{REDIS}, pipelines of {CALLERS}", 1.5),
    (MANY, REDIS, 1.5), (MANY, AGGREGATES, 10), (HUNDRED, BARE, 0.6), (HUNDRED, REDIS, 1.5), (HUNDRED, AGGREGATES, 10),
)  # fmt: skip
"""How fast the engine is to be, in units of a peer. For 64 callers redis stands here twice, pipelined and not."""

FLUSHED_EVERY_S = 1.0
"""As often as history and snapshot are flushed by default. A shorter turn would be charged for more flushes."""


@contextmanager
def engine(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """The engine on an SQLite log, its background threads running, as the production profile has it."""
    url = f"sqlite:///{folder / 'log.db'}"
    with lastseen.open_engine(url, freeze=True) as opened:
        _open_all(opened, keys)
        try:
            yield [
                Subject(
                    ENGINE, EACH, _with_flush(opened, one_by_one(opened.touch, keys)),
                    _with_flush(opened, by_callers([opened.touch] * CALLERS, keys)),
                    _with_flush(opened, in_batches(opened.touch_many, keys)), "SQLite log; logged, folded and answered",
                )
            ]  # fmt: skip
        finally:
            gc.unfreeze()


def _open_all(opened: lastseen.Engine, keys: Sequence[str]) -> None:
    def some(first: int) -> None:
        for key in keys[first::CALLERS]:
            opened.open(key)

    threads = [threading.Thread(target=some, args=(first,)) for first in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened.count() == len(keys)


def _with_flush(opened: lastseen.Engine, work: Rate) -> Rate:
    """Work while the engine's threads flush behind as always; at the end flush what they have not, and count that too.

    So all that a touch costs falls into the engine's own turn, and nothing of it into a peer's.
    """

    def run(seconds: float) -> float:
        before = opened.reached(0).offset
        opened.flush()
        started = time.perf_counter()
        work(max(seconds, FLUSHED_EVERY_S))
        opened.flush()
        return (opened.reached(0).offset - before) / (time.perf_counter() - started)

    return run


def run(folder: Path, size: Size) -> list[Row]:
    """All figures of this file."""
    subjects: list[Subject] = []
    absent: list[Row] = []
    keys = keys_of(size.few)
    peers = QUICK_PEERS if size.is_quick else PEERS
    with ExitStack() as stack:
        for number, peer in enumerate(("durable.engine", *peers)):
            within = folder / f"{number}"
            within.mkdir()
            try:
                subjects += stack.enter_context(_peer(peer)(within, keys))
            except PeerMissing as error:
                absent.append(missing(error.name, error.why))
            except ImportError as error:
                absent.append(missing(error.name or peer, f"not installed: {error}"))
        return [*_measured(subjects, size), *absent]


def _peer(name: str) -> Opens:
    module, _, function = name.partition(".")
    found: Opens = getattr(import_module(f"benchmarks.{module}"), function)
    return found


def _measured(subjects: list[Subject], size: Size) -> list[Row]:
    seconds = 0.1 if size.is_quick else 0.3
    ratios: list[Row] = []
    rates: list[Row] = []
    for mode, attribute in ((ONE, "one"), (MANY, "callers"), (HUNDRED, "hundred")):
        works = {each.name: getattr(each, attribute) for each in subjects if getattr(each, attribute) is not None}
        samples = in_turn(size.repetitions, {name: _for(work, seconds) for name, work in works.items()})
        for target_mode, peer, at_least in TARGETS:
            if target_mode == mode and peer in samples:
                ratios.append(ratio(f"durable touches, {mode}: engine / {peer}", samples, ENGINE, peer, at_least))
        for each in subjects:
            if each.name in samples:
                row = rate(f"durable touches, {mode}: {each.name}", samples[each.name])
                row.subject, row.durability, row.note = each.name, each.loses, each.note
                row.plot = f"durable touches, {mode}"
                rates.append(row)
    return ratios + rates


def _for(work: Rate, seconds: float) -> Callable[[], float]:
    return lambda: work(seconds)
