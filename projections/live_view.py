"""The live view: who is live, in which order, until when. Reads only; a read never touches.

A session that is due at the time of the read is not shown: the log may not have ended it yet, but it is over.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice, repeat
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from lastseen.engine.arguments import check_times
from lastseen.engine.errors import InvalidSetting, LogError, LogUnavailable, NotOwner, OwnerState, shown
from lastseen.engine.log.port import Position
from lastseen.engine.log.shared_log import Owner
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import AttributeSource, Session, SessionView, Status
from lastseen.projections.listing import SORTS, Listing, Listings, Sort
from lastseen.projections.page_cursor import Cursor, Place, decode_cursor, encode_cursor, terms_of
from lastseen.projections.partition import Partition
from lastseen.projections.session_walk import SessionWalk, batches

MAX_PAGE = 10_000
SHOWN_AT_A_TIME = 512
"""Sessions of a page that are shown with the view's lock held."""
_OWNER_STEPS = {
    OwnerState.KNOWN: "ask its owner at {address}",
    OwnerState.UNNAMED: "its owner gave no address; open every engine with `address`",
    OwnerState.LOADING: "it has become the owner, and is loading it; try again in a moment",
    OwnerState.VACANT: "no engine owns it at the moment; try again until the group has chosen an owner",
    OwnerState.UNKNOWN: "it does not know the owner yet; try again in a moment",
}
"""What is known of the owner of a partition that is not served here, and the next step."""


class Attributes(AttributeSource, Protocol):
    """Where the attributes of sessions are, in memory first."""

    def in_memory(self, partition: int, session: Session) -> Mapping[str, Any] | None:
        """The attributes, if they are in memory. The caller holds the view's lock; for `load` it does not."""
        ...


class Page(NamedTuple):
    """One page of a listing; `cursor` fetches the next, and is `None` on the last."""

    sessions: list[SessionView]
    cursor: str | None


class Unused(NamedTuple):
    """An active session that was not used for a while, as it was when it was looked at."""

    partition: int
    key: str
    session_id: str
    version: int


_log_time_ms = attrgetter("log_time_ms")


