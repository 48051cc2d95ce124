"""Positions in the log as text: `partition:offset`, several of them separated by commas."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lastseen.api.problems import Problem
from lastseen.engine.log.port import Position

HEADER = "Position"
PARTITIONS_HEADER = "Partitions"
"""How many partitions the log has; the partition of a key follows from it (`engine.partitioner`)."""
MAX_POSITIONS = 100
_form = re.compile(r"([0-9]{1,5}):([0-9]{1,18})")


def position_text(position: Position) -> str:
    """One position as text."""
    return f"{position.partition}:{position.offset}"


def positions_text(positions: Iterable[Position]) -> str:
    """Several positions as text; those before the first record are left out."""
    return ",".join(position_text(position) for position in positions if position.offset >= 0)


def position_or_none(text: str) -> Position | None:
    """The position that a text denotes; `None` if it is malformed."""
    match = _form.fullmatch(text)
    return None if match is None else Position(int(match[1]), int(match[2]))


def position_in(name: str, text: str) -> Position:
    """The position in the parameter `name`. Raises `Problem` 422."""
    position = position_or_none(text)
    if position is None:
        raise Problem(422, "invalid-parameter", f"{name}: give a position as partition:offset, such as 0:1234")
    return position


def positions_in(name: str, text: str) -> list[Position]:
    """The positions in the parameter `name`. Raises `Problem` 422."""
    parts = text.split(",", MAX_POSITIONS)
    if len(parts) > MAX_POSITIONS:
        raise Problem(422, "invalid-parameter", f"{name}: give at most {MAX_POSITIONS} positions")
    return [position_in(name, part.strip()) for part in parts]
