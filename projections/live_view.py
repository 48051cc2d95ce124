"""The live view: who is live, in which order, until when. Reads only; a read never touches.

A session that is due at the time of the read is not shown: the log may not have ended it yet, but it is over.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice, repeat
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol

from lastseen.engine.errors import InvalidSetting, LogError, LogUnavailable, NotOwner, OwnerState, shown
from lastseen.engine.log.port import Position
from lastseen.engine.log.shared_log import Owner
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import AttributeSource, Session, SessionView, Status
from lastseen.projections.page_cursor import decode_cursor, encode_cursor, terms_of
from lastseen.projections.partition import Partition
from lastseen.projections.prefix_index import Prefixes, PrefixIndex

Sort = Literal["lru", "deadline", "created"]
SORTS: tuple[Sort, ...] = ("lru", "deadline", "created")
MAX_PAGE = 10_000
STEP = 4_096
"""Sessions put into a new index at a time, between which others may have the lock."""
_OWNER_STEPS = {
    OwnerState.KNOWN: "ask its owner at {address}",
    OwnerState.UNNAMED: "its owner gave no address; open every engine with `address`",
    OwnerState.LOADING: "it has become the owner, and is loading it; try again in a moment",
    OwnerState.VACANT: "no engine owns it at the moment; try again until the group has chosen an owner",
    OwnerState.UNKNOWN: "it does not know the owner yet; try again in a moment",
}
"""What is known of the owner of a partition that is not served here, and the next step."""
_NEVER_MS = 2**62
"""Sorts after every deadline."""


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
        self._prefixes = Prefixes()
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
            raise type(failure)(*failure.args)

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
        return sum(not session.is_due(times[partition.number]) for partition, session in self._all())

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
        found = []
        with self.lock:
            for partition, session in self.in_lru_order():
                if session.last_active_at_ms >= before_ms:
                    break
                if session.key.startswith(prefix):
                    found.append(Unused(partition.number, session.key, session.session_id, session.version))
        return found

    def register(self, prefixes: Iterable[str]) -> None:
        """Keep an index of the live sessions under each of these prefixes: listings under one look at no others.

        Costs a look at every live session, once, and nothing for prefixes that are registered already. May be called
        from any thread, and while records are folded.
        """
        new = [prefix for prefix in prefixes if prefix and prefix not in self._prefixes.known]
        if new:
            with self.lock:
                self._prefixes.add(new)
            for number in range(len(self.partitions)):
                self._index(self.partitions[number], new)

    def _index(self, partition: Partition, prefixes: Iterable[str]) -> None:
        """Put into a partition's index what lives there under these prefixes, step by step."""
        with self.lock:
            index = partition.prefix_index = partition.prefix_index or PrefixIndex()
            for prefix in prefixes:
                index.register(prefix)
            # From here on the partition updates the index with each session that begins or ends.
            rest = iter(list(partition.by_id.values()))
        while step := list(islice(rest, STEP)):
            with self.lock:
                for session in step:
                    if partition.is_live(session):
                        index.add(session)
        with self.lock:
            index.all_whole(prefixes)

    def list(
        self,
        now_ms: int,
        *,
        sort: Sort = "lru",
        status: Status | str | None = None,
        prefix: str = "",
        owner: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of live sessions. Sorted by `lru` (least recently used first), `deadline` (soonest) or `created`.

        Costs a look at every live session (under a registered prefix, of the owner, if these are given), but no lock
        meanwhile. A session that moves in the order between two pages may be seen twice or not at all. Raises
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
        terms = terms_of(sort, wanted, prefix, owner)
        after = decode_cursor(cursor, terms)
        times = self.reading_times(now_ms)
        sort_key = _SORT_KEYS[sort]
        # Used in the same millisecond: the order in which the pruner takes them.
        tie = attrgetter("last_active_offset" if sort == "lru" else "born_offset")
        fitting = (
            (sort_key(session), partition.number, tie(session), partition, session)
            for partition, session in self._all(owner, prefix)
            if (wanted is None or session.status is wanted)
            and session.key.startswith(prefix)
            and not session.is_due(times[partition.number])
        )
        rows = heapq.nsmallest(limit + 1, (row for row in fitting if after is None or row[:3] > after))
        page = rows[:limit]
        with self.lock:
            views = [
                self.show(partition.number, session) for *_, partition, session in page if partition.is_live(session)
            ]
        return Page(views, encode_cursor(page[-1][:3], terms) if len(rows) > limit else None)

    def _all(self, owner: str | None = None, prefix: str = "") -> Iterator[tuple[Partition, Session]]:
        """Every live session that can be of this owner and under this prefix; others may be among them."""
        registered = self._prefixes.over(prefix)
        for partition in self.working_partitions():
            if registered is not None:
                self._ensure(partition, registered)
            with self.lock:
                index = None if registered is None else partition.prefix_index
                indexed = None if index is None or registered is None else index.find(registered)
                if indexed is not None:
                    by_key = indexed.sessions(owner)
                else:
                    by_key = partition.by_id if owner is None else partition.by_owner.get(owner, {})
                sessions = list(by_key.values())
            for session in sessions:
                yield partition, session

    def _ensure(self, partition: Partition, prefix: str) -> None:
        """Have a partition that was taken up since, or is being indexed at this moment, know the prefix whole."""
        with self.lock:
            sessions = None if partition.prefix_index is None else partition.prefix_index.find(prefix)
        if sessions is None or not sessions.is_whole:
            self._index(partition, self._prefixes.known)


def _merged(orders: Sequence[tuple[Partition, Iterator[Session]]]) -> Iterator[tuple[Partition, Session]]:
    """The sessions of several partitions, each in its order, in the order in which they were last used."""
    lines = [zip(repeat(partition), order, strict=False) for partition, order in orders]
    if len(lines) == 1:
        return iter(lines[0])
    return heapq.merge(*lines, key=lambda pair: (pair[1].last_active_at_ms, pair[0].number))


_SORT_KEYS: dict[Sort, Callable[[Session], int]] = {
    "lru": lambda session: session.last_active_at_ms,
    "deadline": lambda session: session.deadline_ms() or _NEVER_MS,
    "created": lambda session: session.created_at_ms,
}


def _status_of(status: Status | str | None) -> Status | None:
    if status is None or isinstance(status, Status):
        return status
    try:
        return Status(status)
    except ValueError:
        raise InvalidSetting(f"status = {shown(status)}: give active or suspended") from None
