"""The gateway's sessions on an engine: read, decided, written, and decided again where another caller was first.

Every write names the session, and where it depends on more than that the version, that it was decided on. So two
gateways on one log that reset a session at once get the same fresh one, and what is saved late reaches no other session
than it was read from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from lastseen.compat.gateway.entry import SessionEntry, entry_of, patch_of, quiet, saved_fields
from lastseen.compat.gateway.source import PREFIX
from lastseen.compat.gateway.transcripts import check_conversation
from lastseen.embedded.engine import Engine
from lastseen.engine.errors import (
    AlreadyDone,
    InvalidKey,
    Refused,
    SessionEnded,
    SessionExists,
    SessionNotFound,
    SessionSuspended,
    StaleSession,
    VersionConflict,
    shown,
)
from lastseen.engine.session import Policy, SessionView, Status
from lastseen.engine.session_engine import ATTEMPTS

GONE = (SessionNotFound, SessionEnded)
PAGE = 10_000
_OTHERS_WERE_FIRST = (*GONE, SessionExists, StaleSession, SessionSuspended, VersionConflict, AlreadyDone)
T = TypeVar("T")


class Sessions:
    """Sessions as entries. Safe to call from many threads."""

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self.engine = engine
        self._policy = policy
        self._handed_out: WeakValueDictionary[int, SessionEntry] = WeakValueDictionary()
        """The entries that callers have, and may change: by identity, since entries are compared by what they say."""

    def get(self, key: str) -> SessionView | None:
        """The session that lives under a key; none under what can be no key."""
        try:
            return self.engine.get(key)
        except InvalidKey:
            return None

    def all(self) -> Iterator[SessionView]:
        """Every live session of a gateway, in the order of their beginnings. Costs a look at all."""
        cursor = None
        while True:
            # In this order no session changes its place between two pages.
            page = self.engine.list(sort="created", prefix=f"{PREFIX}:", limit=PAGE, cursor=cursor)
            yield from page.sessions
            cursor = page.cursor
            if cursor is None:
                return

    def entry(self, view: SessionView) -> SessionEntry:
        """The entry of a session for a caller, who may change it and have it saved."""
        entry = entry_of(view)
        self._handed_out[id(entry)] = entry
        return entry

    def decide(self, key: str, attempt: Callable[[], T]) -> T:
        """Run a decision and its write, again if the session has changed in between. Raises `VersionConflict`."""
        error: Refused | None = None
        for _ in range(ATTEMPTS):
            try:
                return attempt()
            except _OTHERS_WERE_FIRST as refusal:
                error = refusal
        raise VersionConflict(
            f"session key {shown(key)}: it changed {ATTEMPTS} times while this was decided; try again"
        ) from error

    def create(self, key: str, attributes: Mapping[str, Any]) -> SessionEntry:
        """Begin a session. Raises `SessionExists`."""
        return self.entry(self.engine.create(key, attributes=attributes, policy=self._policy))

    def rotate(self, view: SessionView, attributes: Mapping[str, Any], reason: str) -> SessionEntry:
        """Put a fresh session in the place of one, as it was when it was looked at."""
        return self.entry(
            self.engine.rotate(
                view.key, reason=reason, attributes=attributes, policy=self._policy, session_id=view.session_id,
                if_version=view.version,
            )
        )  # fmt: skip

    def mark(self, key: str, patch_for: Callable[[SessionView], dict[str, Any] | None]) -> bool:
        """Change attributes without that counting as activity. Whether there was a session, and something to change."""

        def attempt() -> bool:
            view = self.get(key)
            patch = None if view is None else patch_for(view)
            if view is None or patch is None:
                return False
            self._write_quietly(view, patch)
            return True

        return self.decide(key, attempt)

    def _write_quietly(self, view: SessionView, patch: dict[str, Any]) -> None:
        self.engine.touch(view.key, attributes=patch | quiet(view), session_id=view.session_id, if_version=view.version)

    def save(self, entry: SessionEntry) -> bool:
        """Save what a caller has changed in an entry; whether the session it was read from lives, and could take it.

        What others have changed meanwhile stays. A suspended session takes nothing but its resumption.
        """
        if entry.life is None:
            return False  # it was not read from here
        patch = patch_of(entry)
        if patch.get("conversation") is not None:
            check_conversation(patch["conversation"])
        was_suspended = entry.as_read[-1]

        def attempt() -> bool:
            view = self.get(entry.session_key)
            if view is None or view.session_id != entry.life:
                return False
            if view.status is Status.SUSPENDED:
                if entry.suspended or not was_suspended:
                    return not patch
                view = self.engine.resume(view.key, session_id=view.session_id)
            if patch:
                self._write_quietly(view, patch)
            if entry.suspended and not was_suspended:
                self.engine.suspend(view.key, session_id=view.session_id, reason="saved")
            return True

        is_saved = self.decide(entry.session_key, attempt)
        entry.as_read = saved_fields(entry)
        return is_saved

    def save_changed(self) -> None:
        """Save every entry that was handed out and has been changed since."""
        for reference in self._handed_out.valuerefs():  # a list, which other threads do not change
            entry = reference()
            if entry is not None and entry.as_read != saved_fields(entry):
                self.save(entry)
