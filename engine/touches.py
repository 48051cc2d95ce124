"""Plain touches: decided for many callers in one pass over the view, and written in one append.

Theory of operation. One function, `Touches.decide`, decides every plain touch that waits for the log: of a caller that
is alone, of a batch, of all threads that came while another caller appended. For nearly all of them one look at the
session is enough; the others get the full checks, and the same refusals. The codec remembers what is written, and the
fold takes consecutive ones as a run (`Partition.fold_touches`), without an event object for any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lastseen.engine import own_events
from lastseen.engine.arguments import check_wait, key_and_id
from lastseen.engine.clock import Clock, iso_from_ms, pause
from lastseen.engine.codec import check_key
from lastseen.engine.errors import LastseenError, SessionEnded, SessionNotFound
from lastseen.engine.fire_and_forget import FireAndForget
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.lifecycle import is_far_from_due
from lastseen.engine.log.port import Message
from lastseen.engine.preconditions import is_coalesced, live_session
from lastseen.engine.refusals import refusal, with_end, with_ends
from lastseen.engine.session import Session, SessionView
from lastseen.engine.session_engine import ATTEMPTS, SessionEngine, Wait, is_known, keeps_changing, verdict_of
from lastseen.engine.turns import Turn
from lastseen.engine.verdicts import Verdict
from lastseen.engine.view import Answer, PartitionState, View

UNDER_LOCK = 500
"""Touches of a batch that are decided with the view's lock held: about 2 ms."""
Wanted = str | tuple[str, str | None]
"""A session's key, or its key and its id."""
_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""


class WrittenTouch(NamedTuple):
    """A touch that is to be appended."""

    message: Message
    event_id: str
    session: Session
    """As it was found, with its version then."""
    version: int


Decision = WrittenTouch | SessionView | LastseenError
"""What becomes of a touch: it is written; it is not, since its session was touched a moment ago; it is refused."""


class TouchTurn(Turn):
    """The turn of one caller with one plain touch."""

    __slots__ = ("answer", "decision", "event_id", "wanted")

    def __init__(self, wanted: tuple[str, str | None], touches: Touches) -> None:
        super().__init__(())
        self.decide_alike = touches.decide_turns
        self.wanted = wanted
        self.decision: Decision
        self.event_id = ""
        self.answer: Answer | None = None


