"""Versions as entity tags: `ETag` says a session's version, `If-Match` asks that it be still that (RFC 9110)."""

from __future__ import annotations

import re

from lastseen.api.problems import Problem

_form = re.compile(r'(W/)?"([!#-~\x80-\xff]*)"|([0-9]+)')
_version = re.compile(r"0|[1-9][0-9]{0,15}")


def etag_of(version: int) -> str:
    """A session's version as an entity tag."""
    return f'"{version}"'


def tags_in(name: str, text: str) -> list[str] | None:
    """The strong tags of a header; `None` for `*`, which any session matches. Raises `Problem` 422.

    Weak tags are none of ours, and match nothing where it matters.
    """
    if text.strip() == "*":
        return None
    found = []
    for part in text.split(","):
        match = _form.fullmatch(part.strip())
        if match is None:
            raise Problem(422, "invalid-parameter", f'{name}: give the ETag of an earlier response, such as "7"')
        if match[1] is None:
            # Many clients leave the quotes off a number.
            found.append(match[2] if match[3] is None else match[3])
    return found


def version_in_if_match(text: str | None, current: int | None) -> int | None:
    """The version that `If-Match` asks for; `None` where it asks for none. Raises `Problem` 412 and 422.

    `current` is the session's version as far as is known, which counts where several versions are named.
    """
    tags = None if text is None else tags_in("If-Match", text)
    if tags is None:
        return None
    versions = [int(tag) for tag in tags if _version.fullmatch(tag)]
    if current in versions:
        return current
    if len(tags) == 1 and versions:
        # The engine decides, and says what it found.
        return versions[0]
    raise not_matched()


def check_match(text: str | None, current: int) -> None:
    """Raise `Problem` 412 where `If-Match` names other versions than the one that was read."""
    tags = None if text is None else tags_in("If-Match", text)
    if tags is not None and str(current) not in tags:
        raise not_matched()


def not_matched() -> Problem:
    """The session has another version than was requested."""
    return Problem(
        412, "version-conflict", "If-Match names another version than the session's: read it again and decide again"
    )
