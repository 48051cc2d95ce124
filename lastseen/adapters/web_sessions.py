"""Sessions of a web site on an engine: a random token in a cookie, and in the log nothing that would open a session.

A token is `place.secret`, both random. The session's key is the SHA-256 of the place, and its attribute `secret` the
SHA-256 of the secret: who reads the log, a snapshot or a backup cannot make a cookie of it. `rotate` changes the
secret and begins another session under the same key in one record, so there is no moment with two valid tokens or
none, and a request that was under way with the old one cannot save any more.

What the site keeps stands in the attribute `data`, each value in a list of one: a merge patch then replaces values as
a whole, and requests that change different names do not undo each other's changes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from lastseen.embedded.engine import Engine
from lastseen.embedded.settings import policy
from lastseen.engine.errors import InvalidEvent, InvalidSetting, Refused, VersionConflict, shown
from lastseen.engine.session import SessionView

PLACE_BYTES, SECRET_BYTES = 16, 32
"""Random bytes of a token's parts. The secret alone is four times what the OWASP asks for (64 bits of entropy)."""
LONGEST_TOKEN = 128
LONGEST_USER = 256
ATTEMPTS = 8
"""How often a rotation is begun anew when the session changes meanwhile."""
_logger = logging.getLogger("lastseen")


class WebSession(MutableMapping[str, Any]):
    """What a site keeps for one visitor: a mapping from names to JSON values, and whose session it is.

    Nothing is written before the answer goes out; `WebSessions.save` then writes what has changed, values that were
    changed inside included.
    """

    def __init__(self, view: SessionView | None = None) -> None:
        kept = {} if view is None else dict(view.attributes.get("data") or {})
        self._values: dict[str, Any] = {name: json.loads(json.dumps(held[0])) for name, held in kept.items()}
        self._before = {name: _text(name, value) for name, value in self._values.items()}
        self.view = view
        """The session as it was when the request came; `None` for a visitor without one."""
        self._user = None if view is None else view.owner
        self.is_rotated = False
        self.is_ended = False
        self.has_logged_in = False
        """Whether this request has proved who the visitor is."""

    @property
    def is_new(self) -> bool:
        """Whether the visitor came without a session."""
        return self.view is None

    @property
    def user(self) -> str | None:
        """Who has logged in."""
        return self._user

    def login(self, user: str) -> None:
        """From now on it is this user's. The token changes: one that was planted before the login opens nothing.

        What was kept for another user is not handed on: it is as if that one had logged out first.
        """
        if not isinstance(user, str) or not 1 <= len(user) <= LONGEST_USER:
            raise InvalidSetting(f"user = {shown(user)}: give text of 1 to {LONGEST_USER} characters")
        if self._user not in (None, user):
            self.logout()
        self._user = user
        self.has_logged_in = True
        self.rotate()

    def logout(self) -> None:
        """End it. What is set afterwards is a new session's."""
        self.clear()
        self._before.clear()
        self._user = None
        self.is_ended = True

    def rotate(self) -> None:
        """Change the token, as after every change of what the visitor may do."""
        self.is_rotated = True

    def changes(self) -> dict[str, Any]:
        """A merge patch of what has changed. Raises `InvalidEvent` for what is no JSON."""
        after = {name: _text(name, value) for name, value in self._values.items()}
        changed: dict[str, Any] = {
            name: [json.loads(text)] for name, text in after.items() if self._before.get(name) != text
        }
        return changed | {name: None for name in self._before if name not in after}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class WebSessions:
    """The sessions of a site. Safe to use from many threads."""

    def __init__(
        self,
        engine: Engine,
        *,
        idle_ttl: int | str = "30m",
        max_age: int | str | None = "12h",
        touch_precision: int | str | None = "1m",
        prefix: str = "web:",
    ) -> None:
        """`idle_ttl` ends a session so long after its last request, `max_age` so long after its last login or rotation.

        A request within `touch_precision` of the last one writes nothing, and the idle limit allows as much more; give
        `None` to have every request in the log. Raises `InvalidSetting`.
        """
        self.engine = engine
        self.prefix = prefix
        self._policy = policy(idle_ttl=idle_ttl, max_age=max_age, touch_precision=touch_precision, max_messages=1)

    def find(self, token: str | None) -> WebSession:
        """The session that a token opens; an empty one, which nothing is written of, where it opens none."""
        place, _, secret = (token or "").partition(".")
        if not place or not secret or len(token or "") > LONGEST_TOKEN or not (token or "").isascii():
            return WebSession()
        view = self.engine.get(self._key(place))
        if view is None or not hmac.compare_digest(str(view.attributes.get("secret")), _hash(secret)):
            return WebSession()
        return WebSession(view)

    def save(self, session: WebSession, token: str | None) -> str | None:
        """Write what a request has changed, and that it came. Returns the token that the visitor is to have from now
        on; `None` if none.

        What was ended meanwhile stays ended: then nothing is written. Raises `LogError`, `InvalidEvent` for values that
        are no JSON or take too much room, and `VersionConflict` where others change it all the time.
        """
        view = session.view
        if session.is_ended:
            self._end(view)
        if session.is_ended or view is None:
            return self._begin(session) if session or session.user is not None else None
        try:
            if session.is_rotated:
                return self._rotate(session, view, token or "")
            changes = session.changes()
            if changes:
                self.engine.update(view.key, {"data": changes}, session_id=view.session_id)
            else:
                self.engine.touch(view.key, session_id=view.session_id, wait="none")
        except VersionConflict:
            raise
        except Refused as refusal:
            # No cookie is taken away: the visitor may have another one by now.
            _logger.info("a web session had ended before it was saved: %s", type(refusal).__name__)
        return token

    def _begin(self, session: WebSession) -> str:
        place = secrets.token_urlsafe(PLACE_BYTES)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        self.engine.create(self._key(place), attributes=_attributes(session, secret, {}), policy=self._policy)
        return f"{place}.{secret}"

    def _rotate(self, session: WebSession, view: SessionView, token: str) -> str | None:
        place, secret = token.partition(".")[0], secrets.token_urlsafe(SECRET_BYTES)
        for _ in range(ATTEMPTS):
            # What another request has saved meanwhile is carried over too.
            now = self.engine.get(view.key)
            if now is None or now.session_id != view.session_id:
                return self._begin(session) if session.has_logged_in else token
            attributes = _attributes(session, secret, now.attributes.get("data") or {})
            try:
                self.engine.rotate(
                    view.key, attributes=attributes, policy=self._policy, session_id=view.session_id,
                    if_version=now.version,
                )  # fmt: skip
            except VersionConflict:
                continue
            return f"{place}.{secret}"
        raise VersionConflict(f"a web session changed {ATTEMPTS} times while its token was being changed; try again")

    def sessions_of(self, user: str) -> list[SessionView]:
        """The live sessions of a user."""
        found: list[SessionView] = []
        cursor = None
        while True:
            page = self.engine.list(sort="created", owner=user, prefix=self.prefix, limit=1_000, cursor=cursor)
            found += page.sessions
            cursor = page.cursor
            if cursor is None:
                return found

    def end_all(self, user: str, *, reason: str = "logout", but: WebSession | None = None) -> int:
        """Log a user out everywhere, or everywhere but here; returns how many sessions were ended."""
        spared = None if but is None or but.view is None else but.view.session_id
        return sum(self._end(view, reason) for view in self.sessions_of(user) if view.session_id != spared)

    def _end(self, view: SessionView | None, reason: str = "logout") -> bool:
        if view is None:
            return False
        try:
            self.engine.close(view.key, reason=reason, session_id=view.session_id)
        except Refused:
            return False  # it has ended already
        return True

    def _key(self, place: str) -> str:
        return self.prefix + _hash(place)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _attributes(session: WebSession, secret: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(stored) | session.changes()
    attributes: dict[str, Any] = {
        "secret": _hash(secret),
        "data": {name: held for name, held in merged.items() if held is not None},
    }
    return attributes if session.user is None else attributes | {"owner": session.user}


def _text(name: object, value: Any) -> str:
    """A value as JSON, so that changes inside it are seen."""
    if not isinstance(name, str):
        raise InvalidEvent(f"session[{shown(name)}]: give names that are text")
    try:
        return json.dumps(value, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"session[{shown(name)}] is no JSON value: {error}; keep text, numbers, lists") from None
