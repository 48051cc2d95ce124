"""The invariants, one a file. Each says what always holds (`SAYS`) and finds where it does not (`check`)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol, cast

from tests.simulation.world import World

_FILES = (
    "acknowledged_is_in_the_log", "one_end", "one_digest", "snapshot_and_tail", "no_early_end", "no_effect_when_due",
    "no_effect_after_the_end", "one_live_session_a_key", "capacity", "held_and_suspended_are_spared", "duplicates",
    "malformed", "pure_fold", "facts", "reads", "clock_jumps", "due_is_announced", "damage_stops", "answers",
)  # fmt: skip


class Invariant(Protocol):
    """One file of this folder."""

    SAYS: str

    def check(self, world: World) -> Iterator[str]:
        """Where it does not hold."""
        ...


INVARIANTS: dict[int, Invariant] = {
    number: cast(Invariant, import_module(f"{__name__}.{file}")) for number, file in enumerate(_FILES, start=1)
}
"""By the number under which docs/reliability.md speaks of them."""
