"""A clock that is wrong beyond the bound ends no session, and changes none: its records are void, loudly."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "a clock jump beyond the bound ends no session"


def check(world: World) -> Iterator[str]:
    """For every record, by its own time and the log's."""
    for reference in world.references:
        for folded in reference.folded:
            said = folded.said
            if said.event is None:
                continue
            behind_ms = said.at_ms - said.sent_ms
            is_fresh = -60_000 <= behind_ms <= 600_000
            if is_fresh == (folded.verdict.label == "clock_skew"):
                yield f"offset {said.offset}: sent {behind_ms} ms before its log time, and {folded.verdict.label}"
            if not is_fresh and (folded.outcome.ended is not None or folded.before != folded.after):
                yield f"offset {said.offset}: sent {behind_ms} ms before its log time, and it changed something"
