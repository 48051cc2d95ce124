"""Who writes to a log, and whose records do harm: by source, what is wrong with the records of a range of records.

Only what is wrong with a record by itself is judged. What depends on sessions (`no_session`, `ended` …) is in the
metrics and in the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lastseen.doctor.clocks import A_DAY_MS, is_imported
from lastseen.doctor.findings import Finding, ReadOnlyLog, ok, warning
from lastseen.doctor.record_faults import FIXES, Fault, Judged, judged
from lastseen.engine.log.port import Record
from lastseen.projections.sources import OTHER

MAX_SOURCES = 1_000
"""Sources that are counted each; the rest count as `OTHER`."""
PAGE_RECORDS = 2_000
NEWEST_RECORDS = 1_000
"""Of each partition the doctor looks at so many."""
MAX_PARTITIONS_READ = 32
FLOOD_PER_S = 5_000
"""A source that writes more records a second than this to one partition leaves little room for others."""
FLOOD_SHARE = 0.9
RECENT_MS = 600_000
MAX_SHOWN = 3
_PRODUCERS_PAGE = "docs/how-to/producers.md"


class FaultReport(NamedTuple):
    """One kind of fault of one source."""

    fault: Fault
    records: int
    partition: int
    """Where the first of them is."""
    offset: int
    says: str
    """What is wrong with that one."""

    @property
    def fix(self) -> str:
        """What to do."""
        return FIXES[self.fault]


class ProducerReport(NamedTuple):
    """What one source has written."""

    source: str
    records: int
    faults: Sequence[FaultReport]
    """The most frequent first."""

    @property
    def faulty(self) -> int:
        """Records with a fault."""
        return sum(each.records for each in self.faults)


class RecordRange(NamedTuple):
    """What is read of a log: from which offset of each partition, up to which."""

    starts: Sequence[int]
    ends: Sequence[int]

    @property
    def records(self) -> int:
        """How many that are."""
        return sum(self.ends) - sum(self.starts)


def newest(log: ReadOnlyLog, records: int, since_ms: int | None = None) -> RecordRange:
    """The newest `records` of each partition; only those since a log time, if one is given. Raises `LogError`."""
    starts = [max(start, end - records) for start, end in zip(log.starts, log.ends, strict=True)]
    if since_ms is not None:
        starts = [_first_since(log, number, start, since_ms) for number, start in enumerate(starts)]
    return RecordRange(starts, list(log.ends))


def _first_since(log: ReadOnlyLog, number: int, start: int, since_ms: int) -> int:
    """The first offset from `start` on whose log time is not before `since_ms`, by halves: log times do not go back."""
    end = log.ends[number]
    while start < end:
        middle = (start + end) // 2
        if log.read(number, middle, 1)[0].timestamp_ms < since_ms:
            start = middle + 1
        else:
            end = middle
    return start


def producers(log: ReadOnlyLog, record_range: RecordRange) -> list[ProducerReport]:
    """By source, what is wrong with the records of a range: those with most faults first. Raises `LogError`."""
    counted = _Counted(len(log.ends))
    for number in range(len(log.ends)):
        # A log that has lost its beginning cannot say how it began; its records are taken for ordinary ones.
        was_imported = not log.starts[number] and log.ends[number] > 0 and is_imported(log.read(number, 0, 1)[0])
        counted.begin(was_imported)
        for record in _records(log, number, record_range):
            counted.add(record)
        counted.end()
    return counted.reports()


def _records(log: ReadOnlyLog, number: int, record_range: RecordRange) -> Iterator[Record]:
    offset, end = record_range.starts[number], record_range.ends[number]
    while offset < end:
        page = log.read(number, offset, min(PAGE_RECORDS, end - offset))
        if not page:
            return
        yield from page
        offset = page[-1].offset + 1


class _Counted:
    """Records and faults by source, in bounded memory."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._records: dict[str, int] = {}
        self._faults: dict[tuple[str, Fault], FaultReport] = {}
        self._here: dict[tuple[str, Fault], FaultReport] = {}
        """Those of the partition that is being read."""
        self._was_imported = False

    def begin(self, was_imported: bool) -> None:
        """The records of another partition follow."""
        self._was_imported = was_imported

    def add(self, record: Record) -> None:
        """The next record of the partition."""
        seen = judged(record, self._partitions)
        source = seen.source
        if source not in self._records and len(self._records) >= MAX_SOURCES:
            source = OTHER
        self._records[source] = self._records.get(source, 0) + 1
        if seen.ends_import:
            self._here = {place: each for place, each in self._here.items() if each.fault is not Fault.CLOCK_SKEW}
        if seen.fault is None or self._is_history(seen):
            return
        _add(self._here, source, FaultReport(seen.fault, 1, record.partition, record.offset, seen.says))

    def end(self) -> None:
        """The partition has been read."""
        for (source, _), each in self._here.items():
            _add(self._faults, source, each)
        self._here = {}

    def _is_history(self, seen: Judged) -> bool:
        """Whether a record has the time of a history that was imported, and not a wrong clock."""
        is_old = seen.skew_ms is not None and seen.skew_ms < -A_DAY_MS
        return self._was_imported and seen.fault is Fault.CLOCK_SKEW and is_old

    def reports(self) -> list[ProducerReport]:
        """One a source."""
        faults: dict[str, list[FaultReport]] = {source: [] for source in self._records}
        for (source, _), each in sorted(self._faults.items(), key=lambda item: -item[1].records):
            faults[source].append(each)
        found = [ProducerReport(source, records, faults[source]) for source, records in self._records.items()]
        return sorted(found, key=lambda each: (-each.faulty, -each.records, each.source))


