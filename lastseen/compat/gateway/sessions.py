"""The gateway's sessions on an engine: read, decided, written, and decided again where another caller was first.

Every write names the session, and where it depends on more than that the version, that it was decided on. So two
gateways on one log that reset a session at once get the same fresh one, and what is saved late reaches no other session
than it was read from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from lastseen.compat.gateway.entry import SessionEntry, attributes_at, entry_of, patch_of, quiet, saved_fields
from lastseen.compat.gateway.source import PREFIX
from lastseen.compat.gateway.times import ms_of
from lastseen.compat.gateway.transcripts import check_conversation
from lastseen.embedded.engine import Engine
from lastseen.engine.errors import (
    AlreadyDone,
    InvalidKey,
    LastseenError,
    LogError,
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

_logger = logging.getLogger("lastseen")
GONE = (SessionNotFound, SessionEnded)
PAGE = 10_000
_OTHERS_WERE_FIRST = (*GONE, SessionExists, StaleSession, SessionSuspended, VersionConflict, AlreadyDone)
T = TypeVar("T")


class Sessions:
    """Sessions as entries. Safe to call from many threads."""

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self.engine = engine
        self._policy = policy
        self._changed: dict[int, SessionEntry] = {}
        """Entries that callers have changed, until that is saved: by identity, since entries are compared by what they
        say. Kept here alone if need be: `entries.get(key).suspended = True` is a change that no caller keeps."""
        self.by_hand: set[str] = set()
        """Keys whose entries were put here, or were given another time, by a caller of this process: neither prefix nor
        LRU order finds them."""

    def get(self, key: str) -> SessionView | None:
        """The session that lives under a key; none under what can be no key."""
        try:
            return self.engine.get(key)
        except InvalidKey:
            return None

    def all(self) -> Iterator[SessionView]:
        """Every live session of a gateway, in the order of their beginnings. Costs a look at all."""
        for key in list(self.by_hand):
            if not key.startswith(f"{PREFIX}:") and (view := self.get(key)) is not None:
                yield view
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
        entry.report_changes_to(self._note_change)
        return entry

    def _note_change(self, entry: SessionEntry) -> None:
        self._changed[id(entry)] = entry

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

    def _write_quietly(self, view: SessionView, patch: dict[str, Any], at_ms: int | None = None) -> None:
        self.engine.touch(
            view.key, attributes=patch | quiet(view, at_ms), session_id=view.session_id, if_version=view.version
        )

    def put(self, key: str, entry: Any, attributes: Mapping[str, Any]) -> None:
        """Begin a session with an entry that a caller has made, in the place of the one under its key.

        An entry that was read from the session that lives there is saved. Raises `InvalidEvent` and `InvalidKey`.
        """
        mine = entry if isinstance(entry, SessionEntry) else None
        attributes = {**attributes, **attributes_at(entry)}

        def attempt() -> SessionView | None:
            view = self.get(key)
            if view is None:
                view = self.engine.create(key, attributes=attributes, policy=self._policy)
            elif mine is not None and mine.life == view.session_id:
                self.save(mine)
                return None
            else:
                view = self.engine.rotate(
                    key, reason="replaced", attributes=attributes, policy=self._policy, session_id=view.session_id,
                    if_version=view.version,
                )  # fmt: skip
            if entry.suspended:
                self.engine.suspend(key, session_id=view.session_id, reason="saved")
            return view

        self.by_hand.add(key)
        view = self.decide(key, attempt)
        if view is not None and mine is not None:
            mine.life, mine.as_read = view.session_id, saved_fields(mine)
            mine.report_changes_to(self._note_change)

    def remove(self, key: str) -> bool:
        """End the session under a key. Whether there was one."""
        try:
            self.engine.close(key, reason="removed")
        except (*GONE, InvalidKey):
            return False
        return True

    def save(self, entry: SessionEntry) -> bool:
        """Save what a caller has changed in an entry; whether the session it was read from lives, and could take it.

        What others have changed meanwhile stays. A suspended session takes nothing but its resumption.
        """
        if entry.life is None:
            return False  # it was not read from here
        patch = patch_of(entry)
        if patch.get("conversation") is not None:
            check_conversation(patch["conversation"])
        *_, read_at, was_suspended = entry.as_read
        at_ms = None if entry.updated_at == read_at else ms_of(entry.updated_at)

        def attempt() -> bool:
            view = self.get(entry.session_key)
            if view is None or view.session_id != entry.life:
                return False
            if view.status is Status.SUSPENDED:
                if entry.suspended or not was_suspended:
                    return not patch and at_ms is None
                view = self.engine.resume(view.key, session_id=view.session_id)
            if patch or at_ms is not None:
                self._write_quietly(view, patch, at_ms)
            if entry.suspended and not was_suspended:
                self.engine.suspend(view.key, session_id=view.session_id, reason="saved")
            return True

        if at_ms is not None:
            self.by_hand.add(entry.session_key)
        is_saved = self.decide(entry.session_key, attempt)
        entry.as_read = saved_fields(entry)
        return is_saved

    def save_changed(self) -> None:
        """Save every entry that was changed since it was read. Raises what the first raised, when all were tried."""
        errors: list[LastseenError] = []
        for entry in self._take_changed():
            try:
                self.save(entry)
            except LastseenError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def save_pending(self) -> None:
        """The same, before a call that reads or decides, so that it finds what callers have changed and not saved.

        A change that cannot be saved must not fail a call for something else: it is logged, or tried at the next one.
        """
        for entry in self._take_changed():
            try:
                self.save(entry)
            except LogError as error:
                self._note_change(entry)
                _logger.debug("a change of session %s is not saved yet: %s", shown(entry.session_key), error)
                return
            except LastseenError as error:
                _logger.warning("a change of session %s was not saved: %s", shown(entry.session_key), error)

    def _take_changed(self) -> Iterator[SessionEntry]:
        for identity in list(self._changed):
            entry = self._changed.pop(identity, None)  # another thread may have been faster
            if entry is not None and entry.as_read != saved_fields(entry):
                yield entry
