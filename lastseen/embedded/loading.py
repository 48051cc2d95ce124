"""Starting: the state an engine begins with, from the snapshot and the history if they are sound, else from nothing.

A start after a crash is no different from any other: load the snapshot, follow the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lastseen.embedded.settings import IN_MEMORY_NAMES, Settings
from lastseen.embedded.state_folder import StateFolder, claim
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
    folder: StateFolder | None = None
    """The folder of the files, if this engine has it to itself."""

    def close(self) -> None:
        """Close the files."""
        self.snapshot.close()
        self.history.close()
        if self.folder is not None:
            self.folder.lock.close()


class Places(NamedTuple):
    """Where the snapshot and the history are."""

    snapshot: str
    history: str
    folder: StateFolder | None = None
    """The folder that this engine has to itself, if they are in one."""
    notes: tuple[str, ...] = ()


def places(log: Log, settings: Settings) -> Places:
    """Where they are: as the setting says, else beside an SQLite log, in the folder for state for a log on brokers, and
    in memory for a log in memory, or where there is no such folder."""
    log_path = getattr(log, "path", None)
    if settings.snapshot is not None:
        return _beside("" if settings.snapshot in IN_MEMORY_NAMES else settings.snapshot)
    if log_path is not None:
        return _beside(f"{log_path}.snapshot")
    if not isinstance(log, SharedLog):
        return _beside("")
    try:
        folder = claim(log.identity, publishes=settings.facts)
    except OSError as error:
        return _beside("")._replace(notes=(
            f"the snapshot and the history are in memory, since the folder for state cannot be used ({error}): each"
            f" start folds the whole log, and the history keeps its newest {settings.max_history_bytes} bytes. Name a"
            " file with the setting `snapshot`, or say `memory` to do without this note",
        ))  # fmt: skip
    return _beside(folder.snapshot)._replace(folder=folder)


def _beside(snapshot: str) -> Places:
    if not snapshot:
        return Places(IN_MEMORY, IN_MEMORY)
    return Places(snapshot, f"{snapshot.removesuffix('.snapshot')}.history")


def holds_owned(log: Log, settings: Settings) -> bool:
    """Whether the engine holds only the partitions that it owns."""
    return settings.view == "owned" and isinstance(log, SharedLog)


def load(log: Log, settings: Settings) -> State:
    """The state to begin with. Raises `SnapshotError`, `LogMismatch`, and `NoGenesis` where the log has none."""
    log_id = check_genesis(log)
    publishes = settings.facts and isinstance(log, SharedLog)
    where = places(log, settings)
    try:
        history = History(where.history, log.identity, settings.max_history_bytes)
    except BaseException:
        if where.folder is not None:
            where.folder.lock.close()
        raise

    def open_state() -> State:
        partitions = [Partition(number) for number in range(log.partitions)]
        statistics = Statistics(log.partitions)
        outbox = Outbox(log.partitions, f"/lastseen/{log.identity}") if publishes else None
        file = SnapshotFile(where.snapshot, log.identity, log.partitions)
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
        state, state_notes = open_soundest(where.snapshot, open_state)
    except BaseException:
        history.close()
        if where.folder is not None:
            where.folder.lock.close()
        raise
    state.notes, state.folder = [*where.notes, *state_notes], where.folder
    return state