def _add(faults: dict[tuple[str, Fault], FaultReport], source: str, more: FaultReport) -> None:
    before = faults.get((source, more.fault))
    faults[source, more.fault] = more if before is None else before._replace(records=before.records + more.records)


def producer_findings(log: ReadOnlyLog, now_ms: int) -> Iterator[Finding]:
    """What the newest records say of those who wrote them. Raises `LogError`."""
    looked_at = newest(log, NEWEST_RECORDS)
    ends = [*looked_at.ends[:MAX_PARTITIONS_READ], *looked_at.starts[MAX_PARTITIONS_READ:]]
    looked_at = looked_at._replace(ends=ends)
    yield _faults(producers(log, looked_at), looked_at.records)
    yield _flood(log, looked_at, now_ms)


def _faults(reports: Sequence[ProducerReport], records: int) -> Finding:
    faulty = [each for each in reports if each.faults]
    if not faulty:
        return ok("records", f"the newest {records:,} records of {len(reports)} sources are as they must be")
    shown = "; ".join(
        f"{each.source}: {', '.join(f'{fault.records:,} {fault.fault}' for fault in each.faults)}"
        for each in faulty[:MAX_SHOWN]
    )
    more = f"; and {len(faulty) - MAX_SHOWN} more sources" if len(faulty) > MAX_SHOWN else ""
    total = sum(each.faulty for each in faulty)
    return warning(
        "records", f"of the newest {records:,} records, {total:,} are void by themselves: {shown}{more}",
        f"`lastseen producers check` says how to fix each; see {_PRODUCERS_PAGE}",
    )  # fmt: skip


def _flood(log: ReadOnlyLog, looked_at: RecordRange, now_ms: int) -> Finding:
    for number, start in enumerate(looked_at.starts):
        if looked_at.ends[number] - start < NEWEST_RECORDS:
            continue
        written = list(_records(log, number, looked_at))
        seen = [judged(record, len(log.ends)) for record in written]
        spans_ms = max(written[-1].timestamp_ms - written[0].timestamp_ms, 1)
        per_s = len(written) * 1000 / spans_ms
        sources = [each.source for each in seen]
        busiest = max(set(sources), key=sources.count)
        share = sources.count(busiest) / len(sources)
        is_recent = now_ms - written[-1].timestamp_ms < RECENT_MS
        # Imported history comes as fast as the log takes it.
        is_import = is_imported(log.read(number, log.starts[number], 1)[0])
        if is_recent and not is_import and share >= FLOOD_SHARE and per_s * share >= FLOOD_PER_S:
            return warning(
                "flood",
                f"{busiest} wrote {share:.0%} of the newest {len(written):,} records of partition {number}, at"
                f" {per_s:,.0f} records/s",
                f"stop it, or limit it with a quota of the broker: {_PRODUCERS_PAGE} has the commands",
            )  # fmt: skip
    return ok("flood", f"no source writes more than {FLOOD_PER_S:,} records/s to a partition")
