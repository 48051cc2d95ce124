"""`FlaskSessions`: web sessions as Flask's own.

    app.session_interface = FlaskSessions(WebSessions(engine))

`flask.session` is then a `WebSession`. What a request has changed is in the log before its answer goes out.
"""

from __future__ import annotations

from flask import Flask, Request, Response
from flask.sessions import SessionInterface, SessionMixin

from lastseen.adapters.cookies import Cookie
from lastseen.adapters.web_session import View, WebSession
from lastseen.adapters.web_sessions import WebSessions


class FlaskSession(WebSession, SessionMixin):
    """A web session with the attributes that Flask knows."""

    def __init__(self, view: View | None, renewed: str | None, came_with: str | None) -> None:
        super().__init__(view, renewed)
        self.came_with = came_with
        """The token of the request."""

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether the visitor came without a session (Flask's name for `is_new`)."""
        return self.is_new

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser's window (Flask's name for `is_persistent`).

        Its limits are those of `WebSessions`, not Flask's `PERMANENT_SESSION_LIFETIME`.
        """
        return self.is_persistent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self.persist(bool(value))


class FlaskSessions(SessionInterface):
    """Gives each request its session, and saves it before the answer goes out."""

    def __init__(self, sessions: WebSessions, cookie: Cookie | None = None) -> None:
        self._sessions = sessions
        self._cookie = cookie or Cookie()

    def open_session(self, app: Flask, request: Request) -> FlaskSession:  # noqa: ARG002 - Flask's signature
        """The session of a request (`SessionInterface`)."""
        token = self._cookie.read(request.headers.get("Cookie", ""))
        found = self._sessions.find(token)
        return FlaskSession(found.view, found.renewed, token)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:  # noqa: ARG002
        """Write what the request has changed (`SessionInterface`). Raises `LogError`, `InvalidEvent`."""
        assert isinstance(session, FlaskSession), "made by `open_session`"
        came_with = session.came_with
        token = self._sessions.save(session, came_with)
        session.has_begun_response = True
        response.vary.add("Cookie")
        if token != came_with:
            age_s = self._sessions.cookie_age_s(session)
            cookie = self._cookie.removed() if token is None else self._cookie.written(token, age_s)
            response.headers.add("Set-Cookie", cookie)
            response.headers["Cache-Control"] = "no-store"
