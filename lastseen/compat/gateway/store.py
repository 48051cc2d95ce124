"""The gateway's session store, on the engine: the familiar calls, each of which is one record of the log.

Nothing is kept here: every answer is read from the engine, and says what was so at that moment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from lastseen.compat.gateway import prune
from lastseen.compat.gateway.config import DAY_MS, MINUTE_MS, policy_of
from lastseen.compat.gateway.conversations import Conversations, SessionDb, gateways_own_db
from lastseen.compat.gateway.entries import Entries
from lastseen.compat.gateway.entry import (
    SessionEntry,
    attributes_of,
    entry_of,
    fresh_entry,
    saved_fields,
    successor_of,
    updated_ms,
)
from lastseen.compat.gateway.moving_in import SOURCE, open_moved_in
from lastseen.compat.gateway.reset import reset_reason
from lastseen.compat.gateway.sessions import GONE, Sessions
from lastseen.compat.gateway.sessions_json import FILE_NAME, SessionsJson
from lastseen.compat.gateway.source import PREFIX, SessionSource, build_session_key
from lastseen.compat.gateway.times import ms_of
from lastseen.compat.gateway.transcripts import Transcripts, check_conversation
from lastseen.embedded.engine import Engine
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import AlreadyDone, InvalidKey, LogMismatch, SessionSuspended
from lastseen.engine.session import SessionView, Status

_logger = logging.getLogger("lastseen")
_PRUNED = "pruned %d sessions that were not used for longer than %g days"


class SessionStore:
    """The gateway's sessions. Safe to call from many threads, and from many processes on one log.

    `sessions_dir` holds the transcripts and, unless `engine` or `url` names another, the log. Where that folder has the
    old store's `sessions.json` and no log yet, the sessions in it are brought over first.
    `has_active_processes_fn(session_key)` says whether a background process works for a session. `session_db` is the
    gateway's `state.db`, which has transcripts too: by default that of the gateway in this process, and none if False.
    `sessions_json` says whether the sessions are written to that file, for the parts of the gateway that read it.
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
        session_db: SessionDb | Literal[False] | None = None,
        sessions_json: bool = True,
    ) -> None:
        self.sessions_dir = Path(sessions_dir).absolute()  # a later chdir moves nothing
        self.config = config
        self._has_active_processes_fn = has_active_processes_fn
        self.clock = clock or SystemClock()
        """What tells when a session was idle for too long. With an `engine` of one's own, give the same to both."""
        self.sessions_dir.mkdir(parents=True, exist_ok=True)
        self._conversations = Conversations(
            Transcripts(self.sessions_dir), gateways_own_db() if session_db is None else session_db or None
        )
        self._file: SessionsJson | None = None
        self._owns_engine = engine is None
        self.engine = open_moved_in(self.sessions_dir, url, config, self.clock) if engine is None else engine
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
        if sessions_json:
            self._file = SessionsJson(self.sessions_dir / FILE_NAME, self._saved, self._version)

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
                return self._begun(self._sessions.create(key, self._attributes(fresh_entry(key, source))))
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
        before, attributes = entry_of(view), self._attributes(fresh_entry(view.key, source))
        if reason is None:
            # The old store leaves the conversation open in state.db then; it has as little to come as any other.
            return self._begun(self._sessions.rotate(view, attributes, "new"), before)
        entry = self._begun(self._sessions.rotate(view, attributes, f"{reason}_reset"), before)
        entry.was_auto_reset, entry.auto_reset_reason = True, reason
        entry.reset_had_activity = bool(
            before.total_tokens or before.last_prompt_tokens or self._conversations.has_any(before.session_id)
        )
        return entry

    def _begun(self, entry: SessionEntry, before: SessionEntry | None = None) -> SessionEntry:
        """Say in `state.db` that a conversation has begun, in the place of one that has ended."""
        if before is not None:
            self._conversations.ended(before.session_id, "session_reset")
        self._conversations.begun(entry)
        self._request_write()
        return entry

    def _request_write(self) -> None:
        if self._file is not None:
            self._file.request_write()

    def _saved(self) -> Iterable[SessionEntry]:
        return map(entry_of, self._sessions.all())

    def _version(self) -> object:
        """Differs after each record of the log. Raises `EngineClosed`."""
        self.engine.get(PREFIX)
        return [self.engine.reached(number) for number in range(self.engine.partition_count)]

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
            entry = successor_of(view)
            entry.is_fresh_reset = True
            entry.display_name = entry.display_name if display_name is None else display_name
            return self._begun(self._sessions.rotate(view, self._attributes(entry), "reset"), entry_of(view))

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
            before = entry_of(view)
            if before.session_id == target_session_id:
                return self._sessions.entry(view)
            attributes = self._attributes(successor_of(view)) | {"conversation": target_session_id}
            entry = self._sessions.rotate(view, attributes, "switch")
            self._conversations.ended(before.session_id, "session_switch")
            self._conversations.reopened(target_session_id)
            self._request_write()
            return entry

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
        if self._file is not None:
            self._file.close()
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
        return self._conversations.path(session_id)

    def append_to_transcript(self, session_id: str, message: dict[str, Any], skip_db: bool = False) -> None:
        """Add a message to a transcript. `skip_db` says that the agent has written it to `state.db` by itself."""
        self._conversations.append(session_id, message, skip_db=skip_db)

    def rewrite_transcript(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Put these messages in the place of a transcript's, wholly or not at all. Raises `OSError`."""
        self._conversations.rewrite(session_id, messages)

    def load_transcript(self, session_id: str) -> list[dict[str, Any]]:
        """The messages of a conversation, oldest first, whether its session lives or has ended."""
        return self._conversations.load(session_id)

    # ── what gateways reach for inside ──

    @property
    def _db(self) -> SessionDb | None:
        """The gateway's `state.db`; gateways close it when they stop, and their tests do without."""
        return self._conversations.db

    @_db.setter
    def _db(self, db: SessionDb | None) -> None:
        self._conversations.db = db

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
        return prune.is_busy(self._has_active_processes_fn, session_key)

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
        self._request_write()

    def _ensure_loaded(self) -> None:
        """There is nothing to load."""

    _ensure_loaded_locked = _ensure_loaded
