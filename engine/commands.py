"""The commands: what callers can do to sessions. Each turns a call into an event and leaves the rest to the loop.

Every method takes the session's key and raises errors of `engine.errors` only. `session_id` pins a command to that very
session, `if_version` to that very version of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from lastseen.engine import events, own_events
from lastseen.engine.arguments import attributes_of, check_wait
from lastseen.engine.bulk_commands import BulkCommands
from lastseen.engine.clock import Clock, iso_from_ms
from lastseen.engine.codec import check_key, checked
from lastseen.engine.durations import UNCHANGED, Limit, with_limits
from lastseen.engine.errors import LastseenError, VersionConflict
from lastseen.engine.fire_and_forget import FireAndForget
from lastseen.engine.hold import Hold
from lastseen.engine.identifiers import new_event_id, new_session_id
from lastseen.engine.lease_renewer import LeaseRenewer
from lastseen.engine.preconditions import check_merged, is_coalesced, live_session
from lastseen.engine.session import Policy, Session, SessionView
from lastseen.engine.session_engine import ATTEMPTS, Decided, SessionEngine, Wait
from lastseen.engine.touches import Touches, Wanted
from lastseen.engine.view import PartitionState, View

E = TypeVar("E", bound=events.SessionEvent)


class Commands:
    """The session commands, for callers that name themselves `source` and use `policy` unless they give another."""

    def __init__(
        self,
        loop: SessionEngine,
        view: View,
        clock: Clock,
        fire_and_forget: FireAndForget,
        *,
        source: str,
        policy: Policy,
    ) -> None:
        self._loop = loop
        self._view = view
        self._clock = clock
        self._renewer = LeaseRenewer(clock)
        self._fire_and_forget = fire_and_forget
        self._touches = Touches(loop, view, clock, fire_and_forget, source)
        self._bulk = BulkCommands(loop, view, clock, source)
        self._source = source
        self._policy = policy

    # ── beginning ──

    def open(
        self,
        key: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        touch: bool = False,
        session_id: str | None = None,
        idle_ttl: Limit = UNCHANGED,
        max_age: Limit = UNCHANGED,
        suspend_ttl: Limit = UNCHANGED,
    ) -> SessionView:
        """The session that lives under `key`; a new one if there is none. Opening a live one does not touch it.

        With `touch`, a live one is touched in the same step, unless it is suspended: it is the most recently used when
        this returns, so that no eviction and no deadline comes between opening it and using it. `session_id` is for a
        new session. `idle_ttl`, `max_age` and `suspend_ttl` are the limits of a new session where they differ from
        `policy`: `"1h30m"`, a `timedelta`, or `None` for no limit.
        """
        found: list[SessionView] = []
        limits = with_limits(self._policy if policy is None else policy, idle_ttl, max_age, suspend_ttl)

        def is_left(session: Session, now_ms: int) -> bool:
            """Whether a live session is returned as it is."""
            return not touch or session.suspended_at_ms is not None or is_coalesced(session, now_ms)

        def make(now_ms: int, session: Session | None, partition: PartitionState) -> events.Created | Decided | None:
            found.clear()
            if session is None or session.is_due(self._view.reading_ms(partition.number, now_ms)):
                return self._created(key, now_ms, attributes, limits, session_id=session_id)
            if is_left(session, now_ms):
                found.append(self._view.show(partition.number, session))
                return None
            return self._plain_touch(key, now_ms, session)

        opened = self._loop.run(
            key, make, may_skip=lambda session, now_ms: not session.is_due(now_ms) and is_left(session, now_ms)
        )
        return found[0] if opened is None else opened

    def create(
        self,
        key: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        session_id: str | None = None,
        idle_ttl: Limit = UNCHANGED,
        max_age: Limit = UNCHANGED,
        suspend_ttl: Limit = UNCHANGED,
    ) -> SessionView:
        """Begin a session, with limits as for `open`. Raises `SessionExists` if one lives, or the id was used."""
        limits = with_limits(self._policy if policy is None else policy, idle_ttl, max_age, suspend_ttl)
        return _present(
            self._loop.run(
                key, lambda now_ms, *_: self._created(key, now_ms, attributes, limits, session_id=session_id)
            )
        )

    def rotate(
        self,
        key: str,
        *,
        reason: str = "rotated",
        attributes: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        session_id: str | None = None,
        if_version: int | None = None,
        new_session_id: str | None = None,
    ) -> SessionView:
        """End the live session and begin another under its key, in one step.

        Attributes and limits carry over unless given; `new_session_id` is for the one that begins. Raises
        `SessionNotFound` or `SessionEnded` if none lives.
        """
        for attempt in range(ATTEMPTS):
            carried, read_at_version = attributes, if_version
            if carried is None:
                before = self._peek(key)
                if before is not None:
                    carried = before.attributes
                    read_at_version = before.version if if_version is None else if_version

            def make(
                now_ms: int,
                session: Session | None,
                partition: PartitionState,
                carried: Mapping[str, Any] | None = carried,
                version: int | None = read_at_version,
            ) -> events.Created:
                session = self._live(key, session, session_id, now_ms, partition)
                return self._created(
                    key, now_ms, carried, session.policy if policy is None else policy,
                    session_id=new_session_id, replaces=session.session_id, reason=reason, if_version=version,
                )  # fmt: skip

            try:
                return _present(self._loop.run(key, make, pinned=session_id is not None or read_at_version is not None))
            except VersionConflict:
                # What is to be carried over has changed since it was read.
                if if_version is not None or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    # ── living ──

    def touch(
        self,
        key: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        message: Any = None,
        policy: Policy | None = None,
        session_id: str | None = None,
        if_version: int | None = None,
        wait: Wait = "applied",
        event_id: str | None = None,
    ) -> SessionView | None:
        """Activity: the idle clock restarts. May carry a merge patch of the attributes, a message, new limits.

        Returns the session once the touch is folded; with `wait="appended"` nothing, once the log has it; with
        `wait="none"` nothing, at once (`engine.fire_and_forget`). A plain touch within `touch_precision_ms` of the last
        is not written. With an `event_id` of your own, a touch that is sent twice stores its message once.
        """
        check_wait(wait)
        is_plain = attributes is None and message is None and policy is None and if_version is None and event_id is None
        if is_plain:
            return self._touches.touch(key, session_id, wait)
        if attributes is not None:
            current = self._peek(key)
            if current is not None:
                check_merged(current, attributes)

        def make(now_ms: int, session: Session | None, partition: PartitionState) -> events.Touched:
            session = self._live(key, session, session_id, now_ms, partition)
            return self._event(
                events.Touched, key, now_ms,
                lambda: events.TouchedData(
                    session_id=session.session_id,
                    attributes=None if attributes is None else attributes_of(attributes),
                    message=message,
                    policy=policy,
                    if_version=if_version,
                ),
                event_id,
            )  # fmt: skip

        pinned = session_id is not None or if_version is not None
        return self._loop.run(key, make, pinned=pinned, wait=wait)

    def update(
        self,
        key: str,
        attributes: Mapping[str, Any],
        *,
        session_id: str | None = None,
        if_version: int | None = None,
    ) -> SessionView:
        """Merge `attributes` into the session's (RFC 7396: `None` deletes). Counts as activity."""
        return _present(self.touch(key, attributes=attributes, session_id=session_id, if_version=if_version))

    def touch_many(self, keys: Iterable[Wanted], *, wait: Wait = "applied") -> list[SessionView | LastseenError | None]:
        """Touch many sessions in one append; for each key its session, or the error that refused it.

        A key may come with the id of the very session that is meant. One refusal does not keep the others from being
        touched.
        """
        return self._touches.touch_many(keys, wait)

    def _live(
        self, key: str, session: Session | None, session_id: str | None, now_ms: int, partition: PartitionState
    ) -> Session:
        """`live_session`, judged by the view's time."""
        return live_session(key, session, session_id, self._view.reading_ms(partition.number, now_ms), partition)

    def suspend(
        self, key: str, *, reason: str | None = None, session_id: str | None = None, if_version: int | None = None
    ) -> SessionView:
        """Suspend the session: it neither idles out nor is evicted until it is resumed or its `suspend_ttl_ms` has
        passed."""
        return _present(self._simple(
            events.Suspended, key, session_id, if_version,
            lambda named: events.ReasonedData(session_id=named, reason=reason, if_version=if_version),
        ))  # fmt: skip

    def resume(
        self, key: str, *, reason: str | None = None, session_id: str | None = None, if_version: int | None = None
    ) -> SessionView:
        """Take a suspended session up again; counts as activity."""
        return _present(self._simple(
            events.Resumed, key, session_id, if_version,
            lambda named: events.ReasonedData(session_id=named, reason=reason, if_version=if_version),
        ))  # fmt: skip

    def hold(
        self, key: str, *, holder: str | None = None, lease_ms: int = 60_000, session_id: str | None = None
    ) -> Hold:
        """Keep a busy session from idling out or being evicted: use as `with engine.hold(key): …`.

        The lease is renewed while the block runs, and lapses by itself, after at most `lease_ms`, if the process dies.
        `holder` names the job; a name of its own is made if none is given.
        """
        name = holder or f"{self._source}#{new_session_id()[:8]}"
        return Hold(
            lambda: self.take_lease(key, name, lease_ms, session_id),
            lambda: self.release(key, name, session_id),
            self._renewer,
            name,
            lease_ms,
        )

    def take_lease(
        self, key: str, holder: str, lease_ms: int, session_id: str | None = None, if_version: int | None = None
    ) -> SessionView:
        """Take, or renew, one lease; `hold` does this for you. Raises `TooManyHolders`."""
        return _present(self._simple(
            events.Held, key, session_id, if_version,
            lambda named: events.HeldData(session_id=named, holder=holder, lease_ms=lease_ms, if_version=if_version),
        ))  # fmt: skip

    def release(
        self, key: str, holder: str, session_id: str | None = None, if_version: int | None = None
    ) -> SessionView:
        """Give a lease up. Raises `AlreadyDone` if the holder has none."""
        return _present(self._simple(
            events.Released, key, session_id, if_version,
            lambda named: events.ReleasedData(session_id=named, holder=holder, if_version=if_version),
        ))  # fmt: skip

    # ── ending ──

    def close(
        self, key: str, *, reason: str = "deleted", session_id: str | None = None, if_version: int | None = None
    ) -> None:
        """End the session, held or not. Raises `SessionNotFound` or `SessionEnded` if none lives."""
        self._simple(
            events.Closed, key, session_id, if_version,
            lambda named: events.ClosedData(session_id=named, reason=reason, if_version=if_version),
        )  # fmt: skip

    # ── many at once: one append for up to 1,000 sessions, and a result for each ──

    def close_many(self, keys: Iterable[Wanted], *, reason: str = "deleted") -> list[LastseenError | None]:
        """End many sessions; for each key `None`, or the error that refused it.

        A key may come with the id of the very session that is meant. Raises `InvalidEvent` for a reason that no record
        can carry, before anything is written, and `LogError`: the sessions of earlier appends have ended then.
        """
        return self._bulk.close(keys, reason)

    def suspend_many(self, keys: Iterable[Wanted], *, reason: str | None = None) -> list[LastseenError | None]:
        """Suspend many sessions, as `close_many` ends them; for each key `None`, or the error that refused it."""
        return self._bulk.suspend(keys, reason)

    def resume_many(self, keys: Iterable[Wanted], *, reason: str | None = None) -> list[LastseenError | None]:
        """Resume many sessions, as `close_many` ends them; for each key `None`, or the error that refused it."""
        return self._bulk.resume(keys, reason)

    # ── making events ──

    def _plain_touch(self, key: str, now_ms: int, session: Session) -> Decided:
        event_id = new_event_id(now_ms)
        text = own_events.touch(event_id, self._source, key, iso_from_ms(now_ms), now_ms, session.session_id)
        return Decided(event_id, text)

    def _simple(
        self,
        kind: type[Any],
        key: str,
        session_id: str | None,
        if_version: int | None,
        data: Callable[[str], Any],
    ) -> SessionView | None:
        def make(now_ms: int, session: Session | None, partition: PartitionState) -> events.SessionEvent:
            named = self._live(key, session, session_id, now_ms, partition).session_id
            event: events.SessionEvent = self._event(kind, key, now_ms, lambda: data(named))
            return event

        return self._loop.run(key, make, pinned=session_id is not None or if_version is not None)

    def _created(
        self,
        key: str,
        now_ms: int,
        attributes: Mapping[str, Any] | None,
        policy: Policy | None,
        *,
        session_id: str | None = None,
        replaces: str | None = None,
        reason: str | None = None,
        if_version: int | None = None,
    ) -> events.Created:
        return self._event(
            events.Created, key, now_ms,
            lambda: events.CreatedData(
                session_id=new_session_id() if session_id is None else session_id,
                policy=self._policy if policy is None else policy,
                attributes={} if attributes is None else attributes_of(attributes),
                replaces=replaces,
                reason=reason,
                if_version=if_version,
            ),
        )  # fmt: skip

    def _event(self, kind: type[E], key: str, now_ms: int, data: Callable[[], Any], event_id: str | None = None) -> E:
        return checked(
            lambda: kind(
                id=new_event_id(now_ms) if event_id is None else event_id,
                source=self._source,
                subject=key,
                time=iso_from_ms(now_ms),
                data=data(),
            )
        )

    def _peek(self, key: str) -> SessionView | None:
        check_key(key)
        partition = self._view.partition_of(key)
        with self._view.lock:
            session = partition.find(key)
            return None if session is None else self._view.show(partition.number, session)


def _present(view: SessionView | None) -> SessionView:
    assert view is not None, "an applied record of a live session leaves a session"
    return view
