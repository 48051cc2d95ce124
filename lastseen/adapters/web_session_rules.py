"""The rules of web sessions: what is read and written when a session is found, saved, undone, listed and ended.

They do no input or output. Each is a generator that yields the calls which it wants made of an engine, and is sent
their results, so the same rules serve a waiting and an asynchronous engine, and a client of a service.

`save` rotates in one record: it ends the old session and begins another under the same key, so there is no moment with
two valid tokens or none, and a request that was in progress with the old token cannot save any more. What the site
keeps stands in the attribute `data`, each value in a list of one: a merge patch then replaces values as a whole, and
requests that change different names do not undo each other's changes."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

from lastseen.adapters import web_tokens
from lastseen.adapters.web_session import View, WebSession, attributes_of, check_user
from lastseen.adapters.web_tokens import Token
from lastseen.embedded.settings import policy
from lastseen.engine.arguments import wanted_text
from lastseen.engine.errors import Refused, SessionEnded, SessionNotFound, StaleSession, VersionConflict
from lastseen.engine.session import Policy

ATTEMPTS = 8
"""How often a rotation is retried when the session changes meanwhile."""
LONGEST_COOKIE_S = 400 * 24 * 3_600
"""What browsers cut the life of a cookie to (RFC 6265bis, 5.5)."""
_PAGE = 1_000
_AT_ONCE = 5_000
_CHANGED = (VersionConflict, StaleSession, SessionEnded, SessionNotFound)
"""What a rotation meets where another request has saved, rotated or ended the session since it was read."""
_logger = logging.getLogger("lastseen")


class Call(NamedTuple):
    """A method of the engine, and its arguments."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


T = TypeVar("T")
Steps = Generator[Call, Any, T]


def call(method: str, *arguments: Any, **options: Any) -> Call:
    """The call of a method."""
    return Call(method, arguments, options)


