"""The one loop: read the view → decide → append → wait for the fold → answer with the verdict.

It serves every command (`engine.commands`) and every log. An answer always reflects the caller's own write. When the
fold voids a record because the session changed meanwhile, the command is decided again on the new state, a bounded
number of times, unless the caller named the version or the session itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal, NamedTuple, NoReturn

from lastseen.engine import events, lifecycle
from lastseen.engine.clock import Clock
from lastseen.engine.codec import check_key, encode
from lastseen.engine.errors import LastseenError, SessionEnded, SessionNotFound, VersionConflict, shown
from lastseen.engine.fire_and_forget import FireAndForget
from lastseen.engine.log.port import Log, Message, Position
from lastseen.engine.refusals import KnownEnd, refusal, unread_outcome, with_end
from lastseen.engine.session import Session, SessionView
from lastseen.engine.turns import Turn, TurnQueue
from lastseen.engine.verdicts import Verdict
from lastseen.engine.view import Answer, Fold, PartitionState, View

ATTEMPTS = 8
"""How often a command is decided before it fails because the session keeps changing."""
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


class SessionEngine:
    """Runs commands against a log and the view that is folded from it. Safe to call from many threads."""

    def __init__(
        self,
        log: Log,
        view: View,
        fold: Fold,
        clock: Clock,
        fire_and_forget: FireAndForget,
        check_open: Callable[[], None],
        known_end: KnownEnd,
    ) -> None:
        """`check_open` raises `EngineClosed` once the engine is closed: a command that writes nothing would not learn
        of it from the log. Whatever is appended here goes after the touches in `fire_and_forget`."""
        self.known_end = known_end
        self._log = log
        self._view = view
        self.fold = fold
        self._clock = clock
        self._fire_and_forget = fire_and_forget
        self.check_open = check_open
        self.turns = TurnQueue(view, self._append_and_fold)

    def run(
        self,
        key: str,
        make: Make,
        *,
        pinned: bool = False,
        wait: Wait = "applied",
        may_skip: MaySkip | None = None,
    ) -> SessionView | None:
        """Do what a command wants; the session after it, or `None` where nothing was written or nothing is waited for.

        Raises the refusal, `VersionConflict` where the session keeps changing, and `LogError`.
        """
        try:
            return self._run(key, make, pinned, wait, may_skip)
        except (SessionNotFound, SessionEnded) as error:
            raise with_end(error, self.known_end) from None

    def _run(self, key: str, make: Make, pinned: bool, wait: Wait, may_skip: MaySkip | None) -> SessionView | None:
        self.check_open()
        check_key(key)
        partition = self._view.partition_of(key)
        if wait != "applied":
            with self._view.lock:
                decided = self._decide(key, make, partition, partition.find(key))
            if decided is not None:
                self.send([Message(partition.number, key, decided.value)], wait)
            return None
        if may_skip is not None and self.turns.is_led:
            # A caller with nothing to write need not wait for those that write.
            with self._view.lock:
                now_ms, live = self._clock.now_ms(), partition.find(key)
                at_ms = self._view.reading_ms(partition.number, now_ms)
                if live is not None and may_skip(live, at_ms) and make(now_ms, live, partition) is None:
                    return None
        event_id = ""
        answer: Answer | None = None
        session: Session | None = None
        version = 0

        def decide() -> Sequence[Message]:
            nonlocal partition, event_id, answer, session, version
            # It may have moved to another engine while this caller waited: then nothing is appended.
            partition = self._view.partition_of(key)
            session = partition.find(key)
            version = 0 if session is None else session.version
            decided = self._decide(key, make, partition, session)
            if decided is None:
                answer = None
                return ()
            event_id, value = decided
            answer = self.fold.expect(event_id, partition.number)
            return (Message(partition.number, key, value),)

        for _ in range(ATTEMPTS):
            answer = None
            try:
                self.turns.take(Turn((), decide))
            except BaseException as error:
                self.fold.forget(event_id)
                if not is_known(answer) or not isinstance(error, LastseenError):
                    raise
            if answer is None:
                return None
            verdict = verdict_of(answer)
            if verdict is Verdict.APPLIED:
                return answer.session
            error = self.final_refusal(verdict, key, session, version, pinned=pinned)
            if error is not None:
                raise error
        raise keeps_changing(key)

    def final_refusal(
        self, verdict: Verdict, key: str, session: Session | None, version: int, *, pinned: bool
    ) -> LastseenError | None:
        """Why a record was void that was decided on `session` at `version`; `None` if it is to be decided again."""
        # If nothing has changed, our clock and the log's disagree, on a deadline say: deciding again is no use.
        found = self._view.partition_of(key).find(key)
        is_same = session is not None and found is session and session.version == version
        if pinned or is_same or verdict is Verdict.CLOCK_SKEW:
            return refusal(verdict, key, session)
        return None

    def _decide(self, key: str, make: Make, partition: PartitionState, session: Session | None) -> Decided | None:
        """What to write, given the view as it is; the caller holds its lock. Raises the refusal."""
        now_ms = self._clock.now_ms()
        event = make(now_ms, session, partition)
        if event is None or isinstance(event, Decided):
            return event
        verdict = lifecycle.decide(event, session, self._view.reading_ms(partition.number, now_ms), partition)
        if verdict is not Verdict.APPLIED:
            raise refusal(verdict, key, session)
        return Decided(event.id, encode(event))

    def append_and_answer(self, messages: Sequence[Message], event_ids: Sequence[str]) -> Sequence[Answer]:
        """Append and fold; the answers to the events that the messages hold, in their order. Raises `LogError`.

        For callers that write the events of many sessions at once, each of which the fold judges by itself. Where a
        partition failed or moved, so that the outcome is known of some only, `verdict_of` raises it for each other one.
        """
        answers: list[Answer] = [
            self.fold.expect(event_id, message.partition) for event_id, message in zip(event_ids, messages, strict=True)
        ]
        try:
            self.append_and_fold(messages)
        except BaseException as error:
            for event_id in event_ids:
                self.fold.forget(event_id)
            if not any(map(is_known, answers)) or not isinstance(error, LastseenError):
                raise
            return [each if is_known(each) else Unanswered(error) for each in answers]
        return answers

    def append_and_fold(self, messages: Sequence[Message]) -> None:
        """Append, and fold up to what was appended. Raises `LogError`."""
        if messages:
            self.turns.take(Turn(messages))

    def _append_and_fold(self, messages: Sequence[Message]) -> None:
        self._fire_and_forget.send()
        # Of each partition only the last position counts.
        reached = dict(self._log.append(messages))
        failure: LastseenError | None = None
        for partition, offset in reached.items():
            try:
                self.fold.catch_up(Position(partition, offset))
            except LastseenError as error:
                failure = error  # the other partitions are folded all the same
        if failure is not None:
            # Whatever it says of itself, the append was made: only its outcome is not known.
            raise unread_outcome(failure) from failure

    def send(self, messages: Sequence[Message], wait: Wait) -> None:
        """Append without folding: with `wait="appended"` until the log has it, with `"none"` not at all."""
        self._fire_and_forget.send()
        if wait == "appended":
            self._log.append(messages)
        else:
            self._log.append_soon(messages).add_done_callback(_report_failure)


class Unanswered:
    """The answer to an event whose outcome could not be learnt."""

    verdict = session = None

    def __init__(self, error: LastseenError) -> None:
        self._error = error

    def fail_as_lost(self) -> NoReturn:
        """Raise why."""
        raise self._error.again()


def is_known(answer: Answer | None) -> bool:
    """Whether an event was folded, whatever became of others in the same append."""
    return answer is not None and answer.verdict is not None


def _report_failure(appended: Future[list[Position]]) -> None:
    error = appended.exception()
    if error is not None:
        _logger.warning("a touch with wait='none' was not logged: %s", error)


def verdict_of(answer: Answer) -> Verdict:
    """The verdict on an event that has been folded. Raises why it is not known, if so."""
    if answer.verdict is None:
        answer.fail_as_lost()
    return answer.verdict


def keeps_changing(key: str) -> VersionConflict:
    """The error of a command that was decided often enough."""
    return VersionConflict(f"session key {shown(key)}: it changed {ATTEMPTS} times while this was decided; try again")