class Touches:
    """Plain touches for callers that name themselves `source`. Safe to call from many threads."""

    def __init__(
        self, loop: SessionEngine, view: View, clock: Clock, fire_and_forget: FireAndForget, source: str
    ) -> None:
        self._loop = loop
        self._view = view
        self._clock = clock
        self._fire_and_forget = fire_and_forget
        self._source = source

    def touch(self, key: str, session_id: str | None, wait: Wait) -> SessionView | None:
        """Touch one session; the session after it, or `None` if that is not waited for.

        Raises the refusal, `VersionConflict` where the session keeps changing, and `LogError`.
        """
        self._loop.check_open()
        try:
            return self._touch(key, session_id, wait)
        except (SessionNotFound, SessionEnded) as error:
            raise with_end(error, self._loop.known_end) from None

    def _touch(self, key: str, session_id: str | None, wait: Wait) -> SessionView | None:
        if wait == "none":
            self._touch_without_waiting(key, session_id)
            return None
        if wait == "appended":
            with self._view.lock:
                (decision,) = self.decide([(key, session_id)])
            if isinstance(decision, LastseenError):
                raise decision
            if isinstance(decision, WrittenTouch):
                self._loop.send([decision.message], wait)
            return None
        if self._loop.turns.is_led:
            # A caller with nothing to write need not wait for those that write.
            shown = self._coalesced(key, session_id)
            if shown is not None:
                return shown
        for _ in range(ATTEMPTS):
            turn = self._served_turn(key, session_id)
            decision, answer = turn.decision, turn.answer
            if isinstance(decision, LastseenError):
                raise decision
            if isinstance(decision, SessionView):
                return decision
            assert answer is not None, "what is written is answered"
            verdict = verdict_of(answer)
            if verdict is Verdict.APPLIED:
                return answer.session
            _, _, session, version = decision
            error = self._loop.final_refusal(verdict, key, session, version, pinned=session_id is not None)
            if error is not None:
                raise error
        raise keeps_changing(key)

    def _served_turn(self, key: str, session_id: str | None) -> TouchTurn:
        turn = TouchTurn((key, session_id), self)
        try:
            self._loop.turns.take(turn)
        except BaseException as error:
            if turn.answer is not None:
                self._loop.fold.forget(turn.event_id)
            if not is_known(turn.answer) or not isinstance(error, LastseenError):
                raise
        return turn

    def touch_many(self, keys: Iterable[Wanted], wait: Wait) -> list[SessionView | LastseenError | None]:
        """Touch sessions in one append. Raises `InvalidSetting` for an unknown `wait`, and `LogError`."""
        check_wait(wait)
        self._loop.check_open()
        results: list[SessionView | LastseenError | None] = []
        pairs: list[tuple[str, str | None]] = []
        places: list[int] = []
        for each in list(keys):  # whatever makes the keys may call the engine, and must not under its lock
            try:
                pairs.append((each, None) if type(each) is str else key_and_id(each))
            except LastseenError as error:
                results.append(error)
                continue
            places.append(len(results))
            results.append(None)
        decisions: list[Decision] = []
        for start in range(0, len(pairs), UNDER_LOCK):
            if start:
                pause()
            with self._view.lock:
                decisions += self.decide(pairs[start : start + UNDER_LOCK])
        written: list[WrittenTouch] = []
        places_written: list[int] = []
        for place, decision in zip(places, decisions, strict=True):
            if isinstance(decision, WrittenTouch):
                written.append(decision)
                places_written.append(place)
            else:
                results[place] = decision
        messages = [touch.message for touch in written]
        if wait != "applied":
            self._loop.send(messages, wait)
            return with_ends(results, self._loop.known_end)
        answers = self._loop.append_and_answer(messages, [touch.event_id for touch in written])
        for place, message, answer in zip(places_written, messages, answers, strict=True):
            try:
                verdict = verdict_of(answer)
            except LastseenError as error:
                results[place] = error
                continue
            results[place] = answer.session if verdict is Verdict.APPLIED else refusal(verdict, message.key)
        return with_ends(results, self._loop.known_end)

    def decide_turns(self, turns: Sequence[TouchTurn]) -> None:
        """Decide the turns of many callers. Called under the view's lock."""
        for turn, decision in zip(turns, self.decide([turn.wanted for turn in turns]), strict=True):
            if isinstance(decision, WrittenTouch):
                turn.messages = (decision.message,)
                turn.event_id = decision.event_id
                turn.answer = self._loop.fold.expect(turn.event_id, decision.message.partition)
            turn.decision = decision

    def decide(self, wanted: Sequence[tuple[str, str | None]]) -> list[Decision]:
        """What becomes of each touch, given the view as it is. The caller holds the view's lock."""
        now_ms, source = self._clock.now_ms(), self._source
        time = iso_from_ms(now_ms)
        decisions: list[Decision] = []
        number, at_ms = -1, now_ms
        for (key, session_id), event_id in zip(wanted, new_event_ids(now_ms, len(wanted)), strict=True):
            try:
                check_key(key)
                partition = self._view.partition_of(key)
                if partition.number != number:
                    number = partition.number
                    at_ms = self._view.reading_ms(number, now_ms)
                session = partition.find(key)
                if (
                    session is None
                    or session.policy.touch_precision_ms
                    or not is_far_from_due(session, at_ms)
                    or not (session_id is None or session_id == session.session_id)
                ):
                    session = _touchable(key, session, session_id, at_ms, partition)
                    if is_coalesced(session, now_ms):
                        decisions.append(self._view.show(number, session))
                        continue
            except LastseenError as error:
                decisions.append(error)
                continue
            value = own_events.touch(event_id, source, key, time, now_ms, session.session_id)
            message = _tuple(Message, (number, key, value))
            decisions.append(_tuple(WrittenTouch, (message, event_id, session, session.version)))
        return decisions

    def _coalesced(self, key: str, session_id: str | None) -> SessionView | None:
        """The session, if a touch of it is not to be written at this moment."""
        check_key(key)
        partition, now_ms = self._view.partition_of(key), self._clock.now_ms()
        with self._view.lock:
            session = partition.find(key)
            if session is None or not is_coalesced(session, now_ms):
                return None
            at_ms = self._view.reading_ms(partition.number, now_ms)
            return self._view.show(partition.number, _touchable(key, session, session_id, at_ms, partition))

    def _touch_without_waiting(self, key: str, session_id: str | None) -> None:
        check_key(key)
        now_ms = self._clock.now_ms()
        with self._view.lock:
            partition = self._view.partition_of(key)
            at_ms = self._view.reading_ms(partition.number, now_ms)
            session = _touchable(key, partition.find(key), session_id, at_ms, partition)
            if is_coalesced(session, now_ms):
                return
        self._fire_and_forget.add(partition.number, key, session.session_id)


def _touchable(
    key: str, session: Session | None, session_id: str | None, at_ms: int, partition: PartitionState
) -> Session:
    """`session`, found under `key`, if it can be touched. Raises the refusal."""
    live = live_session(key, session, session_id, at_ms, partition)
    if live.suspended_at_ms is not None:
        raise refusal(Verdict.SUSPENDED, key)
    return live
