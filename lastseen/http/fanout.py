"""From one subscription of the engine to many listeners in the event loop.

A listener that falls behind, or that joins late, is flagged as having missed facts, and reads the gap from the log
(`Engine.facts_between`). So memory is bounded, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import EngineClosed, LastseenError
from lastseen.projections.facts import Fact, encode
from lastseen.projections.subscriptions import Subscription

T = TypeVar("T")
MAX_QUEUED = 2_000
"""The most facts that wait for one listener."""
MAX_GATHERED = 500
"""The most facts handed to the event loop at a time."""


class EncodedFact:
    """A fact, encoded once for all listeners, and only if there are any."""

    __slots__ = ("_bytes", "_source", "fact")

    def __init__(self, fact: Fact, source: str) -> None:
        self.fact = fact
        self._source = source
        self._bytes: bytes | None = None

    @property
    def text(self) -> bytes:
        """The fact as a CloudEvent, on one line."""
        if self._bytes is None:
            self._bytes = encode(self.fact, self._source)
        return self._bytes


class Listener:
    """What waits for one listener. To be used in the event loop."""

    def __init__(self) -> None:
        self.waiting: deque[EncodedFact] = deque()
        self.has_missed = False
        """Whether facts went by that are not in `waiting`."""
        self.is_over = False
        """Whether nothing more will come."""
        self._news = asyncio.Event()

    def offer(self, facts: list[EncodedFact]) -> None:
        """Queue facts; if there is no room, flag that some were missed."""
        if len(self.waiting) + len(facts) > MAX_QUEUED:
            self.waiting.clear()
            self.has_missed = True
        elif not self.has_missed:
            self.waiting.extend(facts)
        self._news.set()

    def mark_missed(self) -> None:
        """Facts have been lost on the way here."""
        self.waiting.clear()
        self.has_missed = True
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self.is_over = True
        self._news.set()

    def catch_up(self) -> None:
        """Queue facts again; the listener reads those that it missed from the log."""
        self.has_missed = False

    async def wait(self, timeout_s: float) -> bool:
        """Wait for news; whether there are any."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)
        has_news = self._news.is_set()
        self._news.clear()
        return has_news


class Fanout:
    """The listeners of one application. To be used in one event loop; `stop` from anywhere."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.source = f"/lastseen/{engine.log_identity}"
        """The source that facts name, the same on every instance."""
        self._listeners: set[Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscription: Subscription | None = None
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._listeners)

    def join(self) -> Listener:
        """Add a listener: it receives the facts of every record that is folded from now on. Raises `EngineClosed`."""
        if self._is_stopped:
            raise EngineClosed("this service is shutting down: connect to another instance, or try again in a moment")
        self._loop = asyncio.get_running_loop()
        if self._subscription is None:
            self._subscribe()
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def _subscribe(self) -> None:
        self._subscription = self._engine.subscribe()
        thread = threading.Thread(
            target=self._read_facts, args=(self._subscription,), name="lastseen-stream", daemon=True
        )
        thread.start()

    def leave(self, listener: Listener) -> None:
        """Remove it. Without listeners the subscription ends, and the engine publishes nothing here."""
        self._listeners.discard(listener)
        if not self._listeners and self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def stop(self) -> None:
        """End all, and take no more. May be called from any thread, and again."""
        self._is_stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and its listeners with it
                self._loop.call_soon_threadsafe(self._end_all)

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.end()

    # ── in the thread ──

    def _read_facts(self, subscription: Subscription) -> None:
        while True:
            facts = []
            try:
                fact = subscription.get()
                while fact is not None:
                    facts.append(EncodedFact(fact, self.source))
                    fact = subscription.get(0) if len(facts) < MAX_GATHERED else None
            except LastseenError:
                # The subscription fell behind: each listener reads the gap from the log, a new subscription the rest.
                self._call_in_loop(self._resubscribe, subscription)
                return
            if not facts:
                self._call_in_loop(self._subscription_ended, subscription)
                return
            if not self._call_in_loop(self._deliver, facts):
                return

    def _call_in_loop(self, function: Callable[[T], None], argument: T) -> bool:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the loop has ended, and with it every listener
            return False
        return True

    # ── in the loop ──

    def _deliver(self, facts: list[EncodedFact]) -> None:
        for listener in self._listeners:
            listener.offer(facts)

    def _resubscribe(self, subscription: Subscription) -> None:
        if self._subscription is not subscription:
            return
        subscription.close()
        self._subscription = None
        listeners = list(self._listeners)
        try:
            if listeners:
                self._subscribe()
        except EngineClosed:
            self._end_all()
        for listener in listeners:
            listener.mark_missed()

    def _subscription_ended(self, subscription: Subscription) -> None:
        if self._subscription is subscription:
            self._subscription = None
            self._end_all()
