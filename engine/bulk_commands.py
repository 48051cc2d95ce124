"""Commands on many sessions at once: one append for up to 1,000 of them, and a result for each.

A refusal of one does not keep the others from being written: not even a partition that another engine owns, or that
moves away meanwhile. What a bulk command reads of the view it reads under the view's lock, a few hundred sessions at a
time, and it makes the events outside of it; the fold judges each event by itself, so a session that changes in between
is refused like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from lastseen.engine import events, lifecycle
from lastseen.engine.arguments import key_and_id
from lastseen.engine.clock import Clock, iso_from_ms
from lastseen.engine.codec import check_key, checked, encode
from lastseen.engine.errors import LastseenError
from lastseen.engine.identifiers import new_event_id
from lastseen.engine.log.port import Message
from lastseen.engine.preconditions import live_session
from lastseen.engine.refusals import refusal, with_ends
from lastseen.engine.session import Session
from lastseen.engine.session_engine import ATTEMPTS, SessionEngine, verdict_of
from lastseen.engine.touches import Wanted
from lastseen.engine.verdicts import Verdict
from lastseen.engine.view import View

AT_ONCE = 1_000
"""Events in one append."""
UNDER_LOCK = 250
"""Sessions that are looked up while the view's lock is held: half a millisecond."""
E = TypeVar("E", bound=events.SessionEvent)


class _Found(NamedTuple):
    """A live session, and where its result goes."""

    place: int
    partition: int
    key: str
    session_id: str
    is_pinned: bool


class BulkCommands:
    """Bulk commands for callers that name themselves `source`."""

    def __init__(self, loop: SessionEngine, view: View, clock: Clock, source: str) -> None:
        self._loop = loop
        self._view = view
        self._clock = clock
        self._source = source

    def close(self, keys: Iterable[Wanted], reason: str) -> list[LastseenError | None]:
        """End sessions. Raises `InvalidEvent` for the reason, and `LogError`."""
        return self._write(
            events.Closed, keys, lambda session_id: events.ClosedData(session_id=session_id, reason=reason)
        )

    def suspend(self, keys: Iterable[Wanted], reason: str | None) -> list[LastseenError | None]:
        """Suspend sessions. Raises `InvalidEvent` for the reason, and `LogError`."""
        return self._write(
            events.Suspended, keys, lambda session_id: events.ReasonedData(session_id=session_id, reason=reason)
        )

    def resume(self, keys: Iterable[Wanted], reason: str | None) -> list[LastseenError | None]:
        """Resume sessions. Raises `InvalidEvent` for the reason, and `LogError`."""
        return self._write(
            events.Resumed, keys, lambda session_id: events.ReasonedData(session_id=session_id, reason=reason)
        )

    def _live(self, key: str, session_id: str | None, now_ms: int) -> tuple[int, Session]:
        check_key(key)
        partition = self._view.partition_of(key)
        at_ms = self._view.reading_ms(partition.number, now_ms)
        return partition.number, live_session(key, partition.find(key), session_id, at_ms, partition)

    def _write(self, kind: type[Any], keys: Iterable[Wanted], data: Callable[[str], Any]) -> list[LastseenError | None]:
        self._loop.check_open()
        self._event(
            kind, "any", "x" * 22, data
        )  # a reason that no event can carry is refused before anything is written
        wanted = list(keys)
        results: list[LastseenError | None] = []
        for start in range(0, len(wanted), AT_ONCE):
            try:
                results += self._write_at_once(kind, wanted[start : start + AT_ONCE], data)
            except LastseenError as error:
                if not start:
                    raise
                # What was written before has its results; the rest is not tried.
                results += [error.again() for _ in wanted[start:]]
                break
        return with_ends(results, self._loop.known_end)

    def _write_at_once(
        self, kind: type[Any], keys: Sequence[Wanted], data: Callable[[str], Any], attempts: int = ATTEMPTS
    ) -> list[LastseenError | None]:
        found, results = self._find(kind, keys)
        made = [self._event(kind, each.key, each.session_id, data) for each in found]
        messages = [Message(each.partition, each.key, encode(event)) for each, event in zip(found, made, strict=True)]
        answers = self._loop.append_and_answer(messages, [event.id for event in made])
        replaced: list[_Found] = []
        for each, answer in zip(found, answers, strict=True):
            try:
                verdict = verdict_of(answer)
            except LastseenError as error:
                results[each.place] = error
                continue
            results[each.place] = None if verdict is Verdict.APPLIED else refusal(verdict, each.key)
            if verdict is Verdict.STALE_SESSION and not each.is_pinned:
                replaced.append(each)
        if replaced and attempts > 1:
            # The caller meant whichever session lives under the key, and another one does by now.
            again: Sequence[LastseenError | None]
            try:
                again = self._write_at_once(kind, [each.key for each in replaced], data, attempts - 1)
            except LastseenError as error:
                again = [error.again() for _ in replaced]
            for each, result in zip(replaced, again, strict=True):
                results[each.place] = result
        return results

    def _find(self, kind: type[Any], keys: Sequence[Wanted]) -> tuple[list[_Found], list[LastseenError | None]]:
        """The sessions that the event can apply to; and a result for each key, where it is refused the error."""
        found: list[_Found] = []
        results: list[LastseenError | None] = [None] * len(keys)
        for start in range(0, len(keys), UNDER_LOCK):
            now_ms = self._clock.now_ms()
            with self._view.lock:
                for place in range(start, min(start + UNDER_LOCK, len(keys))):
                    try:
                        key, session_id = key_and_id(keys[place])
                        partition, session = self._live(key, session_id, now_ms)
                        verdict = lifecycle.RULES[kind].refusal[session.suspended_at_ms is not None]
                        if verdict is not None:
                            raise refusal(verdict, key)
                    except LastseenError as error:
                        results[place] = error
                        continue
                    found.append(_Found(place, partition, key, session.session_id, session_id is not None))
        return found, results

    def _event(self, kind: type[E], key: str, session_id: str, data: Callable[[str], Any]) -> E:
        now_ms = self._clock.now_ms()
        event_id, time = new_event_id(now_ms), iso_from_ms(now_ms)
        return checked(lambda: kind(id=event_id, source=self._source, subject=key, time=time, data=data(session_id)))
