"""Every session of a log as a file, a row a session: when it began and ended, why, for whom, how long, how much.

For notebooks and databases. In each partition the sessions that have ended come first, in the order in which the log
learned of their ends, and those that no record has ended follow. So the rows with an end are as many as the statistics
count, also where a limit ended a session and a later record settled it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from lastseen.bulk.ordered_pages import records
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.offline import existing_log_path
from lastseen.engine import events
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log
from lastseen.engine.session import Ending, Session
from lastseen.engine.verdicts import Verdict
from lastseen.exchange.files import writer
from lastseen.exchange.history import PROGRESS_EVERY, Exported
from lastseen.exchange.table import Header, Row
from lastseen.projections.partition import Outcome, Partition


def export_lives(url: str, path: Path, progress: Progress = lambda done, total: None) -> Exported:
    """Write every session of the log at `url` to `path`, or continue an interrupted run.

    Raises `ExportError`, `InvalidSetting` for another ending than .jsonl, .csv or .parquet, and the log's errors.
    """
    if url.startswith("sqlite:"):
        existing_log_path(url)
    log = open_log(url, SystemClock(), read_only=True)
    try:
        ends = log.end_offsets()
        with closing(writer(path, Header("lives", log.identity, tuple(ends)))) as file:
            found, total = file.rows, sum(file.header.ends)
            if not file.is_finished:
                for number, row in enumerate(_rows(log, file.header.ends, progress)):
                    if number >= found:
                        file.put(row)
                file.finish()
            progress(total, total)
            return Exported(file.rows, found, sum(ends) - total)
    finally:
        log.close()


def _rows(log: Log, ends: tuple[int, ...], progress: Progress) -> Iterator[Row]:
    done, total = 0, sum(ends)
    for number, end in enumerate(ends):
        partition, tallies = Partition(number), _Tallies()
        for record in records(log, number, end):
            outcome = partition.fold(record)
            if outcome.ended is not None:
                yield _row(number, outcome.ended, outcome.ending, outcome.event, tallies)
            tallies.add(outcome)
            done += 1
            if done % PROGRESS_EVERY == 0:
                progress(done, total)
        for session in partition.by_id.values():
            yield _row(number, session, None, None, tallies)


class _Tallies:
    """Of each live session, which service began it, and how many messages came with its touches."""

    def __init__(self) -> None:
        self._begun_by: dict[int, str] = {}
        self._messages: dict[int, int] = {}

    def add(self, outcome: Outcome) -> None:
        event, session = outcome.event, outcome.session
        if outcome.verdict is not Verdict.APPLIED or session is None:
            return
        if isinstance(event, events.Created):
            self._begun_by[session.born_offset] = event.source
        elif isinstance(event, events.Touched) and event.data.message is not None:
            self._messages[session.born_offset] = self._messages.get(session.born_offset, 0) + 1

    def take(self, session: Session) -> tuple[str | None, int]:
        """What is known of a session, once."""
        return self._begun_by.pop(session.born_offset, None), self._messages.pop(session.born_offset, 0)


def _row(
    partition: int, session: Session, ending: Ending | None, ended_by: events.StoredEvent | None, tallies: _Tallies
) -> Row:
    begun_by, messages = tallies.take(session)
    return {
        "partition": partition, "born_offset": session.born_offset, "key": session.key,
        "session_id": session.session_id, "owner": session.owner, "began_at_ms": session.created_at_ms,
        "began_by": begun_by, "last_active_at_ms": session.last_active_at_ms,
        "ended_at_ms": None if ending is None else ending.at_ms,
        "ended_offset": None if ending is None else ending.offset,
        "ended_by": None if ended_by is None else ended_by.source,
        "reason": None if ending is None else ending.reason,
        "duration_ms": None if ending is None else ending.at_ms - session.created_at_ms,
        "events": session.version, "messages": messages, "policy": msgspec.to_builtins(session.policy),
    }  # fmt: skip
