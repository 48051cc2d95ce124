"""A soak: the peak is measured, half of it is kept up, and everything that should be flat is looked at meanwhile."""

from __future__ import annotations

import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log
from tests.soak import traffic, verdict, worker
from tests.soak.flat import Found, judge
from tests.soak.gauges import ALLOWED, MIB, Files, look_at, measure

ANSWER_WITHIN_S = 300.0
REFOLD_WITHIN_S = 3_600.0
WARM_UP = 0.3
"""The share of the run before anything is judged: caches fill, and limits come to bite."""
_processes = multiprocessing.get_context("spawn")
NOTHING = Files(0, 0, 0, 0, 0)
Say = Callable[[str], None]


class Plan(NamedTuple):
    """What to do."""

    url: str
    folder: Path
    seconds: float
    load: float = 0.5
    """The share of the peak that is kept up."""
    seed: int = 1
    processes: int = 2
    callers: int = 3
    """In each process."""
    peak_seconds: float = 10.0
    fills: bool = True
    """Whether the memory of ended sessions is filled first; a short run is over before it grows by much."""
    live: Any = worker.live
    """What the processes run; for tests of the soak itself."""


@dataclass
class Outcome:
    """The outcome."""

    peak: float = 0.0
    """Calls a second, all processes together, as fast as they go."""
    asked: float = 0.0
    held: float = 0.0
    """Calls a second that were requested, and done."""
    records: int = 0
    slowest_s: float = 0.0
    found: list[Found] = field(default_factory=list)
    grown: Files = NOTHING
    """What the files have grown by after the warm-up."""
    grown_records: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    void: dict[str, int] = field(default_factory=dict)
    bodies: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Sentences on what must not be: digests that differ, errors, calls that were answered wrongly."""

    @property
    def is_good(self) -> bool:
        """Whether everything is flat, and nothing is wrong."""
        return not self.wrong and all(each.is_flat for each in self.found)


class Running:
    """A process of the soak, seen from the one that runs it."""

    def __init__(self, number: int, plan: Plan, settings: dict[str, Any]) -> None:
        self.name = "ab"[number] if plan.processes <= 2 else str(number)
        self._pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(
            target=plan.live, args=(theirs, plan.url, settings, plan.callers, plan.seed + number), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, what: str, pace_s: float | None = None) -> None:
        """Say what to do; `hear` has the answer."""
        self._pipe.send((what, pace_s))

    def hear(self) -> worker.Report:
        """How it stands."""
        report: worker.Report = _heard(self._pipe, ANSWER_WITHIN_S, f"process {self.name}")
        return report

    def close(self) -> None:
        """Wait until it has ended, or see to it."""
        self._pipe.close()
        self._process.join(ANSWER_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _heard(pipe: Connection, within_s: float, who: str) -> Any:
    if not pipe.poll(within_s):
        raise RuntimeError(f"{who} has not answered for {within_s:.0f} s")
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError(f"{who} has ended before it was asked to") from None


def soak(plan: Plan, settings: list[dict[str, Any]], say: Say) -> Outcome:
    """Do it all; `settings` are those of each process's engine. Raises `RuntimeError` where a process is lost."""
    outcome = Outcome()
    if plan.fills:
        log = open_log(plan.url, SystemClock())
        try:
            records = traffic.fill_memory_of_the_dead(log, SystemClock().now_ms())
        finally:
            log.close()
        say(f"filled the memory of ended sessions: {records:,} records")
    with _started(plan, settings) as running:
        _await_published(running, say)
        outcome.peak = _measure_peak(running, plan.peak_seconds)
        outcome.asked = plan.load * outcome.peak
        say(f"peak {outcome.peak:,.0f} calls/s; {outcome.asked:,.0f} calls/s from here on, for {plan.seconds:,.0f} s")
        _all(running, "go", plan.processes * plan.callers / outcome.asked)
        samples = _watch(plan, running, outcome, say)
        _all(running, "go", None)
        last = _all(running, "end")
        for each, report in zip(running, last, strict=True):
            outcome.wrong += [f"process {each.name}: {what}" for what in [*report.notes, *report.failures[:10]]]
        outcome.ended, outcome.void = last[0].statistics["ended"], last[0].statistics["void"]
        outcome.bodies = last[0].statistics["bodies"]
        outcome.records = max(_records(report) for report in last)
    outcome.found = [judge(name, values, ALLOWED[name.rpartition(": ")[2]]) for name, values in samples.items()]
    say("refolding the log in a new process")
    outcome.wrong += _refold(plan, [report.checkpoints for report in last], settings[0])
    return outcome