class LiveView:
    """What the partitions say of live sessions. Every method takes the time at which to look."""

    def __init__(
        self, partitions: Sequence[Partition], attributes: Attributes, lock: AbstractContextManager[Any]
    ) -> None:
        self.partitions = list(partitions)
        self.lock = lock
        """Held while records are folded and while the state is read. A plain lock: no thread takes it twice."""
        self._attributes = attributes
        self.walk = SessionWalk(self)
        self._listings = Listings()
        self.present: frozenset[int] = frozenset(range(len(self.partitions)))
        """The partitions whose state is kept here; all, unless the engine holds only its own."""
        self.served: frozenset[int] = self.present
        """Those of them that have caught up, and that keys may be asked for."""
        self.standby: frozenset[int] = frozenset()
        """Those that are held for other engines: keys in them are answered for, once they have caught up; listings,
        counts and evictions leave them out, since their owners have them."""
        self.has_one_clock = True
        """Whether one clock gives all partitions their log time: the log is a file, or in memory."""
        self.failures: dict[int, LogError] = {}
        """The partitions that cannot be read any further, or are not what was folded, and why. Keys in them are refused
        and listings leave them out; the other partitions are not affected."""
        self.known_owner: Callable[[int], Owner] = lambda number: Owner(OwnerState.UNKNOWN)
        """The owner of a partition, as far as known, without asking."""

    def number_of(self, key: str) -> int:
        """The number of the partition that a key belongs to."""
        return partition_of(key, len(self.partitions))

    def partition_of(self, key: str) -> Partition:
        """The partition that a key belongs to.

        Raises `NotOwner` where it is kept by another engine, and the error of the log where it has failed.
        """
        number = partition_of(key, len(self.partitions))
        if number not in self.served:
            raise self.not_owner(number, f"session key {shown(key)}")
        if self.failures:
            self.check(number)
        return self.partitions[number]

    def fail_from_start(self, failures: Mapping[int, LogError]) -> None:
        """Hold none of these partitions, and refuse their keys: the snapshot and the log disagree on them."""
        self.failures.update(failures)
        self.present -= failures.keys()

    def check_served(self, number: int, what: str) -> None:
        """Raise `NotOwner`, which names `what`, where another engine keeps a partition, and why it has failed if so."""
        if number not in self.served:
            raise self.not_owner(number, what)
        self.check(number)

    def check(self, number: int) -> None:
        """Raise why a partition has failed, if it has."""
        failure = self.failures.get(number)
        if failure is not None:
            # A new one each time: an exception that is raised again and again collects tracebacks without bound.
            raise failure.again()

    def working_partitions(self) -> Sequence[Partition]:
        """The partitions that have not failed, and are not held for other engines."""
        failures, standby = self.failures, self.standby
        if not failures and not standby:
            return self.partitions
        return [each for each in self.partitions if each.number not in failures and each.number not in standby]

    def not_owner(self, number: int, what: str) -> NotOwner:
        """The error for what belongs to another engine's partition."""
        owner = self.known_owner(number)
        step = _OWNER_STEPS[owner.state].format(address=owner.address)
        message = f"{what} is in partition {number}, which this engine does not serve: {step}"
        return NotOwner(message, owner.address, owner.state)

    def present_partitions(self) -> list[Partition]:
        """The partitions whose state is kept here."""
        present = self.present
        return [partition for partition in self.partitions if partition.number in present]

    def served_partitions(self) -> list[Partition]:
        """The partitions that keys may be asked for."""
        served = self.served & self.present
        return [partition for partition in self.partitions if partition.number in served]

    def has_reached(self, position: Position) -> bool:
        """Whether the record at `position` is folded. Raises `InvalidSetting` where no such record can be."""
        if not 0 <= position.partition < len(self.partitions) or position.offset < 0:
            raise InvalidSetting(
                f"position {position.partition}:{position.offset}: the partitions are 0 to {len(self.partitions) - 1}"
            )
        return self.partitions[position.partition].checkpoint > position.offset

    @property
    def is_importing(self) -> bool:
        """Whether the log is open for the import of a history that is not finished yet."""
        return any(partition.importing for partition in self.partitions)

    def check_writable(self) -> None:
        """Raise `LogUnavailable` while history is imported: the time that a record claims would be believed."""
        if self.is_importing:
            raise LogUnavailable(
                "the log is open for import, and can only be read: finish the import, or copy the log into another"
            )

    def log_time_ms(self) -> int:
        """The latest log time of any partition."""
        latest_ms: int = max(map(_log_time_ms, self.partitions))
        return latest_ms

    def reading_ms(self, partition: int, now_ms: int) -> int:
        """The time by which a partition's sessions are judged when the clock says `now_ms`.

        The next record gets no earlier log time than the last one. Where the clock was set back, it is behind that: by
        the clock alone a session that has been over would be seen alive again. On Kafka each leader has its own clock,
        so that one partition's log time says nothing about another's.
        """
        if self.has_one_clock:
            return max(now_ms, self.log_time_ms())
        return max(now_ms, self.partitions[partition].log_time_ms)

    def show(self, partition: int, session: Session) -> SessionView:
        """A session as callers see it."""
        return SessionView(session, partition, self._attributes.in_memory(partition, session), self._attributes)

    def reading_times(self, now_ms: int) -> list[int]:
        """`reading_ms` of each partition."""
        return [self.reading_ms(partition.number, now_ms) for partition in self.partitions]

    def get(self, key: str, now_ms: int) -> SessionView | None:
        """The session that lives under `key` at `now_ms`, or `None`. A peek."""
        partition = self.partition_of(key)
        with self.lock:
            session = partition.find(key)
            if session is None or session.is_due(self.reading_ms(partition.number, now_ms)):
                return None
            return self.show(partition.number, session)

    def get_by_id(self, session_id: str, now_ms: int) -> SessionView | None:
        """The live session with this id, or `None`."""
        with self.lock:
            for partition in self.partitions:
                session = None if partition.number in self.failures else partition.by_id.get(session_id)
                if session is not None and not session.is_due(self.reading_ms(partition.number, now_ms)):
                    return self.show(partition.number, session)
        return None

    def count(self, now_ms: int | None = None) -> int:
        """How many sessions live at `now_ms`; without a time, how many no record has ended yet, in no time at all."""
        if now_ms is None:
            return sum(len(partition) for partition in self.working_partitions())
        times = self.reading_times(now_ms)
        return sum(not session.is_due(times[partition.number]) for partition, session in self.walk.sessions())

    def next_deadline(self, among: Container[int] | None = None) -> int | None:
        """A time before which no session is due, of all partitions or of some; `None` if none ever will be."""
        with self.lock:
            wanted = [each for each in self.working_partitions() if among is None or each.number in among]
            return min((at for partition in wanted if (at := partition.deadlines.next_ms())), default=None)

    def in_lru_order(self) -> Iterator[tuple[Partition, Session]]:
        """All active sessions, least recently used first. The caller holds the lock."""
        return _merged([(each, each.in_lru_order()) for each in self.working_partitions()])

    def in_eviction_order(
        self, times: Sequence[int], limit: int, among: Container[int]
    ) -> Iterator[tuple[Partition, Session]]:
        """The active sessions of some partitions, least recently used first, without those that a pass found held and
        that still are. Of those that are no longer, at least the first `limit`. The caller holds the lock.

        `times` are those by which the partitions are judged.
        """
        partitions = [each for each in self.working_partitions() if each.number in among]
        return _merged([(each, each.in_eviction_order(times[each.number], limit)) for each in partitions])

    def unused_since(self, before_ms: float, prefix: str = "") -> Sequence[Unused]:
        """The active sessions under a prefix that were last used before a time, least recently used first."""
        working = self.working_partitions()
        is_few = not any(each.set_aside for each in working)  # whose order would have to be made first
        if is_few:
            with self.lock:
                oldest = list(islice(self.in_lru_order(), SHOWN_AT_A_TIME))
                found = _unused(oldest, before_ms, prefix)
            is_few = len(oldest) < SHOWN_AT_A_TIME or oldest[-1][1].last_active_at_ms >= before_ms
        if not is_few:
            # So many are that old that to go through them all would take the lock for too long.
            found = []
            for partition, step in self.walk.steps(prefix=prefix):
                for some in batches(step, SHOWN_AT_A_TIME):
                    with self.lock:
                        active = [(partition, each) for each in some if each.suspended_at_ms is None]
                        found += _unused(active, before_ms, prefix)
            found.sort()
        return [unused for _, unused in found]

    def register(self, prefixes: Iterable[str]) -> None:
        """Keep an index of the live sessions under each of these prefixes: listings under one look at no others.

        Costs a look at every live session, once, and nothing for prefixes that are registered already. May be called
        from any thread, and while records are folded.
        """
        self.walk.register(prefixes)

    def list(
        self,
        now_ms: int,
        *,
        sort: Sort = "lru",
        status: Status | str | None = None,
        prefix: str = "",
        owner: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of live sessions. Sorted by `lru` (least recently used first), `deadline` (soonest) or `created`.

        `since_ms`, which is included, and `until_ms`, which is not, are bounds on the last use. Like those of ended
        sessions they are no part of a cursor: a time that is relative is another at each page.

        The first page costs a look at every live session (under a registered prefix, of the owner, if these are given),
        but no lock meanwhile; the others cost what they hold. The order is that of the first page's moment: each
        session that lives throughout is seen exactly once. Where that order is no longer kept (it is for a minute after
        the last page, on the instance that gave it), sessions that were used since may be seen again. Raises
        `InvalidSetting`.
        """
        if sort not in SORTS:
            raise InvalidSetting(f"sort = {shown(sort)}: give one of {', '.join(SORTS)}")
        wanted = _status_of(status)
        for name, text in (("prefix", prefix), ("owner", owner)):
            if not isinstance(text, str) and (name, text) != ("owner", None):
                raise InvalidSetting(f"{name} = {shown(text)}: give text")
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_PAGE:
            raise InvalidSetting(f"limit = {shown(limit)}: give a whole number from 1 to {MAX_PAGE}")
        check_times(since_ms, until_ms)
        terms = terms_of(sort, wanted, prefix, owner)
        after = decode_cursor(cursor, terms)
        self._listings.drop_old(now_ms)
        partitions = self.working_partitions()
        times = self.reading_times(now_ms)
        fits = _filter(wanted, prefix, owner, since_ms, until_ms)
        listing = None if after is None else self._listings.find(after.listing, partitions, now_ms)
        name = after.listing if after is not None and listing is not None else ""
        if listing is None:
            steps = self.walk.steps(owner, prefix)
            listing = Listing(((part, [each for each in step if fits(each)]) for part, step in steps), sort, partitions)
        rows: list[tuple[Place, Session]] = []
        for place, session in listing.after(None if after is None else after.place):
            if (
                self.partitions[place.partition].is_live(session)
                and fits(session)
                and not session.is_due(times[place.partition])
            ):
                rows.append((place, session))
                if len(rows) > limit:
                    break
        views = []
        for step in batches(rows[:limit], SHOWN_AT_A_TIME):
            with self.lock:
                views += [
                    self.show(place.partition, session)
                    for place, session in step
                    if self.partitions[place.partition].is_live(session)
                ]
        if len(rows) <= limit:
            return Page(views, None)
        ends_at = Cursor(rows[limit - 1][0], name or self._listings.keep(listing, now_ms))
        return Page(views, encode_cursor(ends_at, terms))

    def forget_listings(self, now_ms: int) -> None:
        """Drop what is kept for the next pages of listings that were not continued."""
        self._listings.drop_old(now_ms)


def _unused(
    sessions: Iterable[tuple[Partition, Session]], before_ms: float, prefix: str
) -> list[tuple[tuple[int, int, int], Unused]]:
    """Those that were last used before a time, each with its place in the LRU order. The caller holds the lock."""
    return [
        (
            (session.last_active_at_ms, partition.number, session.last_active_offset),
            Unused(partition.number, session.key, session.session_id, session.version),
        )
        for partition, session in sessions
        if session.last_active_at_ms < before_ms and session.key.startswith(prefix) and partition.is_live(session)
    ]


def _merged(orders: Sequence[tuple[Partition, Iterator[Session]]]) -> Iterator[tuple[Partition, Session]]:
    """The sessions of several partitions, each in its order, in the order in which they were last used."""
    lines = [zip(repeat(partition), order, strict=False) for partition, order in orders]
    if len(lines) == 1:
        return iter(lines[0])
    return heapq.merge(*lines, key=lambda pair: (pair[1].last_active_at_ms, pair[0].number))


def _filter(
    status: Status | None, prefix: str, owner: str | None, since_ms: int | None, until_ms: int | None
) -> Callable[[Session], bool]:
    """Whether a session is one that a listing is to have."""

    def fits(session: Session) -> bool:
        if status is not None and session.status is not status:
            return False
        if not session.key.startswith(prefix) or (owner is not None and session.owner != owner):
            return False
        used_ms = session.last_active_at_ms
        return (since_ms is None or used_ms >= since_ms) and (until_ms is None or used_ms < until_ms)

    return fits


def _status_of(status: Status | str | None) -> Status | None:
    if status is None or isinstance(status, Status):
        return status
    try:
        return Status(status)
    except ValueError:
        raise InvalidSetting(f"status = {shown(status)}: give active or suspended") from None
