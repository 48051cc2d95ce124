"""A gateway's session entry: what the gateway knows of a session, read from the engine's session and its attributes.

Two ids meet here. The engine's session is one life under a key: it begins, and it ends permanently. The entry's
`session_id` names the *conversation*, whose transcript it is. They are the same, unless a conversation was switched to,
continued after a compression, or brought from the old store; then the attribute `conversation` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

from lastseen.compat.gateway.platform import Platform, platform_name
from lastseen.compat.gateway.source import SessionSource, is_shared_multi_user_session, participant_of
from lastseen.compat.gateway.surrogates import restored, storable
from lastseen.compat.gateway.times import ms_of, time_of, utc
from lastseen.compat.gateway.transcripts import check_conversation
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.session import SessionView, Status

DEFAULTS: dict[str, Any] = {
    "display_name": None,
    "chat_type": "dm",
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "total_tokens": 0,
    "last_prompt_tokens": 0,
    "estimated_cost_usd": 0.0,
    "cost_status": "unknown",
    "is_fresh_reset": False,
    "expiry_finalized": False,
    "resume_pending": False,
    "resume_reason": None,
}
"""The fields that are kept as attributes of their names; a default is not written."""
_TIMES = ("created_at", "updated_at", "last_resume_marked_at")


@dataclass
class SessionEntry:
    """A session of the gateway, as it was when it was read. Times are UTC, and say so."""

    session_key: str
    session_id: str
    """The conversation: the name of its transcript."""
    created_at: datetime
    updated_at: datetime
    origin: SessionSource | None = None
    display_name: str | None = None
    platform: Platform | None = None
    chat_type: str = "dm"
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    total_tokens: int = 0
    estimated_cost_usd: float = 0.0
    cost_status: str = "unknown"
    last_prompt_tokens: int = 0
    was_auto_reset: bool = False
    """Whether it took the place of one that the reset policy, or a suspension, ended: on the call that made it only."""
    auto_reset_reason: str | None = None
    """`idle`, `daily` or `suspended`."""
    reset_had_activity: bool = False
    is_fresh_reset: bool = False
    """Whether the user asked for it: until the first `get_or_create_session` has said so."""
    expiry_finalized: bool = False
    suspended: bool = False
    resume_pending: bool = False
    resume_reason: str | None = None
    last_resume_marked_at: datetime | None = None
    life: str | None = field(default=None, repr=False, compare=False)
    """The engine's session that this was read from."""
    as_read: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    """`saved_fields` when it was read: what differs is what the caller has changed."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; the store saves each change that can be saved, even if the caller drops the entry."""
        object.__setattr__(self, name, value)
        if name in _CAN_CHANGE and (on_change := self.__dict__.get("on_change")) is not None:
            on_change(self)

    def report_changes_to(self, on_change: Callable[[SessionEntry], None]) -> None:
        """From here on, call this with the entry whenever a field is set that can be saved."""
        self.__dict__["on_change"] = on_change

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: it is its holder's own, and nothing that is changed in it is saved."""
        return {name: value for name, value in self.__dict__.items() if name != "on_change"}

    def to_dict(self) -> dict[str, Any]:
        """The entry as sessions.json has it, with times in UTC."""
        plain: dict[str, Any] = {
            "session_key": self.session_key,
            "session_id": self.session_id,
            "platform": None if self.platform is None else platform_name(self.platform),
            "suspended": self.suspended,
        }
        plain |= {name: getattr(self, name) for name in DEFAULTS}
        plain |= {name: None if (at := getattr(self, name)) is None else at.isoformat() for name in _TIMES}
        return plain if self.origin is None else plain | {"origin": self.origin.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], zone: tzinfo | None = None) -> Self:
        """The entry that `to_dict` wrote, or sessions.json has. A time without an offset is `zone`'s, or local.

        Raises `KeyError` for what is missing and `ValueError` for an unknown platform of the origin or a bad time.
        """
        fields = {name: data[name] for name in DEFAULTS if name in data}
        fields.setdefault("expiry_finalized", data.get("memory_flushed", False))
        marked_at = data.get("last_resume_marked_at")
        return cls(
            session_key=data["session_key"],
            session_id=data["session_id"],
            created_at=utc(data["created_at"], zone),
            updated_at=utc(data["updated_at"], zone),
            origin=SessionSource.from_dict(data["origin"]) if data.get("origin") else None,
            platform=_known_platform(data.get("platform")),
            suspended=data.get("suspended", False),
            last_resume_marked_at=utc(marked_at, zone) if marked_at else None,
            **fields,
        )


def _known_platform(name: Any) -> Platform | None:
    try:
        return Platform(name) if name else None
    except ValueError:
        return None


def saved_fields(entry: SessionEntry) -> tuple[Any, ...]:
    """What of an entry can be saved, in the order of `SAVED`."""
    return tuple(getattr(entry, name) for name in SAVED)


SAVED = (*DEFAULTS, "session_id", "origin", "platform", "last_resume_marked_at", "updated_at", "suspended")
_CAN_CHANGE = frozenset(SAVED)


