"""Starting: the state an engine begins with, from the snapshot and the history if they are sound, else from nothing.

A start after a crash is no different from any other: load the snapshot, follow the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastseen.embedded.settings import Settings
from lastseen.engine.errors import LogError
from lastseen.engine.genesis import check_genesis
from lastseen.engine.log.port import Log
from lastseen.engine.log.shared_log import SharedLog
from lastseen.projections.archive import open_soundest
from lastseen.projections.bodies import Bodies
from lastseen.projections.history import History
from lastseen.projections.outbox import Outbox
from lastseen.projections.partition import Partition
from lastseen.projections.snapshot import Snapshot
from lastseen.projections.snapshot_file import IN_MEMORY, SnapshotFile
from lastseen.projections.snapshot_rows import Damaged
from lastseen.projections.statistics import Statistics


@dataclass(slots=True)
class State:
    """What an engine knows before it reads the log."""

    partitions: list[Partition]
    statistics: Statistics
    bodies: Bodies
    snapshot: Snapshot
    history: History
    outbox: Outbox | None
    """What is still to be published; `None` where nothing is published."""
    failures: dict[int, LogError]
    """The partitions of which the snapshot holds more than the log."""
    notes: list[str]
    """Sentences on what was damaged or missing, and what was used in its place."""

    def close(self) -> None:
        """Close the files."""
        self.snapshot.close()
        self.history.close()


def places(log: Log, settings: Settings) -> tuple[str, str]:
    """Where the snapshot and the history are: beside an SQLite log, else in memory, unless it is said."""
    log_path = getattr(log, "path", None)
    snapshot = settings.snapshot or (IN_MEMORY if log_path is None else f"{log_path}.snapshot")
    return snapshot, IN_MEMORY if snapshot == IN_MEMORY else f"{snapshot.removesuffix('.snapshot')}.history"


def holds_owned(log: Log, settings: Settings) -> bool:
    """Whether the engine holds only the partitions that it owns."""
    return settings.view == "owned" and isinstance(log, SharedLog)


def load(log: Log, settings: Settings) -> State:
    """The state to begin with. Raises `SnapshotError`, `LogMismatch`, and `NoGenesis` where the log has none."""
    log_id = check_genesis(log)
    publishes = settings.facts and isinstance(log, SharedLog)
    snapshot_path, history_path = places(log, settings)
    history = History(history_path, log.identity)

    def open_state() -> State:
        partitions = [Partition(number) for number in range(log.partitions)]
        statistics = Statistics(log.partitions)
        outbox = Outbox(log.partitions, f"/lastseen/{log.identity}") if publishes else None
        file = SnapshotFile(snapshot_path, log.identity, log.partitions)
        snapshot = Snapshot(file, log.partitions, outbox, log_id)
        ahead: dict[int, LogError] = {}
        try:
            # An engine that holds only what it owns takes that up when it knows what it is.
            snapshot.load([] if holds_owned(log, settings) else partitions, statistics, log.end_offsets, ahead)
            reached = history.reached()
            for partition in partitions:
                if reached.get(partition.number, 0) < partition.checkpoint:
                    # What it misses can only be had by folding from the start: verdicts are stored nowhere else.
                    raise Damaged("its history is older than the snapshot, or missing")
        except BaseException:
            snapshot.close()
            raise
        from_the_log = {partition.number for partition in partitions if not partition.checkpoint}
        snapshot.starting = from_the_log - ahead.keys()
        return State(partitions, statistics, Bodies(settings.max_body_bytes), snapshot, history, outbox, ahead, [])

    try:
        state, state_notes = open_soundest(snapshot_path, open_state)
    except BaseException:
        history.close()
        raise
    state.notes = state_notes
    return state
