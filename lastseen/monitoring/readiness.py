"""Whether an engine can serve: each thing that it takes, how it stands, and what to do where it does not stand well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LastseenError

MOST_LAG_MS = 10_000
"""A view that is further behind than this shows too much that is over."""
CHECKS = (
    "shutdown", "fold", "import", "partitions", "log", "writes", "clock", "follower", "snapshot", "background",
)  # fmt: skip
"""Everything that is looked at."""
MOST_SNAPSHOT_AGE_MS = 60_000
"""A snapshot that is further behind makes for a long restart."""


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    says: str
    """How it stands; where that is not well, what to do."""
    is_needed: bool = True
    """Whether an engine for which it fails must not be asked: reads stay right without some."""


def checks(
    engine: Engine, is_leaving: Callable[[], bool] = lambda: False, *, is_strict: bool = False
) -> Iterator[Check]:
    """Look at everything, a moment each; the log is asked, which may take as long as its time-outs.

    `is_leaving` says whether the service is shutting down. With `is_strict`, an engine that cannot answer for one of
    its partitions is not ready; else it is while it answers for any.
    """
    obstacle = engine.obstacle()
    if is_leaving():
        yield Check("shutdown", False, "the service is shutting down: use another instance")
    else:
        yield Check("shutdown", True, "no stop requested")
    yield Check("fold", obstacle is None, "works" if obstacle is None else str(obstacle))
    if obstacle is not None:
        return
    if engine.is_importing:
        yield Check(
            "import", False, "the log is open for import, so nothing expires: finish the import, or copy the log"
        )
    yield _partitions(engine, is_strict)
    yield from _log(engine)
    yield _snapshot(engine)
    failures = {task: error for task, error in engine.health().items() if task != "flush"}
    says = "; ".join(f"{task}: {error}" for task, error in failures.items())
    yield Check("background", not failures, says or "works", is_needed=False)


def _partitions(engine: Engine, is_strict: bool) -> Check:
    expected, served, standby, failed = engine.partitions()
    says = f"serves {len(served)} of {len(expected)} partitions"
    for number, error in sorted(failed.items()):
        says += f"; partition {number} has failed: {error}"
    if loading := sorted(expected - served - failed.keys()):
        says += f"; still to be loaded: {', '.join(map(str, loading))}"
    if standby:
        says += f"; keeps {len(standby & engine.held())} of {len(standby)} ready for others"
    is_whole = len(served) == len(expected)
    return Check("partitions", is_whole, says, is_needed=is_strict or not served)


def _log(engine: Engine) -> Iterator[Check]:
    try:
        ends = engine.log_ends()
        lags = engine.lags()
    except LastseenError as error:
        yield Check("log", False, str(error))
        return
    yield Check("log", True, f"responds, and holds {sum(ends):,} records")
    obstacle = engine.append_obstacle()
    yield Check("writes", obstacle is None, "the log takes appends" if obstacle is None else str(obstacle))
    yield _clock(engine)
    records, longest_ms = sum(lag.records for lag in lags), max((lag.ms for lag in lags), default=0)
    missing = sorted(set(range(len(ends))) - engine.held())
    has_caught_up = longest_ms <= MOST_LAG_MS
    says = f"{records:,} records behind, for {longest_ms / 1000:.1f} s"
    if missing and len(missing) == len(ends):
        says, has_caught_up = (
            "no partition is held yet: wait until the group assigns partitions to this instance",
            False,
        )
    elif not has_caught_up:
        says += f"; {MOST_LAG_MS / 1000:g} s are allowed: wait, or give the instance more processor time"
    yield Check("follower", has_caught_up, says)


def _clock(engine: Engine) -> Check:
    gap_ms = engine.void_gap_ms()
    if gap_ms is None:
        return Check("clock", True, "near enough to the log's clock, as far as is known")
    says = f"{abs(gap_ms) / 1000:,.0f} s {'behind' if gap_ms > 0 else 'ahead of'} the log's clock"
    return Check(
        "clock", False, f"this machine's clock is {says}, so every write is void: correct the time synchronisation"
    )


def _snapshot(engine: Engine) -> Check:
    state, failure = engine.snapshot_state(), engine.health().get("flush")
    if failure is not None:
        return Check("snapshot", False, str(failure), is_needed=False)
    if state.age_ms > MOST_SNAPSHOT_AGE_MS:
        says = f"{state.unsaved:,} sessions have not been written for {state.age_ms / 1000:.0f} s: see that the disk is"
        return Check("snapshot", False, f"{says} fast enough, or call `flush` where nothing runs in the background",
                     is_needed=False)  # fmt: skip
    return Check("snapshot", True, f"{state.unsaved:,} sessions to write", is_needed=False)