def attributes_of(
    entry: SessionEntry, *, group_sessions_per_user: bool = True, thread_sessions_per_user: bool = False
) -> dict[str, Any]:
    """The attributes of a session that begins with this entry. `owner` is its user, unless several share it."""
    attributes = {name: value for name, default in DEFAULTS.items() if (value := getattr(entry, name)) != default}
    if entry.platform is not None:
        attributes["platform"] = platform_name(entry.platform)
    if entry.last_resume_marked_at is not None:
        attributes["last_resume_marked_at"] = iso_from_ms(ms_of(entry.last_resume_marked_at))
    origin = entry.origin
    if origin is not None:
        attributes["origin"] = {name: value for name, value in origin.to_dict().items() if value is not None}
        is_shared = is_shared_multi_user_session(
            origin,
            group_sessions_per_user=group_sessions_per_user,
            thread_sessions_per_user=thread_sessions_per_user,
        )
        participant = None if is_shared else participant_of(origin)
        if participant is not None:
            attributes["owner"] = f"{platform_name(origin.platform)}:{participant}"
    stored: dict[str, Any] = storable(attributes)
    return stored


def patch_of(entry: SessionEntry) -> dict[str, Any]:
    """A merge patch of what the caller has changed since the entry was read, but for `suspended` and `updated_at`."""
    patch: dict[str, Any] = {}
    for name, now, before in zip(SAVED, saved_fields(entry), entry.as_read, strict=True):
        if now == before or name in ("suspended", "updated_at"):
            continue
        if name == "session_id":
            patch["conversation"] = None if now == entry.life else now
        elif name == "origin":
            patch["origin"] = None if now is None else now.to_dict()
        elif name == "platform":
            patch["platform"] = None if now is None else platform_name(now)
        elif name == "last_resume_marked_at":
            patch[name] = None if now is None else iso_from_ms(ms_of(now))
        else:
            patch[name] = None if now == DEFAULTS[name] else now
    stored: dict[str, Any] = storable(patch)
    return stored


def quiet(view: SessionView, at_ms: int | None = None) -> dict[str, Any]:
    """Attributes that keep the next record, if it comes at this very version, from counting as activity of the user.

    The session was last used at `at_ms` then, or when it was before.
    """
    return {"quiet": [view.version + 1, updated_ms(view) if at_ms is None else at_ms]}


def attributes_at(entry: Any) -> dict[str, Any]:
    """Attributes of a session that begins with an entry's conversation, and with its times."""
    check_conversation(entry.session_id)
    return {
        "conversation": entry.session_id,
        "created_at_ms": ms_of(entry.created_at),
        "quiet": [1, ms_of(entry.updated_at)],
    }


def updated_ms(view: SessionView) -> int:
    """When the session was last used, in milliseconds: a record that only marked it does not count."""
    at_version, at_ms = view.attributes.get("quiet") or (0, 0)
    # Nothing but a suspension can lie between a mark and a suspended session one version on.
    reached = at_version + (view.status is Status.SUSPENDED)
    return int(at_ms) if view.version in (at_version, reached) else view.last_active_at_ms


def entry_of(view: SessionView) -> SessionEntry:
    """The entry of a session. Attributes that others have written, and that make no sense here, are passed over."""
    attributes = restored(dict(view.attributes))
    marked_at = attributes.get("last_resume_marked_at")
    entry = SessionEntry(
        session_key=view.key,
        session_id=attributes.get("conversation", view.session_id),
        created_at=time_of(attributes.get("created_at_ms", view.created_at_ms)),
        updated_at=time_of(updated_ms(view)),
        origin=_origin_in(attributes),
        platform=_known_platform(attributes.get("platform")),
        suspended=view.status is Status.SUSPENDED,
        last_resume_marked_at=utc(marked_at) if marked_at else None,
        life=view.session_id,
        **{name: attributes[name] for name in DEFAULTS if name in attributes},
    )
    entry.as_read = saved_fields(entry)
    return entry


def _origin_in(attributes: Mapping[str, Any]) -> SessionSource | None:
    try:
        return SessionSource.from_dict(attributes["origin"])
    except (KeyError, ValueError, TypeError):
        return None  # of a platform whose plugin is not here, say


_NEVER = datetime.fromtimestamp(0, UTC)
"""When an entry was made is said by the log."""


def fresh_entry(key: str, source: Any) -> SessionEntry:
    """The entry of a session that begins with a message from this source."""
    return SessionEntry(
        key, "", _NEVER, _NEVER, origin=source, display_name=source.chat_name, platform=source.platform,
        chat_type=source.chat_type,
    )  # fmt: skip


def successor_of(view: SessionView) -> SessionEntry:
    """The entry that follows on a session's own wish: from the same place, with nothing counted yet."""
    before = entry_of(view)
    return SessionEntry(
        view.key, "", _NEVER, _NEVER, origin=before.origin, display_name=before.display_name,
        platform=before.platform, chat_type=before.chat_type,
    )  # fmt: skip
