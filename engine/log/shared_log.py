"""What a log that several machines share offers beside the log: dividing duties, and telling others what took effect.

A log that lives on one machine has none of this: there, each process does what is to be done, and doubling is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from lastseen.engine.errors import OwnerState
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.port import Log, Record


class Owner(NamedTuple):
    """The owner of a partition, as far as it is known."""

    state: OwnerState
    address: str | None = None
    """Where it is to be reached; only of a `KNOWN` one."""


class MemberSettings(NamedTuple):
    """How a process takes part in the group that divides the duties."""

    group: str | None = None
    """The group's name; `None` takes the log's."""
    name: str | None = None
    """The process's lasting name in the group: with one, a restart that is quick enough moves nothing."""
    address: str | None = None
    """Where others reach it."""
    standbys: int = 0
    """How many processes besides its owner are to hold each partition."""
    has_room: bool = False
    """Whether it holds some partitions only, so that the group says which; else it holds all."""


class Held(NamedTuple):
    """What a process holds at a moment."""

    present: frozenset[int]
    """The partitions that it has, or loads."""
    caught_up: frozenset[int]
    """Those that it can serve."""


class Duties(Protocol):
    """Which partitions this process owns: it announces their expiries and publishes their facts.

    Owners may change at any time, and two may overlap for a while; whatever an owner does must bear that.
    """

    def owned(self) -> frozenset[int]:
        """The partitions that this process owns, as far as it knows."""
        ...

    def to_hold(self) -> frozenset[int]:
        """The partitions that this process is to hold: those that it owns, those that become its own as soon as it has
        caught up with them, and those that it holds for the case that their owner fails."""
        ...

    def kept_for_others(self) -> frozenset[int]:
        """Those of them that another process owns."""
        ...

    def owner_of(self, partition: int) -> str | None:
        """The address that the owner of a partition gave when it joined; `None` if there is none, or the partition has
        no owner.

        Raises `LogUnavailable`.
        """
        ...

    def known_owner(self, partition: int) -> Owner:
        """The owner as it was known last, without a request; what is not known, or is old, a thread is set to ask."""
        ...

    def leave(self) -> None:
        """Release all partitions, so that others take them over at once. Does not wait. May be called again."""
        ...

    def close(self) -> None:
        """Leave, and wait until that is done. May be called again."""
        ...


class OutboundRecord(NamedTuple):
    """Something for others to read: `None` as its value takes a key away."""

    key: str
    value: bytes | None


class FactPublisher(Protocol):
    """Where facts and states go: two topics beside the log's own, with as many partitions."""

    def publish_facts(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        """Append facts; returns when they are safe. Raises `LogError`."""
        ...

    def newest_facts(self, partition: int) -> Iterator[Sequence[Record]]:
        """What stands last in a partition, strangers' records included: page by page from the newest on, within bounds.

        Each page is in the order of the topic; what cannot be read is left out. Raises `LogError`.
        """
        ...

    def facts_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        """The newest records that others have appended to the facts since the last call, owners or strangers.

        Raises `LogError`.
        """
        ...

    def had_facts(self, partition: int) -> bool:
        """Whether anything was ever written to a partition. Raises `LogError`."""
        ...

    def publish_states(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        """Replace states; returns when they are safe. Raises `LogError`."""
        ...

    def mark_foreign(self, partition: int) -> None:
        """Treat all states in the topic as another owner's. Raises `LogError`."""
        ...

    def written_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        """What others, owners or strangers, have written to the states since the last call, page by page.

        A record that cannot be read has neither key nor value. Raises `LogError`.
        """
        ...

    def close(self) -> None:
        """Close the clients. May be called again."""
        ...


@runtime_checkable
class SharedLog(Log, Protocol):
    """A log that several machines share."""

    def join(
        self, member: MemberSettings, held: Callable[[], Held], changed: Callable[[], None], health: DutyHealth
    ) -> Duties:
        """Take a share of the duties. `changed` is called, on another thread, when it grows or shrinks.

        `held` says what this process holds. `health` records failures of the membership, as the duty `group`.
        """
        ...

    def await_growth(self, ends: Sequence[int], timeout_s: float) -> list[int]:
        """Wait until some partition's end is not the one in `ends`, as far as known here; the ends. Sends no request.

        Raises the log's errors.
        """
        ...

    def open_fact_publisher(self) -> FactPublisher:
        """Open the topics beside the log. Raises `LogError` where they are missing or unfit."""
        ...
