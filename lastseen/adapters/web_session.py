"""`WebSession`: what a site keeps for one visitor during one request."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from lastseen.api.responses import Session
from lastseen.engine.errors import InvalidEvent, InvalidSetting, shown
from lastseen.engine.session import SessionView

LONGEST_USER = 256
_logger = logging.getLogger("lastseen")
View = SessionView | Session
"""A session as an engine or a client shows it."""


class WebSession(MutableMapping[str, Any]):
    """What a site keeps for one visitor: a mapping from names to JSON values, and whose session it is.

    Nothing is written before the response begins; `WebSessions.save` then writes what has changed, values that were
    changed inside included.
    """

    def __init__(self, view: View | None = None, renewed: str | None = None) -> None:
        stored = {} if view is None else dict(view.attributes.get("data") or {})
        self._values: dict[str, Any] = {name: json.loads(json.dumps(held[0])) for name, held in stored.items()}
        self._before = {name: _text(name, value) for name, value in self._values.items()}
        self.came_as = view
        """The session as it was when the request came; `None` for a visitor without one."""
        self.view = view
        """The session as it was last read, or written by `save`."""
        self.renewed = renewed
        """The token that the visitor should have by now, where the request came with the one before it."""
        self._user = None if view is None else view.owner
        self._is_persistent = view is not None and view.attributes.get("remember") is True
        self.is_rotated = False
        self.is_ended = False
        self.has_logged_in = False
        """Whether this request has proved who the visitor is."""
        self.has_begun_response = False
        """Whether the headers have been sent: the visitor's token can no longer change."""

    @property
    def is_new(self) -> bool:
        """Whether the visitor came without a session."""
        return self.came_as is None

    @property
    def user(self) -> str | None:
        """The user who has logged in, as of the beginning of the request; `WebSessions.is_live` looks again."""
        return self._user

    @property
    def is_persistent(self) -> bool:
        """Whether the cookie outlives the browser's window ("remember me"), with the limits for that."""
        return self._is_persistent

    def login(self, user: str, *, remember: bool | None = None) -> None:
        """From now on it is this user's session. The token changes: one planted before the login opens nothing.

        What was kept for another user is not handed on: it is as if that one had logged out first. `remember` makes the
        cookie persistent, or not; `None` leaves it as it is. Raises `InvalidSetting` for what is no user's name, and
        `InvalidEvent` once the response has begun.
        """
        check_user(user)
        self._check_token_can_change("login")
        if self._user not in (None, user):
            self.logout()
        self._user = user
        self.has_logged_in = True
        if remember is not None:
            self._is_persistent = remember
        self.rotate()

    def logout(self) -> None:
        """End it. What is set afterwards is a new session's."""
        self.clear()
        self._before.clear()
        self._user = None
        self._is_persistent = False
        self.is_ended = True

    def rotate(self) -> None:
        """Change the token, as after every change of what the visitor may do.

        Raises `InvalidEvent` once the response has begun.
        """
        self._check_token_can_change("rotate")
        self.is_rotated = True

    def persist(self, is_persistent: bool = True) -> None:
        """Make the cookie persistent, or not; the token changes. Raises `InvalidEvent` once the response has begun."""
        if is_persistent != self._is_persistent:
            self.rotate()
            self._is_persistent = is_persistent

    def changes(self) -> dict[str, Any]:
        """A merge patch of what has changed. Raises `InvalidEvent` for what is no JSON."""
        after = {name: _text(name, value) for name, value in self._values.items()}
        changed: dict[str, Any] = {
            name: [json.loads(text)] for name, text in after.items() if self._before.get(name) != text
        }
        return changed | {name: None for name in self._before if name not in after}

    def mark_saved(self) -> None:
        """Take what it holds now as saved: `changes` then tells what changes after this. Raises `InvalidEvent`."""
        self._before = {name: _text(name, value) for name, value in self._values.items()}
        self.is_rotated = self.is_ended = self.has_logged_in = False

    def drop_rotation(self) -> None:
        """Give up a login or another change of the token, where the response cannot carry the new one."""
        if not self.is_rotated:
            return
        self.is_rotated = self.has_logged_in = False
        if self.view is not None:
            self._user = self.view.owner
        _logger.warning(
            "a web session's new token is not saved: the websocket was refused without a response to carry it"
        )

    def _check_token_can_change(self, method: str) -> None:
        if self.has_begun_response:
            raise InvalidEvent(
                f"session.{method}: the response has begun, so the visitor can receive no other token; call it before"
                " the first byte is sent"
            )

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


def check_user(user: object) -> str:
    """A user's name. Raises `InvalidSetting` for all else: `None` is a visitor who has not logged in, not all users."""
    if not isinstance(user, str) or not 1 <= len(user) <= LONGEST_USER:
        raise InvalidSetting(f"user = {shown(user)}: give text of 1 to {LONGEST_USER} characters")
    return user


def attributes_of(session: WebSession, secret_hash: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the session that is to hold what `session` holds; `stored` is the data that it goes over."""
    merged = dict(stored) | session.changes()
    attributes: dict[str, Any] = {
        "secret": secret_hash,
        "data": {name: held for name, held in merged.items() if held is not None},
    }
    if session.user is not None:
        attributes["owner"] = session.user
    if session.is_persistent:
        attributes["remember"] = True
    return attributes


def _text(name: object, value: Any) -> str:
    """A value as JSON, so that changes inside it are seen."""
    if not isinstance(name, str):
        raise InvalidEvent(f"session[{shown(name)}]: give names that are text")
    try:
        return json.dumps(value, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"session[{shown(name)}] is no JSON value: {error}; keep text, numbers, lists") from None
