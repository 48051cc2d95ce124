"""Checks of the arguments of commands."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from lastseen.engine.errors import InvalidEvent, InvalidKey, InvalidSetting, shown
from lastseen.engine.session import Status


class Anything(enum.Enum):
    """The type of `ANY`."""

    ANY = "ANY"

    def __repr__(self) -> str:
        return self.value


ANY: Final = Anything.ANY
"""The default of a filter: it leaves nothing out. `None` and empty text are refused in a filter, because a caller that
computed them, such as the user of a visitor who has not logged in, did not mean everything."""


def wanted_text(name: str, wanted: object) -> str | None:
    """The text that a filter wants, `None` for any. Raises `InvalidSetting`."""
    if wanted is ANY:
        return None
    if not isinstance(wanted, str) or not wanted:
        raise InvalidSetting(f"{name} = {shown(wanted)}: give text that is not empty, or leave {name} out for any")
    if not wanted.isascii():
        try:
            wanted.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidSetting(f"{name} = {shown(wanted)}: it is not Unicode: remove unpaired surrogates") from None
    return wanted


def wanted_status(wanted: object) -> Status | None:
    """The status that a filter wants, `None` for any. Raises `InvalidSetting`."""
    if wanted is ANY or isinstance(wanted, Status):
        return None if wanted is ANY else wanted
    try:
        return Status(wanted)
    except ValueError:
        raise InvalidSetting(
            f"status = {shown(wanted)}: give active or suspended, or leave status out for any"
        ) from None


def check_times(since_ms: object, until_ms: object) -> None:
    """Raise `InvalidSetting` for what is neither a time in milliseconds nor `None`."""
    for name, at_ms in (("since_ms", since_ms), ("until_ms", until_ms)):
        is_whole = isinstance(at_ms, int) and not isinstance(at_ms, bool) and -(2**63) <= at_ms < 2**63
        if at_ms is not None and not is_whole:
            raise InvalidSetting(f"{name} = {shown(at_ms)} is no time: give whole milliseconds")


def wanted_kinds(wanted: object) -> tuple[str, ...]:
    """The kinds of facts that a filter wants, none for any. Raises `InvalidSetting`."""
    if wanted is ANY:
        return ()
    kinds = tuple(wanted) if isinstance(wanted, (tuple, list, set, frozenset)) else ()
    if not kinds or not all(isinstance(kind, str) and kind for kind in kinds):
        raise InvalidSetting(f"kinds = {shown(wanted)}: give at least one kind, in a tuple, or leave kinds out for any")
    return kinds


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