class WebSessionRules:
    """The rules under one site's settings."""

    def __init__(
        self,
        *,
        idle_ttl: int | str,
        max_age: int | str | None,
        touch_precision: int | str | None,
        remember_idle_ttl: int | str,
        remember_max_age: int | str | None,
        grace: int | str | None,
        prefix: str,
    ) -> None:
        """Raises `InvalidSetting`. An empty prefix is refused: `end_all` would end sessions of other kinds, too."""
        wanted_text("prefix", prefix)
        self.prefix = prefix
        options: dict[str, Any] = {"touch_precision": touch_precision, "max_messages": 1}
        self._policies = {
            False: policy(idle_ttl=idle_ttl, max_age=max_age, **options),
            True: policy(idle_ttl=remember_idle_ttl, max_age=remember_max_age, **options),
        }
        self._grace_ms = policy(idle_ttl=grace).idle_ttl_ms or 0

    def cookie_age_s(self, session: WebSession) -> int | None:
        """How long the browser is to keep the cookie of a saved session; `None`: until it is closed."""
        if not session.is_persistent:
            return None
        max_age_ms = self._policy_of(session).max_age_ms
        return LONGEST_COOKIE_S if max_age_ms is None else min(max_age_ms // 1_000, LONGEST_COOKIE_S)

    def find(self, token: str | None, now_ms: int) -> Steps[tuple[View, str | None] | None]:
        """The session that a token opens, and the token that the visitor should have, where that is another one."""
        parts = web_tokens.parse(token)
        if parts is None:
            return None
        view: View | None = yield call("get", self._key(parts.place))
        if view is None:
            return None
        if web_tokens.is_secret(parts.secret, view.attributes.get("secret")):
            return view, None
        grace = view.attributes.get("grace")
        if (
            isinstance(grace, dict)
            and web_tokens.is_secret(parts.secret, grace.get("secret"))
            and now_ms < view.created_at_ms + self._grace_ms
        ):
            return view, str(Token(parts.place, web_tokens.successor(parts.secret, str(grace.get("salt")))))
        return None

    def save(self, session: WebSession, token: str | None) -> Steps[str | None]:
        """Write what a request has changed, and that it came; the token that the visitor is to have from now on."""
        token = session.renewed or token
        is_late = session.has_begun_response
        if session.is_ended:
            yield from self._end(session)
            token = None
        if session.view is not None:
            if session.is_rotated:
                token = yield from self._rotate(session, session.view, token or "")
            else:
                yield from self._update(session, session.view, is_late)
        elif session or session.user is not None:
            if is_late:
                _logger.warning("a web session that began after its response had is not saved: it has no cookie")
            else:
                token = yield from self._begin(session)
        else:
            token = None
        session.mark_saved()
        return token

    def undo(self, session: WebSession) -> Steps[None]:
        """Take back a new token that the visitor did not receive: the one that they have opens their session again."""
        before, written = session.came_as, session.view
        if written is None or (before is not None and before.session_id == written.session_id):
            return
        try:
            if before is not None and before.key == written.key:
                attributes = dict(before.attributes)
                session.view = yield call(
                    "rotate", before.key, reason="undone", attributes=attributes, session_id=written.session_id,
                    policy=self._policies[attributes.get("remember") is True],
                )  # fmt: skip
            else:
                yield call("close", written.key, reason="undone", session_id=written.session_id)
                session.view = None
        except Refused:
            return  # it has ended or changed by now, so its token was received after all

    def sessions_of(self, user: str) -> Steps[list[View]]:
        """The live sessions of a user."""
        check_user(user)
        found: list[View] = []
        cursor = None
        while True:
            page = yield call("list", sort="created", owner=user, prefix=self.prefix, limit=_PAGE, cursor=cursor)
            found += page.sessions
            cursor = page.cursor
            if cursor is None:
                return found

    def end_all(self, user: str, reason: str, but: WebSession | None) -> Steps[int]:
        """End the sessions of a user, in appends of up to 1,000; how many ended."""
        spared = None if but is None or but.view is None else but.view.session_id
        views = yield from self.sessions_of(user)
        wanted = [(view.key, view.session_id) for view in views if view.session_id != spared]
        ended = 0
        for start in range(0, len(wanted), _AT_ONCE):
            results = yield call("close_many", wanted[start : start + _AT_ONCE], reason=reason)
            ended += sum(result is None for result in results)
        return ended

    def is_live(self, session: WebSession) -> Steps[bool]:
        """Whether the session has not ended since, and is the same user's."""
        if session.view is None:
            return False
        now: View | None = yield call("get", session.view.key)
        return now is not None and now.owner == session.user

    def _begin(self, session: WebSession) -> Steps[str]:
        token = web_tokens.new_token()
        session.view = yield call(
            "create", self._key(token.place), attributes=attributes_of(session, web_tokens.hashed(token.secret), {}),
            policy=self._policy_of(session),
        )  # fmt: skip
        return str(token)

    def _rotate(self, session: WebSession, view: View, token: str) -> Steps[str]:
        old = web_tokens.parse(token) or Token("", "")
        secret, grace = web_tokens.new_secret(), None
        if self._grace_ms and not session.has_logged_in:  # a token that was planted must not survive a login
            salt = web_tokens.new_secret()
            secret = web_tokens.successor(old.secret, salt)
            grace = {"secret": web_tokens.hashed(old.secret), "salt": salt}
        for _ in range(ATTEMPTS):
            # What another request has saved meanwhile is carried over too.
            now: View | None = yield call("get", view.key)
            if now is None or now.session_id != view.session_id:
                return (yield from self._begin(session)) if session.has_logged_in else token
            attributes = attributes_of(session, web_tokens.hashed(secret), now.attributes.get("data") or {})
            if grace is not None:
                attributes["grace"] = grace
            try:
                session.view = yield call(
                    "rotate", view.key, attributes=attributes, policy=self._policy_of(session),
                    session_id=view.session_id, if_version=now.version,
                )  # fmt: skip
            except _CHANGED:
                continue
            return str(Token(old.place, secret))
        raise VersionConflict(f"a web session changed {ATTEMPTS} times while its token was being changed; try again")

    def _update(self, session: WebSession, view: View, is_late: bool) -> Steps[None]:
        changes = session.changes()
        try:
            if changes:
                yield call("update", view.key, {"data": changes}, session_id=view.session_id)
            elif not is_late:
                yield call("touch", view.key, session_id=view.session_id, wait="none")
        except VersionConflict:
            raise
        except Refused as refusal:
            # No cookie is taken away: the visitor may have another one by now.
            _logger.info("a web session had ended before it was saved: %s", type(refusal).__name__)

    def _end(self, session: WebSession) -> Steps[None]:
        view, session.view = session.view, None
        if view is None:
            return
        try:
            yield call("close", view.key, reason="logout", session_id=view.session_id)
        except Refused:
            return  # it has ended already

    def _policy_of(self, session: WebSession) -> Policy:
        return self._policies[session.is_persistent]

    def _key(self, place: str) -> str:
        return self.prefix + web_tokens.hashed(place)
