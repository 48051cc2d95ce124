"""Replay: recorded chat becomes the log of an engine, in the recording's own time.

Theory of operation. The plan (`replay_plan`) of a recording is always the same, byte for byte. So there is one way to
begin, to resume and to check a replay: make the plan from its first line; records that the log already holds must be
the same bytes, and the rest is appended. The engine on the log folds what it reads there, and after each batch its
digest must be the plan's.

The first record opens the log for import, so the events' own times are log times until `import_finished`. The log's
clock shows the recording's time too: a log's bytes then do not depend on when it was made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.embedded.engine import Engine
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.offline import files_of, log_path
from lastseen.embedded.settings import Settings, duration_ms
from lastseen.engine import lifecycle
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.codec import decode
from lastseen.engine.errors import InvalidSetting, LogMismatch, shown
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log, Message, Position
from lastseen.engine.verdicts import Verdict
from lastseen.replay.recording import ChatEvent, count_lines, read_chat, sha256_of_recording
from lastseen.replay.replay_plan import SOURCE, Figures, ReplayPlan

BATCH_RECORDS = 2_000
"""Records appended at a time; a batch ends where a line's events end, so a log never holds half a line."""
FLUSH_EVERY_RECORDS = 50_000
DEFAULT_IDLE_TTL = "30m"
DEFAULT_MAX_SESSIONS = 100


class HistoryClock(SystemClock):
    """A clock that shows the time of the history being imported; never the future."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.at_ms = 0

    def now_ms(self) -> int:
        """The time of the history, or the present if that is earlier."""
        return min(self.at_ms, self._clock.now_ms())


@dataclass(frozen=True, slots=True)
class Replayed:
    """The figures of a replay, and of this run of it."""

    figures: Figures
    found_records: int
    """Records that the log held before this run."""
    seconds: float

    @property
    def appended(self) -> int:
        """Records that this run appended."""
        return self.figures.records - self.found_records

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        rate = self.figures.events_read / self.seconds if self.seconds else 0.0
        return self.figures.as_dict() | {
            "records_appended": self.appended,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(rate),
        }


def replay(
    recording: Path,
    url: str,
    *,
    idle_ttl: int | str = DEFAULT_IDLE_TTL,
    max_sessions: int = DEFAULT_MAX_SESSIONS,
    finish: bool = False,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """Replay a recording into the log at `url`, or continue an interrupted run of the same replay.

    With `finish` the import is closed; else the log stays open for import, and reads use the time of the recording's
    end. `progress` is called with how many lines are done, and how many there are. Raises `InvalidSetting`,
    `InvalidEvent` for a malformed line, `LogMismatch` where the log holds something else, and the log's errors."""
    began_s = time.perf_counter()
    idle_ttl_ms = duration_ms("idle_ttl", idle_ttl)
    if isinstance(max_sessions, bool) or not isinstance(max_sessions, int) or max_sessions < 1:
        raise InvalidSetting(f"max_sessions = {shown(max_sessions)}: give a whole number of at least 1")
    lines, chat = count_lines(recording), read_chat(recording)
    first = next(chat, None)
    history_clock = HistoryClock(clock or SystemClock())
    history_clock.at_ms = 2**62
    latest_ms = history_clock.now_ms() + lifecycle.MAX_AHEAD_MS
    plan = ReplayPlan(sha256_of_recording(recording), idle_ttl_ms, max_sessions, latest_ms)
    history_clock.at_ms = first.at_ms if first is not None else 0
    opening = plan.opening(history_clock.at_ms)
    log = open_log(url, history_clock, genesis=False)
    try:
        writer = _Writer(log, history_clock, plan, opening)
    except BaseException:
        log.close()
        raise
    with writer.engine:
        if first is not None:
            _write_all(plan, writer, chain([first], chat), lines, progress)
        if finish or writer.found_records == plan.partition.checkpoint + 1:
            plan.finish(history_clock.at_ms)
            writer.append(history_clock.at_ms)
        writer.check_end()
    return Replayed(plan.result(), writer.found_records, time.perf_counter() - began_s)


