"""The live sessions of tenants: those whose keys begin with a prefix that a token is bound to.

Without it a tenant's listing would look at all sessions, and take the longer the more the others have. One
index a partition, made when the first prefix is registered, then kept up to date by the partition with each session
that begins, ends or changes its owner. A touch costs nothing; a beginning or an end one look-up for each length that
registered prefixes have, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from lastseen.engine.session import Session
from lastseen.projections.shards import Shards, added, put


class PrefixSessions:
    """The live sessions under one prefix."""

    __slots__ = ("by_id", "by_owner", "is_whole")

    def __init__(self) -> None:
        self.by_id: dict[str, Session] | Shards[Session] = {}
        self.by_owner: dict[str, dict[str, Session] | Shards[Session]] = {}
        """Owner → its live sessions under the prefix, by id."""
        self.is_whole = False
        """Whether the sessions are in that lived already when the prefix was registered."""

    def add(self, session: Session) -> None:
        """Add one."""
        self.by_id = added(self.by_id, session.session_id, session)
        if session.owner is not None:
            put(self.by_owner, session.owner, session.session_id, session)

    def sessions(self, owner: str | None = None) -> dict[str, Session] | Shards[Session]:
        """All of them, or those of one owner, by id."""
        return self.by_id if owner is None else self.by_owner.get(owner, {})


class PrefixIndex:
    """One partition's index by prefix. The caller holds the view's lock. Everything may be done twice without harm."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, PrefixSessions] = {}
        self._lengths: tuple[int, ...] = ()
        """How long registered prefixes are: each length once."""

    def register(self, prefix: str) -> None:
        """From now on sessions under `prefix` are kept; those that live already are for the caller to `add`."""
        if prefix not in self._by_prefix:
            self._by_prefix[prefix] = PrefixSessions()
            if len(prefix) not in self._lengths:
                self._lengths = tuple(sorted((*self._lengths, len(prefix))))

    def find(self, prefix: str) -> PrefixSessions | None:
        """The sessions under a prefix; `None` if it is not registered."""
        return self._by_prefix.get(prefix)

    def all_whole(self, prefixes: Iterable[str]) -> None:
        """Say that all live sessions under these prefixes are in."""
        for prefix in prefixes:
            self._by_prefix[prefix].is_whole = True

    def add(self, session: Session) -> None:
        """A session has begun, or is seen for the first time."""
        for tenant in self._over(session.key):
            tenant.add(session)

    def drop(self, session: Session) -> None:
        """A session has ended."""
        for tenant in self._over(session.key):
            tenant.by_id.pop(session.session_id, None)
            _disown(tenant, session, session.owner)

    def move(self, session: Session, previous: str | None) -> None:
        """A session has changed its owner, who was `previous` before."""
        for tenant in self._over(session.key):
            _disown(tenant, session, previous)
        self.add(session)

    def _over(self, key: str) -> list[PrefixSessions]:
        """The tenants that a key belongs to: one may have a prefix of another's prefix."""
        by_prefix = self._by_prefix
        return [tenant for length in self._lengths if (tenant := by_prefix.get(key[:length])) is not None]


def _disown(tenant: PrefixSessions, session: Session, owner: str | None) -> None:
    owned = None if owner is None else tenant.by_owner.get(owner)
    if owned is not None and owner is not None:
        owned.pop(session.session_id, None)
        if not owned:
            del tenant.by_owner[owner]


class Prefixes:
    """Which prefixes are registered."""

    def __init__(self) -> None:
        self.known: dict[str, None] = {}
        """In the order in which they were registered; only added to, so that a copy of it costs no lock."""
        self._lengths: tuple[int, ...] = ()

    def add(self, prefixes: Iterable[str]) -> None:
        """Register more of them; the empty one covers all sessions, and needs no index."""
        new = [prefix for prefix in prefixes if prefix]
        self.known.update(dict.fromkeys(new))
        if not {len(prefix) for prefix in new} <= set(self._lengths):
            self._lengths = tuple(sorted({*self._lengths, *map(len, new)}, reverse=True))

    def over(self, prefix: str) -> str | None:
        """The longest registered one that `prefix` begins with, or is; `None` if there is none."""
        for length in self._lengths:
            if length <= len(prefix) and prefix[:length] in self.known:
                return prefix[:length]
        return None
