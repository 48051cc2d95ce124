"""What is written down while a history runs, for the judges at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.simulation.node import Answer


class Read(NamedTuple):
    """What a node showed of a key."""

    node: int
    partition: int
    checkpoint: int
    key: str
    now_ms: int
    seen: dict[str, Any] | None


class Look(NamedTuple):
    """A replica's digest at a place."""

    node: int
    partition: int
    checkpoint: int
    digest: bytes


class Planned(NamedTuple):
    """Whom a pruner means to end under pressure, and whom it should by the view's own state."""

    node: int
    reason: str
    planned: list[str]
    expected: list[str]


class Pass(NamedTuple):
    """A pruner's pass when all is quiet."""

    now_ms: int
    ends: list[int]
    """How far the log went after it."""
    wake_ms: int | None
    """When the pruner meant to wake up, before the pass."""
    live: int
    max_sessions: int | None
    spared: int
    """Live sessions that are suspended or held."""


class Stop(NamedTuple):
    """What a node did about a log that was damaged."""

    damage: str
    node: int
    what: str
    must_stop: bool
    error: str | None
    wrong: str | None
    """What it took in that it should not have."""


class Body(NamedTuple):
    """What a node keeps with a session."""

    node: int
    partition: int
    session_id: str
    attributes: dict[str, Any]
    messages: list[str]
    """The ids of the messages' events."""


@dataclass
class Evidence:
    """All of it."""

    happened: Counter[str] = field(default_factory=Counter)
    """Faults by name."""
    answers: list[Answer] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    planned: list[Planned] = field(default_factory=list)
    restored: list[tuple[int, str]] = field(default_factory=list)
    """Where a restarted node differs from a refold: the node, and how."""
    passes: list[Pass] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Errors where no fault explains them, and whatever is no error of ours."""
    histories: list[tuple[int, str, list[tuple[int, int, int]]]] = field(default_factory=list)
    """Node, key, and its records in the history as (offset, verdict, partition)."""
    lives: list[tuple[int, str, list[tuple[str, int | None, int | None, str | None]]]] = field(default_factory=list)
    """Node, key, and its sessions in the history as (id, end's offset, end's time, reason)."""
    crowds: list[str] = field(default_factory=list)
    """Where a node's indexes disagree on who is live."""
    bodies: list[Body] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    """Where subscribers in a node's process received something else than was published."""
