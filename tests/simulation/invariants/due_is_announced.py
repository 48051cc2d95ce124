"""Once faults stop, each pass of the pruners leaves no session alive that is due, and they wake up in time for it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "once faults stop, every due session is announced within the pruner's interval"


def check(world: World) -> Iterator[str]:
    """Every pass that was made when all was quiet."""
    before = None
    for each in world.evidence.passes:
        for reference, end in zip(world.references, each.ends, strict=True):
            chronicle = reference.chronicle
            for key in chronicle.of_key:
                session_id = chronicle.live(key, end)
                due = None if session_id is None else chronicle.deadline(session_id, end)
                if due is not None and due[0] <= each.now_ms:
                    yield f"{session_id} was due at {due}, and lives at {each.now_ms}, after the pruners' pass"
            if before is not None:
                ended = [
                    e
                    for ends in chronicle.ends.values()
                    for e in ends
                    if before.ends[reference.partition.number] <= e.offset < end
                ]
                late = [e for e in ended if e.reason in ("idle", "max_age", "suspend_ttl")]
                if late and (each.wake_ms is None or each.wake_ms > min(e.at_ms for e in late)):
                    yield f"the pruners mean to wake at {each.wake_ms}, and a session is due at {late[0].at_ms}"
        before = each
