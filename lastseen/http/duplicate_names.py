"""Bodies that give a name twice: which of the two counts is up to the reader, so a check and its subject may differ."""

from __future__ import annotations

import json
from typing import Any


def duplicate_name(content: bytes) -> str | None:
    """A name that an object in this JSON text, which is valid, gives twice, at any depth; `None` if there is none."""
    if content.count(b":") < 2:  # one member at most
        return None
    found: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) > 1 and not found and len({name for name, _ in pairs}) < len(pairs):
            names = [name for name, _ in pairs]
            found.append(next(name for name in names if names.count(name) > 1))

    # Numbers stay text: their values do not matter, and Python refuses to read very long ones.
    json.loads(content, object_pairs_hook=members, parse_int=str, parse_float=str)
    return found[0] if found else None
