"""The one loop: read the view → decide → append → wait for the fold → answer with the verdict.

It serves every command (`engine.commands`) and every log. An answer always reflects the caller's own write. When the
fold voids a record because the session changed meanwhile, the command is decided again on the new state, a bounded
number of times, unless the caller named the version or the session itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Literal, NamedTuple

from lastseen.engine import events, lifecycle
from lastseen.engine.clock import Clock
from lastseen.engine.codec import check_key, encode
from lastseen.engine.errors import LastseenError, LogUnavailable, OutcomeUnknown, VersionConflict, shown
from lastseen.engine.fire_and_forget import FireAndForget
from lastseen.engine.log.port import Log, Message, Position
from lastseen.engine.refusals import refusal
from lastseen.engine.session import Session, SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.engine.view import Answer, Fold, PartitionState, View

ATTEMPTS = 8
"""How often a command is decided before the caller is told that the session keeps changing."""
Wait = Literal["applied", "appended", "none"]


class Decided(NamedTuple):
    """An event that the command has checked against the session itself, and written."""

    event_id: str
    value: bytes


Make = Callable[[int, Session | None, PartitionState], events.SessionEvent | Decided | None]
"""What a command wants to happen, given the time and the session under its key: an event, or nothing to write."""
MaySkip = Callable[[Session, int], bool]
"""Whether a command may have nothing to write, given the live session under its key and the time."""
_logger = logging.getLogger("lastseen")


class _Turn:
    """What one caller wants to be decided, appended and folded."""

    __slots__ = ("_latch", "decide", "error", "is_served", "messages", "next", "refusal")

    def __init__(self, messages: Sequence[Message], decide: Callable[[], Sequence[Message]] | None = None) -> None:
        self.messages = messages
        self.decide = decide
        """Makes the messages on the view as it is when the turn comes; called under the view's lock."""
        self.is_served = False
        self.refusal: Exception | None = None
        """Why nothing was to be appended."""
        self.error: LastseenError | None = None
        """Why it was not, or may not have been."""
        self.next: _Turn | None = None
        """Whom to wake next."""

    def queue(self) -> None:
        """Somebody else will serve it, or wake it to lead."""
        self._latch = threading.Lock()
        self._latch.acquire()

    def wait(self) -> None:
        """Wait until `wake`: the turn has been served, or is to lead."""
        self._latch.acquire()
        if self.next is not None:
            self.next.wake()

    def wake(self) -> None:
        """Let the caller go on."""
        self._latch.release()

    def result(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.refusal is not None:
            raise self.refusal
        if self.error is not None:
            # A new one for each caller: they raise it in threads of their own.
            raise type(self.error)(*self.error.args) from self.error


class SessionEngine:
    """Runs commands against a log and the view that is folded from it. Safe to call from many threads."""

    def __init__(self, log: Log, view: View, fold: Fold, clock: Clock, fire_and_forget: FireAndForget) -> None:
        self._log = log
        self._fire_and_forget = fire_and_forget
        """What was asked for and not waited for; whatever is appended goes after it."""
        self._view = view
        self._fold = fold
        self._clock = clock
        self._turns_lock = threading.Lock()
        self._turns: list[_Turn] = []
        self._is_led = False
        """Whether a caller is appending and folding for everybody at the moment."""

    def _run(
        self,
        key: str,
        make: Make,
        *,
        pinned: bool = False,
        wait: Wait = "applied",
        may_skip: MaySkip | None = None,
    ) -> SessionView | None:
        self._check_open()
        check_key(key)
        partition = self._view.partition_of(key)
        if wait != "applied":
            with self._view.lock:
                decided = self._decide(key, make, partition, partition.find(key))
            if decided is not None:
                self._send([Message(partition.number, key, decided.value)], wait)
            return None
        if may_skip is not None and self._is_led:
            # Who has nothing to write need not wait for those who have.
            with self._view.lock:
                now_ms, live = self._clock.now_ms(), partition.find(key)
                if live is not None and may_skip(live, now_ms) and make(now_ms, live, partition) is None:
                    return None
        event_id = ""
        answer: Answer | None = None
        session: Session | None = None
        version = 0

        def decide() -> Sequence[Message]:
            nonlocal event_id, answer, session, version
            session = partition.find(key)
            version = 0 if session is None else session.version
            decided = self._decide(key, make, partition, session)
            if decided is None:
                answer = None
                return ()
            event_id, value = decided
            answer = self._fold.expect(event_id)
            return (Message(partition.number, key, value),)

        for _ in range(ATTEMPTS):
            try:
                self._take_turn(_Turn((), decide))
            except BaseException:
                self._fold.forget(event_id)
                raise
            if answer is None:
                return None
            verdict = verdict_of(answer)
            if verdict is Verdict.APPLIED:
                return answer.session
            # Where nothing has changed, our clock and the log's disagree, on a deadline say: to decide again is no use.
            is_same = session is not None and partition.find(key) is session and session.version == version
            if pinned or is_same or verdict is Verdict.CLOCK_SKEW:
                raise refusal(verdict, key, session)
        raise VersionConflict(
            f"session key {shown(key)}: it changed {ATTEMPTS} times while this was being decided; try again"
        )

    def _decide(self, key: str, make: Make, partition: PartitionState, session: Session | None) -> Decided | None:
        """What is to be written, on the view as it is; the caller holds its lock. Raises the refusal."""
        now_ms = self._clock.now_ms()
        event = make(now_ms, session, partition)
        if event is None or isinstance(event, Decided):
            return event
        verdict = lifecycle.decide(event, session, now_ms, partition)
        if verdict is not Verdict.APPLIED:
            raise refusal(verdict, key, session)
        return Decided(event.id, encode(event))

    def _check_open(self) -> None:
        """Raise `EngineClosed` where that is so: a command that writes nothing would not hear of it from the log."""

    def append_and_answer(self, messages: Sequence[Message], event_ids: Sequence[str]) -> Sequence[Answer]:
        """Append and fold; the answers to the events that the messages hold, in their order. Raises `LogError`.

        For those who write the events of many sessions at once, each of which the fold judges by itself.
        """
        answers = [self._fold.expect(event_id) for event_id in event_ids]
        try:
            self.append_and_fold(messages)
        except BaseException:
            for event_id in event_ids:
                self._fold.forget(event_id)
            raise
        return answers

    def append_and_fold(self, messages: Sequence[Message]) -> None:
        """Append, and fold up to what was appended. Raises `LogError`."""
        if messages:
            self._take_turn(_Turn(messages))

    def _take_turn(self, turn: _Turn) -> None:
        """Decide, append and fold. Raises the refusal, or `LogError`.

        Callers that come while others are at it wait and are served together: one of them decides, appends and folds
        for all. So each caller waits once, and is woken once, however many there are.
        """
        with self._turns_lock:
            is_first = not self._is_led
            self._is_led = True
            if not is_first:
                turn.queue()
                self._turns.append(turn)
        if not is_first:
            self._await(turn)
            turn.result()
            return
        try:
            if turn.decide is not None:
                with self._view.lock:
                    turn.messages = turn.decide()
            if turn.messages:
                self._append_and_fold(turn.messages)
        finally:
            self._hand_on()

    def _append_and_fold(self, messages: Sequence[Message]) -> None:
        self._fire_and_forget.send()
        # Of each partition only the last position counts.
        reached = dict(self._log.append(messages))
        try:
            for partition, offset in reached.items():
                self._fold.catch_up(Position(partition, offset))
        except LogUnavailable as error:
            # The error of a read says that nothing was written.
            raise OutcomeUnknown(
                f"what was appended is in the log, and what came of it cannot be read ({error}). Read before you try"
                " again"
            ) from error

    def _await(self, turn: _Turn) -> None:
        try:
            turn.wait()
        except BaseException:
            # An interrupt hit a caller that others count on: somebody has to see its turn through.
            threading.Thread(target=self._await, args=(turn,), daemon=True).start()
            raise
        if not turn.is_served:
            self._lead()

    def _lead(self) -> None:
        """Serve everybody who waits, and hand the lead on."""
        with self._turns_lock:
            turns, self._turns = self._turns, []
        try:
            with self._view.lock:
                for turn in turns:
                    if turn.decide is not None:
                        try:
                            turn.messages = turn.decide()
                        except Exception as error:
                            turn.refusal = error
            messages = [message for turn in turns for message in turn.messages]
            if messages:
                self._append_and_fold(messages)
        except LastseenError as error:
            for turn in turns:
                if turn.messages:  # who had nothing to write has lost nothing
                    turn.error = error
        except BaseException as error:
            for turn in turns:
                turn.error = OutcomeUnknown(
                    f"the append was broken off ({error!r}), and may or may not be in the log: read before you"
                    " try again"
                )
            raise
        finally:
            for turn in turns:
                turn.is_served = True
            self._hand_on()
            # One wakes the next: dozens of threads that wake at once only fight for the interpreter's lock.
            others = turns[1:]  # the first of them leads, and is awake
            for turn, after in pairwise(others):
                turn.next = after
            if others:
                others[0].wake()

    def _hand_on(self) -> None:
        """Let the first of those who came meanwhile lead; nobody, if none did."""
        with self._turns_lock:
            heir = self._turns[0] if self._turns else None
            self._is_led = heir is not None
        if heir is not None:
            heir.wake()

    def _send(self, messages: Sequence[Message], wait: Wait) -> None:
        self._fire_and_forget.send()
        if wait == "appended":
            self._log.append(messages)
        else:
            self._log.append_soon(messages).add_done_callback(_report_failure)


def _report_failure(appended: Future[list[Position]]) -> None:
    error = appended.exception()
    if error is not None:
        _logger.warning("a touch that nobody waited for was not logged: %s", error)


def verdict_of(answer: Answer) -> Verdict:
    """The verdict on an event that has been folded."""
    if answer.outcome is None:
        answer.fail_as_lost()
    return answer.outcome.verdict
