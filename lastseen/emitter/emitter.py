"""`lastseen.Emitter`: for services that only report. It reads nothing, holds no view, and never waits for a verdict.

What it costs to report is the making of an event; a thread brings events to the log in batches (`lastseen.delivery`).
Whether a reported event takes effect is decided by the fold, as for every record: the service that must know asks an
engine, or follows the facts.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from lastseen.embedded.settings import Settings, duration_ms
from lastseen.emitter.delivery import Delivery, OnFailure
from lastseen.engine import events, plain_touch
from lastseen.engine.clock import Clock, SystemClock, iso_from_ms
from lastseen.engine.codec import check_key, checked, encode
from lastseen.engine.errors import InvalidEvent, InvalidInput, InvalidSetting, NotDelivered, shown
from lastseen.engine.identifiers import new_event_id, new_event_ids, new_session_id
from lastseen.engine.lifecycle import MAX_BEHIND_MS
from lastseen.engine.log import open_log
from lastseen.engine.session import MAX_LIMIT_MS, Policy

MAX_WAITING_BYTES = 32 * 1024 * 1024
LATEST_SENT_MS = MAX_BEHIND_MS - 60_000
"""Nothing is sent that is older: by the time the log has accepted it, it might be void, `clock_skew`."""
FLUSH_TIMEOUT_S = 60.0
_session_id_form = re.compile("[A-Za-z0-9_-]{22,128}")
_E = TypeVar("_E", bound=events.SessionEvent)


class Emitter:
    """Reports what happens to sessions, and knows none of them: each call names its session.

    A call checks its event, takes it in and returns; what breaks a rule raises `InvalidKey`, `InvalidEvent` or
    `InvalidPolicy`, and nothing has changed. Events of one key, emitted by one thread, are in the log in that order. An
    append that fails is tried again, in order; where its outcome was unknown its events may then stand there twice. The
    rules see to it that the session is the same in the end; it only counts one version more for each that took effect
    again, so an event with `if_version` may find the version gone. (One thing cannot be ruled out: a broker that hung
    may write a batch that was given up, after what came later.)

    `flush` tells the truth about what was emitted. In a forked child an emitter is as new: it has a log of its own, and
    nothing to send; what its parent has emitted, the parent sends. At the end of the program it sends what it has, for
    at most 5 s, and logs a warning if that is not enough; but call `shutdown`, or use it as a context manager.

    Safe to call from many threads. A call waits for nothing but room, and with `when_full="refuse"` not for that
    either, so it may be called in an event loop; `flush`, `shutdown` and making an emitter wait for the log.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str,
        policy: Policy | None = None,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        when_full: Literal["wait", "refuse"] = "wait",
        wait_timeout: int | str = "30s",
        give_up_after: int | str = "2m",
        on_failure: OnFailure | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Open the log at `url`: any that `open_engine` takes. On Kafka nothing is opened for reading.

        `source` names this service in its events; `policy` holds the limits of sessions that `open` proposes. At most
        `max_waiting_bytes` wait to be acknowledged; beyond that a call waits up to `wait_timeout` for room, or not at
        all, and raises `EmitterFull`. An event that cannot be sent within `give_up_after` fails: `on_failure`, called
        on the sending thread, gets the event and the error. It bears the time at which it was emitted, however late it
        is sent, since that is when it happened; an event that old would be void, so 9 minutes are the limit.

        Raises `InvalidSetting`, and the log's errors.
        """
        if type(max_waiting_bytes) is not int or not 1 <= max_waiting_bytes <= MAX_LIMIT_MS:
            raise InvalidSetting(f"max_waiting_bytes = {shown(max_waiting_bytes)}: give a whole number from 1")
        if when_full not in ("wait", "refuse"):
            raise InvalidSetting(f"when_full = {shown(when_full)}: give wait or refuse")
        if on_failure is not None and not callable(on_failure):
            raise InvalidSetting(f"on_failure = {shown(on_failure)}: give a function of an event and an error")
        if policy is not None and not isinstance(policy, Policy):
            raise InvalidSetting(f"policy = {shown(policy)}: give a Policy, made with lastseen.policy")
        wait_ms, give_up_ms = duration_ms("wait_timeout", wait_timeout), duration_ms("give_up_after", give_up_after)
        if give_up_ms > LATEST_SENT_MS:
            raise InvalidSetting(
                f"give_up_after = {shown(give_up_after)}: give at most {LATEST_SENT_MS // 60_000}m, since the log voids"
                f" what is more than {MAX_BEHIND_MS // 60_000} minutes old"
            )
        settings = Settings.of(source=source)
        self._source = source
        self._policy = settings.default_policy() if policy is None else policy
        self._clock: Clock = SystemClock() if clock is None else clock
        open_clock = self._clock
        self._is_file = url.startswith("sqlite:") if isinstance(url, str) else False
        self._new_delivery: Callable[[], Delivery] = lambda: Delivery(
            lambda: open_log(url, open_clock, write_only=True),
            max_waiting_bytes,
            wait_ms / 1000 if when_full == "wait" else 0,
            give_up_ms / 1000,
            on_failure,
        )
        self._delivery = self._new_delivery()
        self._delivery.open()
        _emitters.add(self)

    # ── what happens to sessions ──

    def open(
        self,
        key: str,
        session_id: str | None = None,
        *,
        attributes: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
    ) -> str:
        """Propose a session under `key`, and return its id: the one given, or a new one.

        It is no more than a proposal. If a session lives under the key when the record is folded, the record is void,
        `exists`, and so is all that names the proposed id. A service that must know which session lives follows the
        facts (`<topic>.facts`) or the states (`<topic>.state`), or asks an engine, whose `open` returns it.
        """
        chosen = new_session_id() if session_id is None else session_id
        self._report(
            events.Created, key,
            lambda: events.CreatedData(
                session_id=chosen,
                policy=self._policy if policy is None else policy,
                attributes={} if attributes is None else _object(attributes),
            ),
        )  # fmt: skip
        return chosen

    def touch(
        self,
        key: str,
        session_id: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        message: Any = None,
        policy: Policy | None = None,
        if_version: int | None = None,
    ) -> None:
        """Activity. May carry a merge patch of the attributes, a message, new limits."""
        if (
            attributes is None and message is None and policy is None and if_version is None
            and type(session_id) is str and _session_id_form.fullmatch(session_id)
        ):  # fmt: skip
            check_key(key)
            now_ms = self._clock.now_ms()
            value = plain_touch.written(new_event_id(now_ms), self._source, key, iso_from_ms(now_ms), session_id)
            self._delivery.add_one(key, value)
            return
        self._report(
            events.Touched, key,
            lambda: events.TouchedData(
                session_id=session_id,
                attributes=None if attributes is None else _object(attributes),
                message=message,
                policy=policy,
                if_version=if_version,
            ),
        )  # fmt: skip

    def touch_many(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Touch many sessions, given by key and id, at a third of the cost. All are checked before any is accepted.

        With `when_full="refuse"` all are accepted or none; otherwise as many as there is room for in time.
        """
        wanted = list(pairs)
        try:
            for key, session_id in wanted:
                check_key(key)
                if type(session_id) is not str or not _session_id_form.fullmatch(session_id):
                    raise InvalidEvent(f"session_id = {shown(session_id)}: give 22 to 128 of A-Z a-z 0-9 _ -")
        except InvalidInput:
            raise
        except (TypeError, ValueError):
            raise InvalidEvent("touch_many: give pairs of a session's key and its id") from None
        now_ms, source = self._clock.now_ms(), self._source
        time, write = iso_from_ms(now_ms), plain_touch.written
        self._delivery.add(
            [
                (key, write(event_id, source, key, time, session_id))
                for (key, session_id), event_id in zip(wanted, new_event_ids(now_ms, len(wanted)), strict=True)
            ]
        )

    def suspend(self, key: str, session_id: str, *, reason: str | None = None, if_version: int | None = None) -> None:
        """Suspend the session."""
        self._report(
            events.Suspended, key,
            lambda: events.ReasonedData(session_id=session_id, reason=reason, if_version=if_version),
        )  # fmt: skip

    def resume(self, key: str, session_id: str, *, reason: str | None = None, if_version: int | None = None) -> None:
        """Take a suspended session up again; counts as activity."""
        self._report(
            events.Resumed, key,
            lambda: events.ReasonedData(session_id=session_id, reason=reason, if_version=if_version),
        )  # fmt: skip

    def hold(self, key: str, session_id: str, holder: str, *, lease_ms: int = 60_000) -> None:
        """Take, or renew, the lease of a job named `holder`; only the caller renews it."""
        self._report(
            events.Held, key,
            lambda: events.HeldData(session_id=session_id, holder=holder, lease_ms=lease_ms),
        )  # fmt: skip

    def release(self, key: str, session_id: str, holder: str) -> None:
        """Give a lease up."""
        self._report(events.Released, key, lambda: events.ReleasedData(session_id=session_id, holder=holder))

    def close(self, key: str, session_id: str, *, reason: str = "deleted", if_version: int | None = None) -> None:
        """End the session (not the emitter: that is `shutdown`)."""
        self._report(
            events.Closed, key,
            lambda: events.ClosedData(session_id=session_id, reason=reason, if_version=if_version),
        )  # fmt: skip

    def _report(self, kind: type[_E], key: str, made: Callable[[], Any]) -> None:
        now_ms = self._clock.now_ms()
        event = checked(
            lambda: kind(
                id=new_event_id(now_ms), source=self._source, subject=key, time=iso_from_ms(now_ms), data=made()
            )
        )
        self._delivery.add_one(key, encode(event))

    # ── outcomes ──

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Wait until everything that was emitted before is acknowledged, and return only then.

        Raises `NotDelivered` where events emitted since the last flush `failed`, are of `unknown` outcome, or, after
        `timeout_s`, are still `waiting`; each is a count. What one flush has reported, the next does not report again,
        unless the first ran out of time.
        """
        self._delivery.flush(timeout_s)

    def statistics(self) -> dict[str, int]:
        """Counts of events since the beginning, or the fork: `emitted` = acknowledged + failed + unknown + waiting.

        `refused` were not accepted. `batches` were acknowledged, `retries` tried again. `waiting_bytes` is what waits.
        """
        return self._delivery.statistics()

    def shutdown(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Flush, and release the log. Raises `NotDelivered`, as `flush` does; it is shut down nevertheless.

        What is not sent after `timeout_s` has failed. The log finishes batches in flight in its own time.
        May be called again.
        """
        self._delivery.shutdown(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.shutdown()
        except NotDelivered as undelivered:
            if error is None:
                raise
            error.add_note(f"besides, {undelivered}")

    # ── around a fork ──

    def _before_fork(self) -> None:
        # A connection to an SQLite file, carried into a child, breaks the locks on that file in both processes.
        if self._is_file:
            self._delivery.pause()

    def _after_fork_in_parent(self) -> None:
        if self._is_file:
            self._delivery.resume()

    def _after_fork_in_child(self) -> None:
        _left_to_parents.append(self._delivery)
        self._delivery = self._new_delivery()


def _object(attributes: object) -> dict[str, Any]:
    if not isinstance(attributes, Mapping):
        raise InvalidEvent(f"attributes = {shown(attributes)}: give a mapping from names to JSON values")
    return dict(attributes)


def _each(what: Callable[[Emitter], None]) -> None:
    for emitter in list(_emitters):
        what(emitter)


_emitters: weakref.WeakSet[Emitter] = weakref.WeakSet()
_left_to_parents: list[Delivery] = []
"""In a child: never touched, and never collected either, since that would close what is the parent's."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each(Emitter._before_fork),
        after_in_parent=lambda: _each(Emitter._after_fork_in_parent),
        after_in_child=lambda: _each(Emitter._after_fork_in_child),
    )
