"""What the loop needs of the view and of the fold: the ports through which `engine` sees `projections`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

from lastseen.engine.lifecycle import SessionIds
from lastseen.engine.log.port import Position
from lastseen.engine.session import Session, SessionView
from lastseen.engine.verdicts import Verdict


class PartitionState(SessionIds, Protocol):
    """One partition of the view."""

    @property
    def number(self) -> int: ...

    def find(self, key: str) -> Session | None:
        """The session under `key` that no record has ended yet; it may be due."""
        ...


class View(Protocol):
    """The live view. `lock` is held while its state is read."""

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    def partition_of(self, key: str) -> PartitionState:
        """The partition that a key belongs to."""
        ...

    def show(self, partition: int, session: Session) -> SessionView:
        """A session as callers see it."""
        ...

    def reading_ms(self, partition: int, now_ms: int) -> int:
        """The time by which sessions of a partition are judged when the clock says `now_ms`: never before log time."""
        ...


class Answer(Protocol):
    """The outcome of an awaited event; the verdict is there once it has been folded."""

    @property
    def verdict(self) -> Verdict | None: ...

    @property
    def session(self) -> SessionView | None: ...

    def fail_as_lost(self) -> NoReturn:
        """The fold has passed the event's place without it: the partition fails. Raises `OutcomeUnknown`."""
        ...


class Fold(Protocol):
    """The follower."""

    def expect(self, event_id: str, partition: int) -> Answer:
        """Ask for the outcome of an event that is about to be appended to a partition."""
        ...

    def forget(self, event_id: str) -> None:
        """Stop waiting for this event."""
        ...

    def catch_up(self, to: Position | None = None) -> int:
        """Fold until the record at `to` is folded."""
        ...
