"""Composition: the engine that `open_engine` returns, put together from its parts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Self

from lastseen.embedded.background import BackgroundThreads
from lastseen.embedded.duties import EngineDuties
from lastseen.embedded.figures import Figures
from lastseen.embedded.garbage_collection import freeze_after_start
from lastseen.embedded.introspection import Meters
from lastseen.embedded.lag import LogWatch
from lastseen.embedded.loading import load
from lastseen.embedded.maintenance import Maintenance, Progress
from lastseen.embedded.metered_log import MeteredLog
from lastseen.embedded.past import PastReads
from lastseen.embedded.settings import Settings
from lastseen.engine.arguments import ANY, Anything, wanted_status, wanted_text
from lastseen.engine.clock import Clock
from lastseen.engine.codec import check_key
from lastseen.engine.commands import Commands
from lastseen.engine.errors import EngineClosed, InvalidEvent, LastseenError, shown
from lastseen.engine.fire_and_forget import FireAndForget
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.port import Log, Position
from lastseen.engine.log.port import Message as LogMessage
from lastseen.engine.log.shared_log import SharedLog
from lastseen.engine.session import SessionView, Status
from lastseen.engine.session_engine import SessionEngine
from lastseen.engine.view import Answer
from lastseen.projections.bodies import Message
from lastseen.projections.body_reads import BodyReads
from lastseen.projections.follower import Follower, Listener, Projection
from lastseen.projections.listing import Sort
from lastseen.projections.live_view import LiveView, Page, Unused
from lastseen.projections.pruner import Plan, Pruner
from lastseen.projections.spared import Guarded, guarded
from lastseen.projections.subscriptions import Subscription, Subscriptions

_logger = logging.getLogger("lastseen")


class Engine(Commands, PastReads, Figures):
    """A session lifecycle engine on one log: the commands, the reads, and the tasks behind them.

    Safe to call from many threads. Use it as a context manager, or call `shutdown` when you are done.
    """

    def __init__(self, log: Log, clock: Clock, settings: Settings, progress: Progress | None = None) -> None:
        self.partition_count, self._is_closed = log.partitions, False
        self._closing = threading.Lock()
        state = load(log, settings)
        self.notes: list[str] = state.notes
        """Sentences on what was damaged at the start, and what was used in its place."""
        for note in state.notes:
            _logger.warning("%s", note)
        view_lock = threading.Lock()
        self._body_reads = BodyReads(
            state.bodies, state.snapshot, view_lock, self._check_open, state.history.end_before
        )
        view = LiveView(state.partitions, self._body_reads, view_lock)
        view.fail_from_start(state.failures)
        self._subscriptions = Subscriptions()
        health = DutyHealth()
        duties = EngineDuties(log, settings, view, state.outbox, health)
        view.known_owner = duties.known_owner
        view.has_one_clock = not isinstance(log, SharedLog)
        self._background = BackgroundThreads(view, clock, settings.max_sessions, duties.performed, health)
        listeners: list[Listener] = [state.bodies, self._subscriptions]
        if state.outbox is not None:
            listeners.append(state.outbox)
        projections: list[Projection] = [state.snapshot, state.history, state.statistics, self._background]
        self._follower = Follower(log, view, projections, listeners, state.snapshot.before_fold)
        metered = MeteredLog(log, view.check_writable)
        meters = Meters(
            metered, LogWatch(log, view.served_partitions, lambda: self._follower.last_skew), clock.now_ms()
        )
        fire_and_forget = FireAndForget(metered, settings.source, clock)
        PastReads.__init__(self, metered, state.history, view, self._now_ms, self._check_open)
        Commands.__init__(
            self,
            SessionEngine(metered, view, self._follower, clock, fire_and_forget, self._check_open, self._known_end),
            view,
            clock,
            fire_and_forget,
            source=settings.source,
            policy=settings.default_policy(),
        )
        pruner = Pruner(
            view,
            self._loop.append_and_fold,
            source=settings.source,
            max_sessions=settings.max_sessions,
            owned=duties.announced_by_us,
        )
        maintenance = Maintenance(
            settings, clock, log, state=state, view=view, follower=self._follower, duties=duties,
            pruner=pruner, background=self._background, meters=meters, check_open=self._check_open,
        )  # fmt: skip
        Figures.__init__(
            self, metered, clock, state=state, view=view, duties=duties, pruner=pruner, maintenance=maintenance,
            health=health, meters=meters, check_open=self._check_open,
        )  # fmt: skip
        self._start(settings, progress)

    def _start(self, settings: Settings, progress: Progress | None) -> None:
        try:
            self._duties.prepare()
            self._maintenance.catch_up(progress)
            self._state.snapshot.starting.clear()
            if settings.freeze:
                freeze_after_start()
            self._duties.begin(self._background.wake_pruner)
        except BaseException:
            self._duties.close()
            self._state.close()
            raise
        if settings.background:
            self._maintenance.start()

    # ── reads of the live view: none of them touches ──

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
        status: Status | str | Anything = ANY,
        prefix: str | Anything = ANY,
        owner: str | Anything = ANY,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of live sessions: `lru` (least recently used first), `deadline` (soonest first) or `created`.

        With `since_ms` those that were last used at that time or later, with `until_ms` before it. A filter that is
        left out leaves no session out. `None` and empty text are refused: a program that computed them did not mean all
        sessions. Raises `InvalidSetting`, also for an unknown sort, status or limit, and for a cursor of a page with
        another sort or filter.
        """
        return self._views.list(
            self._now_ms(), sort=sort, status=wanted_status(status), prefix=wanted_text("prefix", prefix) or "",
            owner=wanted_text("owner", owner), since_ms=since_ms, until_ms=until_ms, limit=limit, cursor=cursor,
        )  # fmt: skip

    def register_prefixes(self, prefixes: Iterable[str]) -> None:
        """Keep an index of the sessions under each of these prefixes, so that listings under one look at no others.

        Looks at every live session once; what is registered already costs nothing.
        """
        self._check_open()
        self._views.register(prefixes)

    def unused_since(self, before_ms: float, prefix: str | Anything = ANY) -> Sequence[Unused]:
        """The active sessions under a prefix that were last used before a time, least recently used first.

        Costs a look at every session that is so old, and at none that was used since. Those that are due are included.
        """
        self._check_open()
        return self._views.unused_since(before_ms, wanted_text("prefix", prefix) or "")

    def count(self) -> int:
        """How many sessions no record has ended yet: those that are due but not announced are counted. O(1)."""
        return self._views.count()

    def messages(self, key: str) -> Sequence[Message]:
        """The newest messages of the live session under `key`, oldest first; `history` and `as_of` have the rest."""
        session = self.get(key)
        return [] if session is None else self._body_reads.messages(session.partition, session.born_offset)

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
        return self._views.has_reached(position)

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Wait until this engine shows the record at `position`; whether it does. Raises `LogError` and `NotOwner`."""
        self._check_open()
        if self.has_reached(position):
            return True
        self._views.check_served(position.partition, f"the record {position.partition}:{position.offset}")
        if not self._log.wait(position, timeout_s):
            return False
        self._follower.catch_up(position)
        return True

    def owner_of(self, key: str) -> str | None:
        """The address of the engine that owns the partition of `key`, if it gave one. Raises `LogUnavailable`."""
        check_key(key)
        return self._duties.owner_of(self._views.number_of(key))

    # ── background tasks, for callers that run them themselves ──

    def refresh(self) -> int:
        """Fold what other processes have written; returns how many records. Raises `LogError`."""
        self._check_open()
        return self._follower.catch_up()

    def prune(self, *, dry_run: bool = False) -> Plan:
        """Announce every session that is due or too many; with `dry_run`, only say which. Returns the plan."""
        self.refresh()
        if dry_run:
            return self._pruner.dry_run(self._now_ms())
        return self._pruner.run(self._now_ms())

    def execute_plan(self, plan: Plan) -> None:
        """Announce what a plan says, and nothing else. Each is judged by the fold like any other record: a session that
        was used since, or has ended, is not ended by it. Raises `LogError`."""
        self._check_open()
        self._pruner.execute(plan, self._now_ms())

    def guarded(self, limit: int, prefix: str | Anything = ANY) -> Guarded:
        """Sessions that would be over by now, were they not suspended or held. Costs a look at every live session."""
        return guarded(self._views, self._now_ms(), limit, wanted_text("prefix", prefix) or "")

    def flush(self) -> int:
        """Write the history and the snapshot; returns how many sessions were written. Raises `SnapshotError`."""
        self._check_open()
        return self._maintenance.flush()

    def archive(self) -> str | None:
        """Write a verified copy of the snapshot; returns its path, or `None` if the snapshot is in memory.

        Raises `SnapshotError`.
        """
        return self._maintenance.archive()

    def append_and_answer(self, messages: Sequence[LogMessage], event_ids: Sequence[str]) -> Sequence[Answer]:
        """Append the events of many sessions at once; the answers, in their order. Raises `LogError`.

        `messages` hold events with these ids. The fold judges each by itself.
        """
        return self._loop.append_and_answer(messages, event_ids)

    def _now_ms(self) -> int:
        """The time by which reads judge deadlines: while history is being imported, the history's own."""
        self._check_open()
        if self._views.is_importing:
            return self._views.log_time_ms()
        return self._clock.now_ms()

    @property
    def is_importing(self) -> bool:
        """Whether the log is open for the import of a history that is not finished yet."""
        return self._views.is_importing

    def leave_group(self) -> None:
        """Hand the owner's duties to other engines at once; this one goes on answering. May be called again.

        The first step of a shutdown, to be taken while requests are still answered. Does not wait for the log.
        """
        self._duties.leave()

    def shutdown(self) -> None:
        """Stop the threads, flush, and close the log. May be called again; nothing acknowledged is lost."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        # First of all: whatever takes long below, others have the duties by then.
        self.leave_group()
        self._fire_and_forget.send()
        self._background.stop()
        self._subscriptions.close()
        self._duties.close()
        try:
            self._maintenance.flush()
        except LastseenError as error:
            _logger.warning("the last flush failed, the next start reads more of the log: %s", error)
        finally:
            self._state.close()
            self._log.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed("the engine has shut down: open another with `open_engine`")
        # A command that cannot be folded must not be appended, nor may a view be shown that is known to be wrong.
        self._follower.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
