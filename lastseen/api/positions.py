"""Places in the log as text: `partition:offset`, several of them with commas between."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lastseen.api.problems import Problem
from lastseen.engine.log.port import Position

HEADER = "Position"
MAX_POSITIONS = 100
_form = re.compile(r"([0-9]{1,5}):([0-9]{1,18})")


def position_text(position: Position) -> str:
    """One position."""
    return f"{position.partition}:{position.offset}"


def positions_text(positions: Iterable[Position]) -> str:
    """Several; those before the first record are left out."""
    return ",".join(position_text(position) for position in positions if position.offset >= 0)


def position_in(name: str, text: str) -> Position:
    """The position that a parameter names. Raises `Problem` 422."""
    match = _form.fullmatch(text)
    if match is None:
        raise Problem(422, "invalid-parameter", f"{name}: give a position as partition:offset, such as 0:1234")
    return Position(int(match[1]), int(match[2]))


def positions_in(name: str, text: str) -> list[Position]:
    """The positions that a parameter names. Raises `Problem` 422."""
    parts = text.split(",", MAX_POSITIONS)
    if len(parts) > MAX_POSITIONS:
        raise Problem(422, "invalid-parameter", f"{name}: give at most {MAX_POSITIONS} positions")
    return [position_in(name, part.strip()) for part in parts]
