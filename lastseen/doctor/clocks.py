"""Whether the clocks agree: the log's, this machine's, and those of the services that write events."""

from __future__ import annotations

from collections.abc import Iterator

from lastseen.doctor.findings import Finding, ReadOnlyLog, error, note, ok, warning
from lastseen.engine import events
from lastseen.engine.codec import decode
from lastseen.engine.log.port import Record
from lastseen.engine.verdicts import Verdict

NEWEST_RECORDS = 100
"""Of each partition so many are looked at."""
MAX_PARTITIONS_READ = 32
NOTABLE_MS = 5_000
AHEAD_MS, BEHIND_MS = 60_000, 600_000
"""Beyond these the fold voids an event (DESIGN section 4)."""
A_DAY_MS = 86_400_000
"""On a log that began with an import, what is further off is taken for history."""


def clocks(log: ReadOnlyLog, now_ms: int) -> Iterator[Finding]:
    """What the newest records say of clocks. Raises `LogError`."""
    numbers = [each for each, end in enumerate(log.ends) if log.starts[each] < end][:MAX_PARTITIONS_READ]
    if not numbers:
        yield note("clocks", "the log is empty: there is nothing to compare", "")
        return
    newest = {
        number: log.read(number, max(log.ends[number] - NEWEST_RECORDS, log.starts[number]), NEWEST_RECORDS)
        for number in numbers
    }
    yield _log_clock(max(record.timestamp_ms for records in newest.values() for record in records), now_ms)
    offsets: dict[str, int] = {}
    for number, records in newest.items():
        # A log that has lost its beginning cannot say how it began; its newest records are taken for ordinary ones.
        was_imported = not log.starts[number] and is_imported(log.read(number, 0, 1)[0])
        offsets |= _offsets(records, was_imported)
    yield _producers(offsets)


def _log_clock(newest_ms: int, now_ms: int) -> Finding:
    ahead_ms = newest_ms - now_ms
    if ahead_ms <= NOTABLE_MS:
        return ok(
            "clocks", f"the newest record was logged {max(-ahead_ms, 0) / 1000:,.0f} s ago by this machine's clock"
        )
    how = error if ahead_ms > AHEAD_MS else warning
    return how(
        "clocks", f"the newest record is {ahead_ms / 1000:,.0f} s ahead of this machine's clock",
        "fix the time synchronisation of this machine, or of the log's: an event more than 10 min behind is void",
    )  # fmt: skip


def _producers(offsets: dict[str, int]) -> Finding:
    wrong = {source: off_ms for source, off_ms in offsets.items() if abs(off_ms) > NOTABLE_MS}
    if not wrong:
        return ok(
            "producers", f"events of {len(offsets)} sources agree with the log's time within {NOTABLE_MS / 1000:g} s"
        )
    is_void = any(off_ms > AHEAD_MS or off_ms < -BEHIND_MS for off_ms in wrong.values())
    says = ", ".join(f"{source} by {off_ms / 1000:+,.0f} s" for source, off_ms in sorted(wrong.items()))
    return (error if is_void else warning)(
        "producers", f"the clocks of services differ from the log's: {says}",
        "fix the time synchronisation of their machines: events more than 60 s ahead or 10 min behind are void",
    )  # fmt: skip


def _offsets(records: list[Record], was_imported: bool) -> dict[str, int]:
    """By how much the newest event of each source was ahead of the log; imported history has times of its own."""
    found: dict[str, int] = {}
    for record in records:
        decoded = decode(record.key, record.value)
        if isinstance(decoded, Verdict) or record.mark is not None:
            continue
        event, sent_at_ms = decoded
        if isinstance(event, events.Opened):
            continue  # no producer's: the clock of what made the log may be wrong
        if isinstance(event, events.ImportFinished):
            found.clear()
        elif not was_imported or abs(sent_at_ms - record.timestamp_ms) < A_DAY_MS:
            found[event.source] = sent_at_ms - record.timestamp_ms
    return found


def is_imported(record: Record) -> bool:
    """Whether the first record of a partition says that a history is imported into it."""
    decoded = decode(record.key, record.value)
    return not isinstance(decoded, Verdict) and isinstance(decoded[0], events.Opened) and decoded[0].data.imports