@contextmanager
def _started(plan: Plan, settings: list[dict[str, Any]]) -> Iterator[list[Running]]:
    running = [Running(number, plan, each) for number, each in enumerate(settings)]
    try:
        for each in running:
            each.hear()
        yield running
    finally:
        for each in running:
            each.close()


def _all(running: list[Running], what: str, pace_s: float | None = None) -> list[worker.Report]:
    for each in running:
        each.tell(what, pace_s)
    return [each.hear() for each in running]


def _await_published(running: list[Running], say: Say) -> None:
    """Wait until what was filled in is published; while that is in progress there is no peak to be measured."""
    while unpublished := sum(report.unpublished for report in _all(running, "report")):
        say(f"{unpublished:,} facts are yet to be published")
        time.sleep(1)  # waits: between two looks


def _done(reports: list[worker.Report]) -> int:
    return sum(report.done for report in reports)


def _records(report: worker.Report) -> int:
    return sum(checkpoint for checkpoint, _ in report.checkpoints.values())


def _measure_peak(running: list[Running], seconds: float) -> float:
    # The first fifth is for getting under way.
    _all(running, "go", 0.0)
    time.sleep(seconds / 5)  # waits: the load is what takes time here
    began_s, before = time.monotonic(), _done(_all(running, "report"))
    time.sleep(seconds * 4 / 5)  # waits: the load is what takes time here
    return (_done(_all(running, "report")) - before) / (time.monotonic() - began_s)


Samples = dict[str, list[tuple[float, float]]]


def _watch(plan: Plan, running: list[Running], outcome: Outcome, say: Say) -> Samples:
    """Look at everything until the time is up; the samples after the warm-up."""
    samples: Samples = defaultdict(list)
    every_s = max(plan.seconds / 600, 0.2)
    began_s = said_s = time.monotonic()
    reports = _all(running, "report")
    first_done, files, records = _done(reports), measure(plan.folder), _records(reports[0])
    is_warm = False
    while (now_s := time.monotonic()) < began_s + plan.seconds:
        reports = _all(running, "report")
        outcome.slowest_s = max(outcome.slowest_s, *(report.slowest_s for report in reports))
        if now_s >= began_s + WARM_UP * plan.seconds:
            if not is_warm:
                is_warm, files, records = True, measure(plan.folder), _records(reports[0])
            _sample(samples, now_s - began_s, running, reports, plan.folder)
        if now_s - said_s >= max(plan.seconds / 40, 5):
            said_s = now_s
            say(_progress(now_s - began_s, _done(reports) - first_done, running, reports, plan.folder))
        time.sleep(every_s)  # waits: between two looks
    outcome.held = (_done(reports) - first_done) / (time.monotonic() - began_s)
    outcome.grown = Files(*(now - then for now, then in zip(measure(plan.folder), files, strict=True)))
    outcome.grown_records = _records(reports[0]) - records
    return dict(samples)


def _sample(samples: Samples, at_s: float, running: list[Running], reports: list[worker.Report], folder: Path) -> None:
    for each, report in zip(running, reports, strict=True):
        process = look_at(each.pid)
        for name, value in (
            ("memory", process.resident_bytes), ("descriptors", process.descriptors), ("threads", process.threads),
            ("bodies", report.body_bytes), ("live", report.live), ("lag records", report.lag_records),
            ("lag ms", report.lag_ms), ("unpublished", report.unpublished),
        ):  # fmt: skip
            samples[f"{each.name}: {name}"].append((at_s, value))
    files = measure(folder)
    for name, value in (
        ("snapshot", files.snapshot), ("archives", files.archives), ("write-ahead files", files.write_ahead)
    ):  # fmt: skip
        samples[name].append((at_s, value))


def _progress(at_s: float, done: int, running: list[Running], reports: list[worker.Report], folder: Path) -> str:
    each = "; ".join(
        f"{one.name} {look_at(one.pid).resident_bytes / MIB:.0f} MiB, {report.live} live, lag {report.lag_records}"
        for one, report in zip(running, reports, strict=True)
    )
    files = measure(folder)
    return (
        f"{done / at_s:,.0f} calls/s; {each}; log {files.log / MIB:.0f}, history"
        f" {files.history / MIB:.0f}, snapshot {files.snapshot / MIB:.1f} MiB"
    )


def _refold(plan: Plan, wanted: list[verdict.Checkpoints], settings: dict[str, Any]) -> list[str]:
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=verdict.refold, args=(theirs, plan.url, wanted, settings), daemon=True)
    process.start()
    theirs.close()
    try:
        found: list[str] = _heard(ours, REFOLD_WITHIN_S, "the process that refolds")
        return found
    finally:
        ours.close()
        process.join(ANSWER_WITHIN_S)
        if process.is_alive():
            process.kill()
