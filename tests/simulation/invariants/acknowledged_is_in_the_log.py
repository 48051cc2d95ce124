"""Nothing that a caller was told is safe is missing, and each record has the one verdict that the design gives it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.oracle import Oracle
from tests.simulation.world import World

SAYS = "every acknowledged append is in the log with one verdict"


def check(world: World) -> Iterator[str]:
    """Against the log itself, against the second opinion, and against the history of every node."""
    there = {
        (folded.outcome.record.partition, folded.outcome.record.key, folded.outcome.record.value)
        for reference in world.references
        for folded in reference.folded
    }
    for answer in world.evidence.answers:
        if answer.error is None and answer.wait != "none":
            for appended in answer.appended:
                if appended.positions is None and answer.wait == "applied" and appended is not answer.appended[-1]:
                    continue
                for message in appended.messages:
                    if tuple(message) not in there:
                        yield f"node {answer.node} acknowledged {answer.command} of {answer.key}: it is not in the log"
    wanted: dict[str, list[tuple[int, int]]] = {}
    for reference in world.references:
        oracle = Oracle()
        oracle.judge_all(folded.said for folded in reference.folded)
        for verdict, folded in zip(oracle.verdicts, reference.folded, strict=True):
            place = f"partition {reference.partition.number}, offset {folded.said.offset}"
            if verdict != folded.verdict.label:
                yield f"{place}: the design says {verdict}, the engine {folded.verdict.label}"
            if folded.said.key is not None:
                wanted.setdefault(folded.said.key, []).append((folded.said.offset, int(folded.verdict)))
    for node, key, entries in world.evidence.histories:
        if entries != wanted.get(key, []):
            yield f"node {node}: the history of {key} has {entries}, the log {wanted.get(key, [])}"
