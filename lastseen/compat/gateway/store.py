"""The gateway's session store, on the engine: the familiar calls, each of which is one record of the log.

Nothing is kept here: every answer is read from the engine, and says what was so at that moment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from lastseen.compat.gateway import prune
from lastseen.compat.gateway.config import DAY_MS, MINUTE_MS, policy_of
from lastseen.compat.gateway.entries import Entries
from lastseen.compat.gateway.entry import SessionEntry, attributes_of, entry_of, saved_fields, updated_ms
from lastseen.compat.gateway.importing import import_sessions, is_empty
from lastseen.compat.gateway.reset import reset_reason
from lastseen.compat.gateway.sessions import GONE, Sessions
from lastseen.compat.gateway.source import SessionSource, build_session_key
from lastseen.compat.gateway.times import ms_of
from lastseen.compat.gateway.transcripts import Transcripts, check_conversation
from lastseen.embedded.engine import Engine
from lastseen.embedded.opening import open_engine
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import AlreadyDone, InvalidKey, LogMismatch, SessionSuspended, shown
from lastseen.engine.session import SessionView, Status

_logger = logging.getLogger("lastseen")
SOURCE = "/gateway"
LOG_NAME, OLD_NAME = "sessions.lastseen.db", "sessions.json"
_PRUNED = "pruned %d sessions that were not used for longer than %g days"


class SessionStore:
    """The gateway's sessions. Safe to call from many threads, and from many processes on one log.

    `sessions_dir` holds the transcripts and, unless `engine` or `url` names another, the log. Where that folder has the
    old store's `sessions.json` and no log yet, the sessions in it are brought over first.
    `has_active_processes_fn(session_key)` says whether a background process works for a session.
    """

    def __init__(
        self,
        sessions_dir: Path | str,
        config: Any,
        has_active_processes_fn: Callable[[str], bool] | None = None,
        *,
        engine: Engine | None = None,
        url: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.sessions_dir = Path(sessions_dir)
        self.config = config
        self._has_active_processes_fn = has_active_processes_fn
        self.clock = clock or SystemClock()
        """What tells when a session was idle for too long. With an `engine` of one's own, give the same to both."""
        self.sessions_dir.mkdir(parents=True, exist_ok=True)
        self._transcripts = Transcripts(self.sessions_dir)
        self._owns_engine = engine is None
        self.engine = self._open(url) if engine is None else engine
        """The engine that has the sessions: for `history`, `explain`, and all else that the old store had not."""
        self._sessions = Sessions(self.engine, policy_of(config))
        if self.engine.is_importing:
            self.close()
            raise LogMismatch("the log's import was interrupted: finish it first, with `lastseen import gateway`")
        self._inside = Entries(self._sessions, self._attributes)
        self._loaded = True
        """Gateways set it; there is nothing to load."""
        self._lock = threading.RLock()
        """Guards nothing: gateways take it around what they read and save by themselves."""

    def _open(self, url: str | None) -> Engine:
        place = url or f"sqlite:///{quote(str((self.sessions_dir / LOG_NAME).absolute()))}"
        old = self.sessions_dir / OLD_NAME
        if url is None and old.is_file() and is_empty(place):
            self._move_in(old, place)
        return open_engine(place, clock=self.clock, source=SOURCE, idle_ttl=None)

    def _move_in(self, old: Path, place: str) -> None:
        try:
            imported = import_sessions(old, place, policy=policy_of(self.config), clock=self.clock)
        except LogMismatch:
            if is_empty(place):
                raise
            return  # another process was first, and has brought them over
        for key, why in imported.skipped:
            _logger.warning("%s: session %s was not imported: %s", old, shown(key), why)

    # ── a user writes ──

    def get_or_create_session(self, source: SessionSource, force_new: bool = False) -> SessionEntry:
        """The session that a message belongs to, which is used by it; a fresh one where that is due.

        A session is fresh where there was none, where the reset policy says so, where the last one was suspended, and
        with `force_new`. Raises `InvalidKey` for a source that gives no key, `InvalidEvent` for one that is too large,
        and the log's errors.
        """
        self._sessions.save_pending()
        key = self._generate_session_key(source)

        def attempt() -> SessionEntry:
            view = self.engine.get(key)
            if view is None:
                return self._sessions.create(key, self._attributes(_fresh(key, source)))
            reason = None if force_new else self._reset_reason(view, source)
            if force_new or reason is not None:
                return self._renew(view, source, reason)
            return self._use(view)

        return self._sessions.decide(key, attempt)

    def _reset_reason(self, view: SessionView, source: SessionSource) -> str | None:
        if view.status is Status.SUSPENDED:
            return "suspended"
        if view.attributes.get("resume_pending"):
            return None
        policy = self.config.get_reset_policy(platform=source.platform, session_type=source.chat_type)
        reason = reset_reason(policy, updated_ms(view), self.clock.now_ms())
        return None if reason is None or self._is_busy(view.key) else reason

    def _renew(self, view: SessionView, source: SessionSource, reason: str | None) -> SessionEntry:
        before, attributes = entry_of(view), self._attributes(_fresh(view.key, source))
        if reason is None:
            return self._sessions.rotate(view, attributes, "new")
        entry = self._sessions.rotate(view, attributes, f"{reason}_reset")
        entry.was_auto_reset, entry.auto_reset_reason = True, reason
        entry.reset_had_activity = bool(
            before.total_tokens or before.last_prompt_tokens or self._transcripts.has_any(before.session_id)
        )
        return entry

    def _use(self, view: SessionView) -> SessionEntry:
        is_fresh_reset = view.attributes.get("is_fresh_reset", False)
        patch = {"is_fresh_reset": None} if is_fresh_reset else None  # reported once
        entry = self._sessions.entry(self.engine.touch(view.key, attributes=patch, session_id=view.session_id) or view)
        if is_fresh_reset:
            entry.is_fresh_reset = True
            entry.as_read = saved_fields(entry)
        return entry

    def update_session(self, session_key: str, last_prompt_tokens: int | None = None) -> None:
        """Note that a session was used. Where none is live, or it is suspended, nothing happens."""
        self._sessions.save_pending()
        patch = None if last_prompt_tokens is None else {"last_prompt_tokens": last_prompt_tokens}
        try:
            self.engine.touch(session_key, attributes=patch)
        except (*GONE, SessionSuspended, InvalidKey) as error:
            _logger.debug("nothing to update: %s", error)

    def reset_session(self, session_key: str, display_name: str | None = None) -> SessionEntry | None:
        """Begin a fresh session because the user asks for it; `None` where there is none to reset."""
        self._sessions.save_pending()

        def attempt() -> SessionEntry | None:
            view = self._sessions.get(session_key)
            if view is None:
                return None
            entry = _successor(view)
            entry.is_fresh_reset = True
            entry.display_name = entry.display_name if display_name is None else display_name
            return self._sessions.rotate(view, self._attributes(entry), "reset")

        return self._sessions.decide(session_key, attempt)

    def switch_session(self, session_key: str, target_session_id: str) -> SessionEntry | None:
        """Go on with another conversation under this key; `None` where no session is live under it.

        The engine's session is a new one, since an ended session never comes back; its transcript is the other's.
        Raises `InvalidEvent` for what can be no conversation's id.
        """
        check_conversation(target_session_id)
        self._sessions.save_pending()

        def attempt() -> SessionEntry | None:
            view = self._sessions.get(session_key)
            if view is None:
                return None
            if entry_of(view).session_id == target_session_id:
                return self._sessions.entry(view)
            attributes = self._attributes(_successor(view)) | {"conversation": target_session_id}
            return self._sessions.rotate(view, attributes, "switch")

        return self._sessions.decide(session_key, attempt)

    # ── suspending ──

    def suspend_session(self, session_key: str) -> bool:
        """Suspend a session: it is not pruned, and the user's next message begins a fresh one. Whether there was
        one."""
        self._sessions.save_pending()
        try:
            self.engine.suspend(session_key, reason="stopped")
        except AlreadyDone:
            return True
        except (*GONE, InvalidKey):
            return False
        return True

    def resume_session(self, session_key: str) -> bool:
        """Take a suspended session up again, as it was. Whether there was one. Not in the original."""
        self._sessions.save_pending()
        try:
            self.engine.resume(session_key)
        except (*GONE, AlreadyDone, InvalidKey):
            return False
        return True

    def mark_resume_pending(self, session_key: str, reason: str = "restart_timeout") -> bool:
        """Let the user's next message go on with this session, whatever the reset policy says. Whether there is one."""
        self._sessions.save_pending()
        marked_at = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC).isoformat()
        patch = {"resume_pending": True, "resume_reason": reason, "last_resume_marked_at": marked_at}
        return self._sessions.mark(session_key, lambda view: None if view.status is Status.SUSPENDED else patch)

    def clear_resume_pending(self, session_key: str) -> bool:
        """Take that mark back. Whether there was one."""
        self._sessions.save_pending()
        patch = {"resume_pending": None, "resume_reason": None, "last_resume_marked_at": None}
        return self._sessions.mark(
            session_key,
            lambda view: (
                patch if view.attributes.get("resume_pending") and view.status is not Status.SUSPENDED else None
            ),
        )

    def suspend_recently_active(self, max_age_seconds: float = 120) -> int:
        """Mark the sessions that were used so recently for resumption, after a crash; returns how many."""
        return sum(
            self.mark_resume_pending(each.session_key, "restart_interrupted")
            for each in self.list_sessions(active_minutes=max_age_seconds / 60)
            if not each.suspended and not each.resume_pending
        )

    # ── looking ──

    def list_sessions(self, active_minutes: float | None = None) -> list[SessionEntry]:
        """All sessions, or those used within so many minutes; the last used first."""
        self._sessions.save_pending()
        entries = [self._sessions.entry(view) for view in self._sessions.all()]
        if active_minutes is not None:
            since_ms = self.clock.now_ms() - active_minutes * MINUTE_MS
            entries = [each for each in entries if ms_of(each.updated_at) >= since_ms]
        return sorted(entries, key=lambda each: each.updated_at, reverse=True)

    def has_any_sessions(self) -> bool:
        """Whether there ever was a session before the present one, which has begun by the time of this call."""
        return int(self.engine.statistics()["created"]) > 1

    # ── ending and saving ──

    def prune_old_entries(self, max_age_days: float | None) -> int:
        """End the sessions that were not used for longer than so many days; returns how many. 0 or less: none.

        Suspended sessions are kept, and those that a background process works for; where that is unknown, too.
        """
        if max_age_days is None or not max_age_days > 0:
            return 0
        now_ms = self.clock.now_ms()
        self._sessions.save_pending()
        pruned = prune.prune(self._sessions, now_ms - max_age_days * DAY_MS, now_ms, SOURCE, self._is_busy)
        if pruned:
            _logger.info(_PRUNED, pruned, max_age_days)
        return pruned

    def save_entry(self, entry: SessionEntry) -> bool:
        """Save what the caller has changed in an entry. Whether its session lives, and took it; else nothing changes.

        What others have changed meanwhile stays. Saving does not count as activity. Not in the original.
        """
        return self._sessions.save(entry)

    def close(self) -> None:
        """Close the log, unless the engine was given. May be called again. Not in the original."""
        self._sessions.save_pending()
        if self._owns_engine:
            self.engine.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ── transcripts ──

    def get_transcript_path(self, session_id: str) -> Path:
        """Where a conversation's transcript is. Raises `InvalidEvent` for what can be no conversation's id."""
        return self._transcripts.path(session_id)

    def append_to_transcript(self, session_id: str, message: dict[str, Any], skip_db: bool = False) -> None:  # noqa: ARG002
        """Add a message to a transcript. `skip_db` means nothing here: there is one place."""
        self._transcripts.append(session_id, message)

    def rewrite_transcript(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Put these messages in the place of a transcript's, wholly or not at all. Raises `OSError`."""
        self._transcripts.rewrite(session_id, messages)

    def load_transcript(self, session_id: str) -> list[dict[str, Any]]:
        """The messages of a conversation, oldest first, whether its session lives or has ended."""
        return self._transcripts.load(session_id)

    # ── what gateways reach for inside ──

    @property
    def _entries(self) -> MutableMapping[str, SessionEntry]:
        """Live entries by key; what is put in, changed or removed there is so in the log."""
        return self._inside

    @_entries.setter
    def _entries(self, entries: Mapping[str, SessionEntry]) -> None:
        for key in [key for key in self._inside if key not in entries]:
            self._inside.pop(key, None)
        self._inside.update(entries)

    def _generate_session_key(self, source: SessionSource) -> str:
        return build_session_key(source, **self._sharing())

    def _sharing(self) -> dict[str, bool]:
        return {
            "group_sessions_per_user": getattr(self.config, "group_sessions_per_user", True),
            "thread_sessions_per_user": getattr(self.config, "thread_sessions_per_user", False),
        }

    def _attributes(self, entry: SessionEntry) -> dict[str, Any]:
        return attributes_of(entry, **self._sharing())

    def _is_busy(self, session_key: str) -> bool:
        if self._has_active_processes_fn is None:
            return False
        try:
            return bool(self._has_active_processes_fn(session_key))
        except Exception as error:  # it is the gateway's own, and may raise anything
            _logger.warning(
                "whether a process works for session %s is unknown (%r): it is kept", shown(session_key), error
            )
            return True

    def _should_reset(self, entry: SessionEntry, source: SessionSource) -> str | None:
        """Why the reset policy gives the source a fresh session instead of this one: `idle` or `daily`; or not."""
        policy = self.config.get_reset_policy(platform=source.platform, session_type=source.chat_type)
        reason = reset_reason(policy, ms_of(entry.updated_at), self.clock.now_ms())
        return None if reason is None or self._is_busy(self._generate_session_key(source)) else reason

    def _is_session_expired(self, entry: SessionEntry) -> bool:
        """Whether the user's next message would get a fresh session by the reset policy."""
        if entry.suspended:
            return False  # suspended on purpose
        policy = self.config.get_reset_policy(platform=entry.platform, session_type=entry.chat_type)
        is_over = reset_reason(policy, ms_of(entry.updated_at), self.clock.now_ms()) is not None
        return is_over and not self._is_busy(entry.session_key)

    def _save(self) -> None:
        """Save every entry that was changed since it was read: gateways change entries, then call this.

        A change is saved without it too, before the next call that reads or writes sessions.
        """
        self._sessions.save_changed()

    def _ensure_loaded(self) -> None:
        """There is nothing to load."""

    _ensure_loaded_locked = _ensure_loaded


_NEVER = datetime.fromtimestamp(0, UTC)
"""When an entry was made is said by the log."""


def _fresh(key: str, source: SessionSource) -> SessionEntry:
    return SessionEntry(
        key, "", _NEVER, _NEVER, origin=source, display_name=source.chat_name, platform=source.platform,
        chat_type=source.chat_type,
    )  # fmt: skip


def _successor(view: SessionView) -> SessionEntry:
    """The entry that follows on a session's own wish: from the same place, with nothing counted yet."""
    before = entry_of(view)
    return SessionEntry(
        view.key, "", _NEVER, _NEVER, origin=before.origin, display_name=before.display_name,
        platform=before.platform, chat_type=before.chat_type,
    )  # fmt: skip
