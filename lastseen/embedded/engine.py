"""Composition: the engine that `open_engine` returns, put together from its parts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from lastseen.embedded.background import FOLLOW_EVERY_S, BackgroundThreads
from lastseen.embedded.duties import EngineDuties
from lastseen.embedded.garbage_collection import freeze_after_start
from lastseen.embedded.introspection import Meters, Observed
from lastseen.embedded.lag import LogWatch
from lastseen.embedded.loading import holds_owned, load
from lastseen.embedded.memory_pressure import MemoryPressure
from lastseen.embedded.memory_relief import MemoryRelief
from lastseen.embedded.metered_log import MeteredLog
from lastseen.embedded.owned_partitions import OwnedPartitions
from lastseen.embedded.past import PastReads
from lastseen.embedded.settings import Settings, duration_ms
from lastseen.engine.clock import Clock
from lastseen.engine.codec import check_key
from lastseen.engine.errors import EngineClosed, InvalidEvent, InvalidSetting, LastseenError, shown
from lastseen.engine.log.port import Log, Position
from lastseen.engine.session import Session, SessionView, Status
from lastseen.projections.bodies import Body, BodyId, Message
from lastseen.projections.follower import Follower
from lastseen.projections.live_view import LiveView, Page, Sort, Unused
from lastseen.projections.pruner import Plan, Pruner
from lastseen.projections.spared import Guarded, guarded
from lastseen.projections.subscriptions import Subscription, Subscriptions

_logger = logging.getLogger("lastseen")
_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""
Progress = Callable[[int, int], None]
"""Told, while the log is read at the start, how many records are folded and how many there are."""


HEAVY_RECORDS = 20_000
HEAVY_SESSIONS = 200_000
"""How much may wait for a flush during the start."""


class Engine(PastReads, Observed):
    """A session lifecycle engine on one log: the commands, the reads, and the upkeep behind them.

    Safe to call from many threads. Use it as a context manager, or call `shutdown` when you are done.
    """

    def __init__(self, log: Log, clock: Clock, settings: Settings, progress: Progress | None = None) -> None:
        self._settings = settings
        state = load(log, settings)
        self.notes: list[str] = state.notes
        """Sentences on what was damaged at the start, and what was used in its place."""
        for note in state.notes:
            _logger.warning("%s", note)
        self._statistics, self._bodies = state.statistics, state.bodies
        self._snapshot, self._history = state.snapshot, state.history
        self._views = LiveView(state.partitions, self, threading.Lock())
        self._subscriptions = Subscriptions()
        self._background = BackgroundThreads(self._views, clock, settings.max_sessions, self.owned)
        on_record = [self._bodies.on_record, self._subscriptions.on_record]
        if state.outbox is not None:
            on_record.append(state.outbox.on_record)
        self._follower = Follower(
            log,
            self._views,
            [self._snapshot, self._history, self._statistics, self._background],
            on_record,
        )
        self._duties = EngineDuties(log, settings, self._views, state.outbox, self._background.wake_pruner)
        self._views.owner_address = self._duties.known_owner
        metered = MeteredLog(log)
        self.meters = Meters(metered, LogWatch(log, self._views.present_partitions), clock.now_ms())
        super().__init__(
            metered, self._views, self._follower, clock, source=settings.source, policy=settings.default_policy()
        )
        self._pruner = Pruner(
            self._views,
            self.append_and_fold,
            source=settings.source,
            max_sessions=settings.max_sessions,
            owned=self._duties.announced_by_us,
        )
        self._memory_relief = MemoryRelief(MemoryPressure(settings.max_memory_bytes), self._bodies, self._views.lock)
        self._bodies.call_every(self._memory_relief.step_bytes(settings.max_body_bytes), self._background.request_flush)
        self._owned_partitions = (
            OwnedPartitions(
                log, self._views, self._follower, state, self._duties.owned, self._flush, self._flush_if_heavy
            )
            if holds_owned(log, settings)
            else None
        )
        self._archive_every_ms = (
            None if settings.archive_interval is None else duration_ms("archive_interval", settings.archive_interval)
        )
        self._archived_at_ms = clock.now_ms()
        self._closing = threading.Lock()
        self._is_closed = False
        try:
            self._catch_up(progress)
            if settings.freeze:
                freeze_after_start()
            self._duties.begin()
        except BaseException:
            self._duties.close()
            self._snapshot.close()
            self._history.close()
            raise
        if settings.background:
            self._background.start(
                follow=self._follow,
                follow_every_s=0 if self._duties.waits else FOLLOW_EVERY_S,
                flush=self._maintain,
                flush_every_s=duration_ms("snapshot_interval", settings.snapshot_interval) / 1000,
                prune=self._prune_in_background if settings.prune else None,
                publish=self._duties.publish if self._duties.publishes else None,
            )

    def _catch_up(self, progress: Progress | None) -> None:
        """Fold all that the log holds, keeping memory bounded on the way."""
        while True:
            ends = self._log.end_offsets()
            total = sum(ends)
            for partition in self._views.present_partitions():
                end = ends[partition.number]
                while partition.checkpoint < end:
                    self._follower.advance(partition.number, end)
                    self._flush_if_heavy()
                    if progress is not None:
                        progress(sum(other.checkpoint for other in self._views.partitions), total)
            if ends == self._log.end_offsets():
                return

    def _flush_if_heavy(self) -> None:
        if (
            self._background.take_flush_request()
            or self._history.unsaved() >= HEAVY_RECORDS
            or self._snapshot.unsaved() >= HEAVY_SESSIONS
        ):
            self.flush()
            self._memory_relief.shed()

    # ── reads: none of them touches; those of the past stand in `past_reads` ──

    def get(self, key: str) -> SessionView | None:
        """The session that lives under `key`, or `None`. Raises `InvalidKey`."""
        check_key(key)
        return self._views.get(key, self._now_ms())

    def get_by_id(self, session_id: str) -> SessionView | None:
        """The live session with this id, or `None`. Raises `InvalidEvent` for what can be no id."""
        if not isinstance(session_id, str):
            raise InvalidEvent(f"session_id = {shown(session_id)}: give text")
        return self._views.get_by_id(session_id, self._now_ms())

    def list(
        self,
        *,
        sort: Sort = "lru",
        status: Status | str | None = None,
        prefix: str = "",
        owner: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of live sessions: `lru` (least recently used first), `deadline` (soonest first) or `created`.

        Raises `InvalidSetting` for an unknown sort, status, limit or cursor.
        """
        if isinstance(status, str):
            try:
                status = Status(status)
            except ValueError:
                raise InvalidSetting(f"status = {shown(status)}: give active or suspended") from None
        return self._views.list(
            self._now_ms(), sort=sort, status=status, prefix=prefix, owner=owner, limit=limit, cursor=cursor
        )

    def register_prefixes(self, prefixes: Iterable[str]) -> None:
        """Keep an index of the sessions under each of these prefixes, so that listings under one look at no others.

        Looks at every live session once; what is registered already costs nothing.
        """
        self._check_open()
        self._views.register(prefixes)

    def unused_since(self, before_ms: float, prefix: str = "") -> Sequence[Unused]:
        """The active sessions under a prefix that were last used before a time, least recently used first.

        Costs a look at every session that is so old, and at none that was used since. Those that are due are told too.
        """
        self._check_open()
        return self._views.unused_since(before_ms, prefix)

    def count(self) -> int:
        """How many sessions no record has ended yet: those that are due but not announced are counted. O(1)."""
        return self._views.count()

    def messages(self, key: str) -> Sequence[Message]:
        """The newest messages of the live session under `key`, oldest first; `history` and `as_of` have the rest."""
        session = self.get(key)
        if session is None:
            return []
        body_id = BodyId(session.partition, session.born_offset)
        return list(self._bodies.read(body_id, self._snapshot, self._views.lock).messages.values())

    def subscribe(self) -> Subscription:
        """Facts from now on, as they happen: an iterator and a context manager."""
        return self._subscriptions.add()

    def partition_of(self, key: str) -> int:
        """The number of the partition that a key belongs to. Raises `InvalidKey`."""
        check_key(key)
        return self._views.number_of(key)

    def reached(self, partition: int) -> Position:
        """The last record of a partition that this engine has folded; its offset is -1 before the first."""
        return Position(partition, self._views.partitions[partition].checkpoint - 1)

    def has_reached(self, position: Position) -> bool:
        """Whether this engine shows what the record at `position` did. Raises `InvalidSetting` where none can be."""
        if not 0 <= position.partition < len(self._views.partitions) or position.offset < 0:
            last = len(self._views.partitions) - 1
            raise InvalidSetting(f"position {position.partition}:{position.offset}: the partitions are 0 to {last}")
        return self._views.partitions[position.partition].checkpoint > position.offset

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Wait until this engine shows what the record at `position` did; whether it does. Raises `LogError`."""
        self._check_open()
        if self.has_reached(position):
            return True
        if not self._log.wait(position, timeout_s):
            return False
        self._follower.catch_up(position)
        return True

    # ── what machines share ──

    def owner_of(self, key: str) -> str | None:
        """The address of the engine that owns the partition of `key`, if it gave one. Raises `LogUnavailable`."""
        check_key(key)
        return self._duties.owner_of(self._views.number_of(key))

    # ── upkeep ──

    def _follow(self) -> None:
        if self._owned_partitions is not None and self._owned_partitions.adjust():
            self._background.wake_pruner()
        self._duties.follow(self._follower)

    def refresh(self) -> int:
        """Fold what other processes have written; returns how many records. Raises `LogError`."""
        self._check_open()
        return self._follower.catch_up()

    def prune(self, *, dry_run: bool = False) -> Plan:
        """Announce every session that is due or too many; with `dry_run`, only say which. Returns the plan."""
        self.refresh()
        if dry_run:
            return self._pruner.plan(self._now_ms(), limit=2**62)
        return self._pruner.run(self._now_ms())

    def execute_plan(self, plan: Plan) -> None:
        """Announce what a plan says, and nothing else. Each is judged by the fold like any other record: a session that
        was used since, or has ended, is not ended by it. Raises `LogError`."""
        self._check_open()
        self._pruner.execute(plan, self._now_ms())

    def guarded(self, limit: int, prefix: str = "") -> Guarded:
        """Sessions that would be over by now, were they not suspended or held. Costs a look at every live session."""
        return guarded(self._views, self._now_ms(), limit, prefix)

    def _prune_in_background(self) -> int:
        if self.is_importing:
            return 0  # the history that is being imported says itself what ended when
        self._follower.catch_up()
        return len(self._pruner.run(self._clock.now_ms()).due)

    def flush(self) -> int:
        """Write the history and the snapshot; returns how many sessions were written. Raises `SnapshotError`."""
        self._check_open()
        return self._flush()

    def _flush(self) -> int:
        if self._follower.is_torn:
            # What an interrupted fold left behind must not be kept: the next start folds it from the log.
            self._follower.check()
        now_ms = self._clock.now_ms()
        with self.meters.flushes.timed():
            written = self._snapshot.flush(
                self._views.present_partitions(), self._statistics, self._bodies, self._history, self._views.lock
            )
        self.meters.saved_at_ms = now_ms
        return written

    def archive(self) -> str | None:
        """Put a verified copy of the snapshot by; returns where. `None` if the snapshot is in memory."""
        self.flush()
        return self._snapshot.archive()

    def _maintain(self) -> None:
        try:
            self._save()
        finally:
            self._relieve_memory()

    def _save(self) -> None:
        if self._duties.publishes and "publish" not in self._background.failures:
            # What others have been told need not be kept for them.
            self._duties.publish()
        now_ms = self._clock.now_ms()
        self.meters.watch.sample(now_ms)
        if self._snapshot.unsaved() or self._history.unsaved():
            self.flush()
        self.meters.saved_at_ms = now_ms
        if self._archive_every_ms is not None and now_ms - self._archived_at_ms >= self._archive_every_ms:
            self._archived_at_ms = now_ms
            self.archive()

    def _relieve_memory(self) -> None:
        may_end = self._settings.evict_on_pressure and not self.is_importing
        self._memory_relief.make_room(self._evict_for_memory if may_end else None)

    def _evict_for_memory(self) -> None:
        now_ms = self._clock.now_ms()
        self._pruner.execute(self._pruner.plan_memory(now_ms, max(self.count() // 20, 1)), now_ms)

    def _now_ms(self) -> int:
        """The time by which reads judge deadlines: while history is being imported, the history's own."""
        self._check_open()
        if self.is_importing:
            return max(partition.log_time_ms for partition in self._views.partitions)
        return self._clock.now_ms()

    @property
    def is_importing(self) -> bool:
        """Whether the log is open for the import of a history that is not finished yet."""
        return any(partition.importing for partition in self._views.partitions)

    # ── attributes (`live_view.Attributes`) ──

    def in_memory(self, partition: int, session: Session) -> Mapping[str, Any] | None:
        """The attributes of a session, if they are in memory."""
        return self._bodies.in_memory(_tuple(BodyId, (partition, session.born_offset)))

    def load(self, partition: int, session: Session) -> Mapping[str, Any]:
        """The attributes of a session, from the snapshot if they have left memory."""
        self._check_open()
        return self._body(partition, session).attributes

    def _body(self, partition: int, session: Session) -> Body:
        return self._bodies.read(BodyId(partition, session.born_offset), self._snapshot, self._views.lock)

    # ── the end ──

    def shutdown(self) -> None:
        """Stop the threads, flush, and let go of the log. May be called again; nothing acknowledged is lost."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        self._fire_and_forget.send()
        self._background.stop()
        self._subscriptions.close()
        self._duties.close()
        try:
            self._flush()
        except LastseenError as error:
            _logger.warning("the last flush failed, the next start reads more of the log: %s", error)
        finally:
            self._snapshot.close()
            self._history.close()
            self._log.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed("the engine has shut down: open another with `open_engine`")
        # A command that cannot be folded must not be appended either, nor a view be shown that is known to be wrong.
        self._follower.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()
