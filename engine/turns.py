"""The queue of callers that want to write: the first of them leads, and decides, appends and folds for all.

Theory of operation. A caller that finds the queue idle leads at once. Callers that arrive meanwhile wait, each with a
`Turn`. When the leader is done it wakes the first of them, which serves everyone who waits by then in one append, and
passes the lead on in its turn. So each caller waits once and is woken once, however many there are, and there is no
thread here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from lastseen.engine.errors import LastseenError, OutcomeUnknown
from lastseen.engine.log.port import Message
from lastseen.engine.view import View


class Turn:
    """What one caller wants decided, appended and folded."""

    __slots__ = ("_latch", "decide", "decide_alike", "error", "is_served", "messages", "next", "refusal")

    def __init__(self, messages: Sequence[Message], decide: Callable[[], Sequence[Message]] | None = None) -> None:
        self.messages = messages
        self.decide = decide
        """Makes the messages from the view as it is when the turn comes; called under the view's lock."""
        self.decide_alike: Callable[[Sequence[Any]], None] | None = None
        """Does so for all turns of its kind that are served together, in one pass."""
        self.is_served = False
        self.refusal: Exception | None = None
        """Why there is nothing to append."""
        self.error: LastseenError | None = None
        """Why the append failed, or may have failed."""
        self.next: Turn | None = None
        """The turn to wake after this one."""

    def queue(self) -> None:
        """Prepare to wait: another caller serves this turn, or wakes it to lead."""
        self._latch = threading.Lock()
        self._latch.acquire()

    def wait(self) -> None:
        """Wait until `wake`: the turn has been served, or is to lead."""
        self._latch.acquire()
        if self.next is not None:
            self.next.wake()

    def wake(self) -> None:
        """Let the caller continue."""
        self._latch.release()

    def raise_failure(self) -> None:
        """Raise the refusal or the error, if there is one."""
        if self.refusal is not None:
            raise self.refusal
        if self.error is not None:
            # A new one for each caller: they raise it in threads of their own.
            raise self.error.again()


class TurnQueue:
    """Serves turns, one leader at a time. Safe to call from many threads."""

    def __init__(self, view: View, append_and_fold: Callable[[Sequence[Message]], None]) -> None:
        self._view = view
        self._append_and_fold = append_and_fold
        self._lock = threading.Lock()
        self.waiting: list[Turn] = []
        self.is_led = False
        """Whether a caller is appending and folding for all at the moment."""

    def take(self, turn: Turn) -> None:
        """Decide, append and fold. Raises the refusal, or `LogError`."""
        with self._lock:
            is_first = not self.is_led
            self.is_led = True
            if not is_first:
                turn.queue()
                self.waiting.append(turn)
        if not is_first:
            self._await(turn)
            turn.raise_failure()
            return
        try:
            if turn.decide_alike is not None:
                with self._view.lock:
                    turn.decide_alike((turn,))
            elif turn.decide is not None:
                with self._view.lock:
                    turn.messages = turn.decide()
            if turn.messages:
                self._append_and_fold(turn.messages)
        finally:
            self._pass_lead()

    def _await(self, turn: Turn) -> None:
        try:
            turn.wait()
        except BaseException:
            # An interrupt hit a caller that others depend on: a thread has to finish its turn.
            threading.Thread(target=self._await, args=(turn,), daemon=True).start()
            raise
        if not turn.is_served:
            self._lead()

    def _lead(self) -> None:
        """Serve all callers that wait, and pass the lead on."""
        with self._lock:
            turns, self.waiting = self.waiting, []
        try:
            with self._view.lock:
                _decide(turns)
            messages = [message for turn in turns for message in turn.messages]
            if messages:
                self._append_and_fold(messages)
        except LastseenError as error:
            for turn in turns:
                if turn.messages:  # a caller with nothing to write has lost nothing
                    turn.error = error
        except BaseException as error:
            for turn in turns:
                turn.error = OutcomeUnknown(
                    f"the append was interrupted ({error!r}), and may or may not be in the log: read before you try"
                    " again"
                )
            raise
        finally:
            for turn in turns:
                turn.is_served = True
            self._pass_lead()
            # One wakes the next: dozens of threads that wake at once only fight for the interpreter's lock.
            others = turns[1:]  # the first of them leads, and is awake
            for turn, after in pairwise(others):
                turn.next = after
            if others:
                others[0].wake()

    def _pass_lead(self) -> None:
        """Let the first caller that arrived meanwhile lead; if there is none, the queue is idle."""
        with self._lock:
            successor = self.waiting[0] if self.waiting else None
            self.is_led = successor is not None
        if successor is not None:
            successor.wake()


def _decide(turns: Sequence[Turn]) -> None:
    """Let each turn make its messages, or learn why there are none. The caller holds the view's lock."""
    alike: list[Turn] = []
    for turn in turns:
        if turn.decide_alike is not None:
            alike.append(turn)
        elif turn.decide is not None:
            try:
                turn.messages = turn.decide()
            except Exception as error:
                turn.refusal = error
    if alike:
        decide_alike = alike[0].decide_alike
        assert decide_alike is not None
        try:
            decide_alike(alike)
        except Exception as error:
            for turn in alike:
                turn.messages, turn.refusal = (), error