def delete_replay(url: str) -> list[Path]:
    """Delete the replay at `url`, its snapshot, history and archives, and nothing else; returns what was deleted.

    Creates the folder for a new one. Raises `LogMismatch` where the log is not a replay's, or has been used since.
    """
    path = log_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size:
        log = open_log(url, SystemClock(), genesis=False)
        try:
            ends = log.end_offsets()
            for offset in {0, ends[0] - 1} if ends[0] else ():
                (record,) = log.read(0, offset, 1)
                event = decode(record.key, record.value)
                if isinstance(event, Verdict) or not event[0].source.startswith(SOURCE):
                    raise LogMismatch(f"log {path} holds more than a replay: delete it by hand, or give another path")
        finally:
            log.close()
    deleted = files_of(path)
    for file in deleted:
        file.unlink()
    return deleted


def _write_all(
    plan: ReplayPlan, writer: _Writer, chat: Iterator[ChatEvent], lines: int, progress: Progress | None
) -> None:
    for event in chat:
        plan.take(event)
        if len(plan.messages) >= BATCH_RECORDS:
            writer.append(event.at_ms)
            if progress is not None:
                progress(event.line, lines)
    writer.append(event.at_ms)
    if progress is not None:
        progress(lines, lines)


class _Batch(NamedTuple):
    """Records that were passed to the log."""

    appended: Future[list[Position]] | None
    """`None` where the log held all of it already."""
    start: int
    end: int
    digest: str
    """The plan's, at `end`."""


class _Writer:
    """Writes a plan to the log: compares the records that are there, appends the others."""

    def __init__(self, log: Log, clock: HistoryClock, plan: ReplayPlan, opening: Message) -> None:
        self._log, self._clock, self._plan = log, clock, plan
        if log.partitions != 1:
            raise LogMismatch(f"the log has {log.partitions} partitions, and a replay needs one of 1: make another")
        (self.found_records,) = log.end_offsets()
        """How many records the log held before."""
        if self.found_records:
            self._compare([opening], 0)
        else:
            log.append([opening])
        (record,) = log.read(0, 0, 1)
        # The log assigns its time, so the plan folds the record as the log has it.
        plan.fold(record)
        self.engine = Engine(
            log, clock, Settings.of(source=SOURCE, background=False, prune=False, archive_interval=None)
        )
        self._flushed_at = self.found_records
        self._in_flight: _Batch | None = None
        """While the log writes one batch, the plan makes the next."""

    def append(self, at_ms: int) -> None:
        """Append what the plan has written; by then the recording's time is `at_ms`."""
        self._finish()
        messages, self._plan.messages = self._plan.messages, []
        end = self._plan.partition.checkpoint
        start = end - len(messages)
        held = min(max(self.found_records - start, 0), len(messages))
        if held:
            self._compare(messages[:held], start)
        appended = None
        if held < len(messages):
            self._clock.at_ms = at_ms
            appended = self._log.append_soon(messages[held:])
        self._in_flight = _Batch(appended, start + held, end, self._plan.partition.digest.hex())

    def _finish(self) -> None:
        """Wait for the batch in flight, fold it, and check the engine's digest."""
        batch, self._in_flight = self._in_flight, None
        if batch is None or batch.end < self.found_records:
            return
        if batch.appended is not None:
            positions = batch.appended.result()
            if positions[0].offset != batch.start:
                raise _foreign(f"another process has written to it at offset {batch.start}")
            self.engine.refresh()
        found = self.engine.checkpoints()[0]
        if found != (batch.end, batch.digest):
            raise _foreign(f"the engine is at offset {found[0]} with digest {found[1]}, the replay at {batch[2:]}")
        if batch.end - self._flushed_at >= FLUSH_EVERY_RECORDS:
            self.engine.flush()
            self._flushed_at = batch.end

    def check_end(self) -> None:
        """Finish, and raise `LogMismatch` where the log holds more than the plan."""
        self._finish()
        (end,) = self._log.end_offsets()
        if end != self._plan.partition.checkpoint:
            raise _foreign(f"it continues after the recording's last record, to offset {end - 1}")

    def _compare(self, messages: Sequence[Message], start: int) -> None:
        done = 0
        while done < len(messages):
            for record in self._log.read(0, start + done, len(messages) - done):
                if (record.key, record.value) != messages[done][1:]:
                    raise _foreign(f"its record at offset {record.offset} is not the one of this replay")
                done += 1


def _foreign(what: str) -> LogMismatch:
    return LogMismatch(
        f"the log does not belong to this replay, of this recording with these options: {what}. Give the recording and"
        " options that it was made from, or another log; or replace it (--fresh)"
    )
