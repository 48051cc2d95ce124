"""Requests of a visitor, without a framework."""

from __future__ import annotations

from typing import Any

from lastseen.adapters.web_sessions import WebSessions


def visit(sessions: WebSessions, token: str | None = None, /, user: str | None = None, **values: Any) -> str | None:
    """One request: what it sets, and the token that it leaves the visitor with."""
    session = sessions.find(token)
    session.update(values)
    if user is not None:
        session.login(user)
    return sessions.save(session, token if session.view else None)
