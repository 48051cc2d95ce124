"""Subscriptions: facts for subscribers in this process, as they happen."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from lastseen.engine.errors import EngineClosed, LastseenError
from lastseen.projections.facts import Effect, Fact, effect_of, facts_of
from lastseen.projections.partition import Outcome, Partition

QUEUED_FACTS = 10_000
"""How far a subscriber may fall behind."""


class Subscription(Iterator[Fact]):
    """Facts from now on. Iterate over it; `close` it, or use it as a context manager, when you need no more."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._queue: queue.Queue[Fact | LastseenError | None] = queue.Queue()
        self._subscriptions = subscriptions
        self._is_over = False

    def __next__(self) -> Fact:
        fact = self.get()
        if fact is None:
            raise StopIteration
        return fact

    def get(self, timeout_s: float | None = None) -> Fact | None:
        """The next fact; `None` when the engine has shut down, or after `timeout_s` seconds.

        Raises `LastseenError` if the listener fell so far behind that facts were dropped.
        """
        if self._is_over and self._queue.empty():
            return None
        try:
            item = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, LastseenError):
            raise item
        return item

    def offer(self, fact: Fact) -> None:
        """Take a fact, unless too many wait already; then end the subscription with an error."""
        if self._is_over:
            return
        if self._queue.qsize() >= QUEUED_FACTS:
            self.end(
                LastseenError(
                    f"this subscription fell {QUEUED_FACTS} facts behind and was ended at {fact.id}; read faster, or"
                    " subscribe again and read the state with `list`"
                )
            )
        else:
            self._queue.put(fact)

    def end(self, error: LastseenError | None = None) -> None:
        """No more facts will come."""
        if not self._is_over:
            self._is_over = True
            self._queue.put(error)

    def close(self) -> None:
        """Stop listening."""
        self._subscriptions.drop(self)
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Subscriptions:
    """All subscriptions of an engine."""

    def __init__(self) -> None:
        self._all: tuple[Subscription, ...] = ()
        self._is_closed = False

    def add(self) -> Subscription:
        """A new one. Raises `EngineClosed`."""
        if self._is_closed:
            raise EngineClosed("the engine has shut down: open another to subscribe")
        subscription = Subscription(self)
        self._all = (*self._all, subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """Hand it nothing more."""
        self._all = tuple(other for other in self._all if other is not subscription)

    def on_record(self, partition: Partition, outcome: Outcome) -> None:
        """Hand on the facts of a record that was just folded."""
        effect = effect_of(outcome) if self._all else None
        if effect is not None:
            self.on_touch(partition.number, effect)

    @property
    def hears_touches(self) -> bool:
        """Whether there is any subscription (`follower.Listener`)."""
        return bool(self._all)

    def on_touch(self, number: int, effect: Effect) -> None:
        """Hand on the facts of an effect."""
        for fact in facts_of(number, effect):
            for subscription in self._all:
                subscription.offer(fact)

    def close(self) -> None:
        """End all."""
        self._is_closed = True
        for subscription in self._all:
            subscription.end()
