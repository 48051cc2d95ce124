"""B: expiry. A sweep with nothing due, with 100 due and with a tenth due, through the engine and through its peers.

All have the same sessions, in groups that fall due one after the other; a sweep ends one group. What is measured is the
sweep alone: the clock is turned by hand.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import lastseen
from benchmarks import expiry_notices
from benchmarks.durable_tables import PostgresTable, SqliteTable
from benchmarks.measure import Row, Size, at_most, in_turn, missing, pairs, seconds
from benchmarks.servers import PeerMissing, postgres_server
from benchmarks.workload import fill, key_of
from lastseen.engine.clock import ManualClock
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.session import Policy

NOTES = """
- The *engine* plans the sweep, appends an `expired` record for each session that is due, flushes the log to the disk,
  reads it back, judges and folds it: *announced*. *Announced and kept* is the same with the flush of history and
  snapshot, which a thread does behind the callers otherwise. It has loaded its sessions from the log before, and its
  clock is turned to the millisecond in which the group falls due.
- The *tables* delete by `last_access < ?` on an indexed column, flushed to the disk; deletions are not reported,
  and nothing is written down about it. A session used between the question and the delete is ended all the same.
- *cachetools* forgets in memory; there is no disk, no lock and no log. `expire()` returns who it was.
- *Nothing due* is the median of 100 passes.
"""
NOTES += expiry_notices.NOTES.lstrip()

IDLE_TTL_MS = 1_800_000
POLICY = Policy(idle_ttl_ms=IDLE_TTL_MS)
GROUP_MS = 10_000
"""Between the last uses of one group and the next."""
LIVE_PARTS = 100
LIVE_WITHIN_MS = 1_500_000
"""The live ones were last used at so many moments within so long: their deadlines are spread, as real ones are."""
FEW_DUE = 100
PASSES = 100
MOST_ROUNDS = 3
"""More groups to end would make the population larger than it is said to be, and take long to fill."""

ENGINE, KEPT, TABLE = "engine, announced", "engine, announced and kept", "SQLite DELETE"


class Population(NamedTuple):
    """Sessions: groups that will fall due one after the other, and `live` more, used all through the minutes since."""

    live: int
    groups: list[int]
    start_ms: int = 1_700_000_000_000

    def used_at_ms(self, group: int) -> int:
        """When the sessions of a group were last used."""
        return self.start_ms + group * GROUP_MS

    def parts(self) -> list[tuple[int, int, int]]:
        """For each part: the number of its first session, how many they are, and when they were last used."""
        sizes = [(size, self.used_at_ms(group)) for group, size in enumerate(self.groups)]
        since_ms = self.used_at_ms(len(self.groups)) + GROUP_MS
        for part in range(LIVE_PARTS):
            many = self.live * (part + 1) // LIVE_PARTS - self.live * part // LIVE_PARTS
            sizes.append((many, since_ms + part * LIVE_WITHIN_MS // LIVE_PARTS))
        starts = accumulate((size for size, _ in sizes), initial=0)
        return [(first, size, used_at_ms) for first, (size, used_at_ms) in zip(starts, sizes, strict=False)]

    def rows(self) -> list[tuple[str, int]]:
        """Every key, and when it was last used."""
        return [(key_of(first + n), used_at_ms) for first, size, used_at_ms in self.parts() for n in range(size)]


class Subject(NamedTuple):
    """What sweeps: up to a time, returning how many it ended."""

    name: str
    loses: str
    sweep: Callable[[int], int]
    after: Callable[[], object] | None = None
    """What it writes behind, which is measured as well."""


@contextmanager
def engine(folder: Path, population: Population) -> Iterator[Subject]:
    """The engine on an SQLite log, once it has loaded everything."""
    clock, path = ManualClock(population.start_ms), folder / "expiry.db"
    with closing(SqliteLog(str(path), clock, genesis=True)) as log:
        for first, size, used_at_ms in population.parts():
            clock.set(used_at_ms)
            fill(log, size, used_at_ms, POLICY, first=first)
    with lastseen.open_engine(f"sqlite:///{path}", clock=clock, background=False, freeze=True) as opened:

        def sweep(used_at_ms: int) -> int:
            clock.set(used_at_ms + IDLE_TTL_MS)
            return len(opened.prune().due)

        try:
            opened.flush()
            yield Subject(ENGINE, "nothing", sweep, opened.flush)
        finally:
            gc.unfreeze()


@contextmanager
def sqlite_table(folder: Path, population: Population) -> Iterator[Subject]:
    """A table in SQLite, WAL and FULL."""
    table = SqliteTable(folder / "table.db", population.rows())
    with closing(table.connection):
        yield Subject(TABLE, "nothing", lambda used_at_ms: table.delete_before(used_at_ms + 1))


@contextmanager
def postgres_table(folder: Path, population: Population) -> Iterator[Subject]:
    """A table in PostgreSQL, synchronous_commit on."""
    with postgres_server(folder) as server:
        table = PostgresTable(server.dsn)
        with closing(table.connection):
            table.fill(population.rows())
            yield Subject("PostgreSQL DELETE", "nothing", lambda used_at_ms: table.delete_before(used_at_ms + 1))


@contextmanager
def ttl_cache(folder: Path, population: Population) -> Iterator[Subject]:
    """cachetools' TTLCache, on a clock that is turned by hand."""
    from cachetools import TTLCache

    now_ms = [population.start_ms]
    sessions: TTLCache[str, int] = TTLCache(2**40, IDLE_TTL_MS, timer=lambda: now_ms[0])
    for key, used_at_ms in population.rows():
        now_ms[0] = used_at_ms
        sessions[key] = used_at_ms

    def sweep(used_at_ms: int) -> int:
        now_ms[0] = used_at_ms + IDLE_TTL_MS
        return len(sessions.expire())

    yield Subject("cachetools TTLCache", "everything", sweep)


