"""No acknowledged record is missing, and each record has the one verdict that the design gives it."""

from __future__ import annotations

from collections.abc import Iterator

from lastseen.engine.partitioner import partition_of
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
    wanted: dict[str, list[tuple[int, int, int]]] = {}
    astray: dict[str, list[tuple[int, int, int]]] = {}
    """By key, its records in other partitions: a node knows of those in the partitions that it holds."""
    for reference in world.references:
        oracle = Oracle()
        oracle.judge_all(folded.said for folded in reference.folded)
        for verdict, folded in zip(oracle.verdicts, reference.folded, strict=True):
            place = f"partition {reference.partition.number}, offset {folded.said.offset}"
            if verdict != folded.verdict.label:
                yield f"{place}: the design says {verdict}, the engine {folded.verdict.label}"
            if folded.said.key is not None:
                number, key = reference.partition.number, folded.said.key
                of_key = wanted if number == partition_of(key, world.plan.partitions) else astray
                of_key.setdefault(key, []).append((folded.said.offset, int(folded.verdict), number))
    for node, key, entries in world.evidence.histories:
        own = [entry for entry in entries if entry[2] == partition_of(key, world.plan.partitions)]
        if own != wanted.get(key, []) or not {*entries} - {*own} <= {*astray.get(key, [])}:
            yield f"node {node}: the history of {key} has {entries}, the log {wanted.get(key, [])}"
