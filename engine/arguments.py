"""Checks of the arguments of commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastseen.engine.errors import InvalidEvent, InvalidKey, InvalidSetting, shown


def check_wait(wait: str) -> None:
    """Raise `InvalidSetting` for an unknown way to wait."""
    if wait not in ("applied", "appended", "none"):
        raise InvalidSetting(f"wait = {shown(wait)}: give applied, appended or none")


def attributes_of(attributes: object) -> dict[str, Any]:
    """Attributes as a dictionary. Raises `InvalidEvent`."""
    if not isinstance(attributes, Mapping):
        raise InvalidEvent(f"attributes = {shown(attributes)}: give a mapping from names to JSON values")
    return dict(attributes)


def key_and_id(wanted: object) -> tuple[str, str | None]:
    """A key, and the id of the session that is meant, if it comes with one. Raises `InvalidKey`."""
    match wanted:
        case str():
            return wanted, None
        case (str(key), str() | None as session_id):
            return key, session_id
    raise InvalidKey(f"{shown(wanted)} names no session: give a key, or a key and a session's id")