Opens = Callable[[Path, Population], AbstractContextManager[Subject]]
# The engine last: all that was loaded before is out of the garbage collector's sight with it.
SUBJECTS: tuple[Opens, ...] = (sqlite_table, postgres_table, ttl_cache, engine)
QUICK_SUBJECTS: tuple[Opens, ...] = (sqlite_table, ttl_cache, engine)


def run(folder: Path, size: Size) -> list[Row]:
    """All figures of this file, and of the notices of redis."""
    rows: list[Row] = []
    for sessions in (size.middle, size.many) if size.is_quick else (size.few, size.middle, size.many):
        within = folder / f"{sessions}"
        within.mkdir()
        rows += sweeps(within, sessions, min(size.repetitions, 2 if sessions == size.many else MOST_ROUNDS), size)
        gc.collect()
    return [*_targets_first(rows), *([] if size.is_quick else expiry_notices.run(folder, size))]


def sweeps(folder: Path, sessions: int, rounds: int, size: Size) -> list[Row]:
    """Every kind of sweep at so many live sessions."""
    tenth = sessions // 10
    population = Population(sessions, [FEW_DUE] * (rounds + 1) + [tenth] * (rounds + 1))
    rows: list[Row] = []
    with ExitStack() as stack:
        subjects: list[Subject] = []
        for number, opens in enumerate(QUICK_SUBJECTS if size.is_quick else SUBJECTS):
            within = folder / f"{number}"
            within.mkdir()
            try:
                subjects.append(stack.enter_context(opens(within, population)))
            except PeerMissing as error:
                rows.append(missing(error.name, error.why))
            except ImportError as error:
                rows.append(missing(error.name or opens.__name__, f"not installed: {error}"))
        rows += _nothing(subjects, population, rounds)
        rows += _due(subjects, population, 0, rounds)
        if tenth > FEW_DUE:
            rows += _due(subjects, population, rounds + 1, rounds)
    return rows


def _nothing(subjects: Sequence[Subject], population: Population, rounds: int) -> list[Row]:
    def passes(subject: Subject) -> float:
        ended: list[int] = []
        # A minute before the first group: no session is due by any clock.
        before_ms = population.start_ms - 60_000
        spent = [seconds(lambda: ended.append(subject.sweep(before_ms))) for _ in range(PASSES)]
        assert not any(ended)
        return sorted(spent)[PASSES // 2] * 1e3

    samples = in_turn(rounds, {each.name: lambda subject=each: passes(subject) for each in subjects})  # type: ignore[misc]
    rows = []
    for each in subjects:
        name = f"sweep, nothing of {population.live:,} due: {each.name}"
        limit = 0.1 if each.name == ENGINE else float("inf")
        rows.append(_row(name, samples[each.name], each, population.live, limit))
    return rows


def _due(subjects: Sequence[Subject], population: Population, first: int, rounds: int) -> list[Row]:
    """Sweeps of the groups from `first` on, one a round."""
    due = population.groups[first]
    kept: dict[str, list[float]] = {}
    ended_groups = {each.name: iter(range(first, first + rounds + 1)) for each in subjects}

    def sweep(subject: Subject) -> float:
        group = next(ended_groups[subject.name])
        ended: list[int] = []
        spent = seconds(lambda: ended.append(subject.sweep(population.used_at_ms(group)))) * 1e3
        assert ended == [due], f"{subject.name} ended {ended} of {due}"
        if subject.after is not None:
            kept.setdefault(subject.name, []).append(spent + seconds(subject.after) * 1e3)
        return spent

    samples = in_turn(rounds, {each.name: lambda subject=each: sweep(subject) for each in subjects})  # type: ignore[misc]
    what = f"{due:,} due of {population.live:,}"
    rows = []
    for each in subjects:
        limit = 2_000.0 if each.name == ENGINE and due >= 100_000 else float("inf")
        rows.append(_row(f"sweep, {what}: {each.name}", samples[each.name], each, population.live, limit, what))
        if each.after is not None:
            said = each._replace(name=KEPT)
            rows.append(_row(f"sweep, {what}: {KEPT}", kept[each.name][1:], said, population.live, plot=what))
    if due > FEW_DUE and TABLE in samples:
        limit = 1.0 if due >= 100_000 else float("inf")
        row = at_most(f"sweep, {what}: engine / {TABLE}, time", pairs(samples, ENGINE, TABLE), "×", limit)
        rows.append(_without_limit(row, limit))
    return rows


def _row(
    name: str, values: list[float], subject: Subject, sessions: int, limit: float = float("inf"), plot: str = ""
) -> Row:
    row = _without_limit(at_most(name, values, "ms", limit), limit)
    row.subject, row.durability, row.sessions, row.plot = subject.name, subject.loses, sessions, plot
    return row


def _without_limit(row: Row, limit: float) -> Row:
    if limit == float("inf"):
        row.target, row.reached = "", None
    return row


def _targets_first(rows: list[Row]) -> list[Row]:
    """The rows that are to reach something, then the others; each peer that is missing once."""
    absent = {row.name: row for row in rows if row.missing}
    found = [row for row in rows if not row.missing]
    return [*(row for row in found if row.target), *(row for row in found if not row.target), *absent.values()]
