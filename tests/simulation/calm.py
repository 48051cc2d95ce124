"""The end of a history: faults stop, and within the pruner's interval all must be as it should be."""

from __future__ import annotations

from lastseen.engine.partitioner import partition_of
from lastseen.projections.facts import encode
from lastseen.projections.pruner import RETRY_MS
from tests.simulation.evidence import Body, Pass
from tests.simulation.node import Node
from tests.simulation.reference import state_of
from tests.simulation.world import World


def come_to_rest(world: World) -> None:
    """Heal everything, let the owners do their duties twice, and write down how every replica sees the world."""
    _heal(world)
    # What a pruner announced by a clock that was fast, it announces again after a second of its own; and a clock that
    # has been set right may stand in the midst of just that second.
    _look_for_what_is_due(world, RETRY_MS + 1)
    _pass(world, RETRY_MS)
    dues = [
        due[0]
        for reference in world.references
        for session_id in reference.partition.by_id
        if (due := reference.chronicle.deadline(session_id, len(reference.folded))) is not None
    ]
    if dues:
        # To the very millisecond of the next deadline, however long that takes.
        _pass(world, max(min(dues) - world.brokers.now_ms, 0))
    _publish(world)
    _write_down(world)


def _heal(world: World) -> None:
    brokers = world.brokers
    brokers.deliver_all()
    ahead_ms = max((skew for skew in brokers.skews_ms), default=0)
    brokers.skews_ms = [0] * world.plan.partitions
    if world.plan.steady:
        # Log time cannot go back: true time comes up to it first.
        latest = [records[-1].timestamp_ms for records in brokers.records if records]
        brokers.let_pass(max(max(latest, default=0) - brokers.now_ms, 0))
    elif ahead_ms > 0:
        brokers.let_pass(ahead_ms)
    for node in world.nodes:
        if node.engine is None:
            world.start(node)
        node.heal()
    if world.plan.seed % 2:
        # Else they stay who they are: what they did wrong, no heir puts right.
        brokers.group.assign([number % world.plan.nodes for number in range(world.plan.partitions)])
    for member in brokers.group.members.values():
        member.hear()
    for node in world.nodes:
        world.attempt(node, lambda engine: engine._maintenance.follow())


def _look_for_what_is_due(world: World, after_ms: int) -> None:
    world.brokers.let_pass(after_ms)
    for node in world.nodes:
        world.attempt(node, lambda engine: engine.refresh())
        world.prune(node)
    world.follow()


def _pass(world: World, after_ms: int) -> None:
    world.brokers.let_pass(after_ms)
    for node in world.nodes:
        world.attempt(node, lambda engine: engine.refresh())
    world.follow()
    now_ms = world.brokers.now_ms
    wakes = [
        wake for node in world.nodes if (wake := node.running._views.next_deadline(node.running.owned())) is not None
    ]
    for node in world.nodes:
        world.prune(node)
    for node in world.nodes:
        world.attempt(node, lambda engine: engine.refresh())
        world.look(node)
    world.follow()
    ends = [len(reference.folded) for reference in world.references]
    live = [(ref.chronicle, each) for ref in world.references for each in ref.partition.by_id]
    spared = sum(
        chronicle.suspended_at(each, 2**62) is not None
        or any(until > now_ms for until in chronicle.leases(each, 2**62).values())
        for chronicle, each in live
    )
    # An engine that holds only its own counts only its own.
    most = world.plan.settings["max_sessions"] if world.plan.settings["view"] == "all" else None
    world.evidence.passes.append(Pass(now_ms, ends, min(wakes, default=None), len(live), most, spared))


def _publish(world: World) -> None:
    """Every node publishes what is left."""
    for number in range(2):
        # Twice, a second apart: what a zombie wrote in between is found at the next look.
        world.brokers.let_pass(1_000)
        for states in world.brokers.topics.states if number and world.plan.seed % 4 == 0 else ():
            states += states[:2]
            world.evidence.happened["old state"] += 1
        for node in world.nodes:
            world.attempt(node, lambda engine: engine._duties.publish())


def _write_down(world: World) -> None:
    for node in world.nodes:
        _indexes(world, node)
        if world.plan.settings["view"] == "all":
            _heard(world, node)
        keys = world.plan.keys
        for key in keys:
            world.read(node, key)
        if node.number == world.plan.seed % world.plan.nodes:
            node.die()
            world.start(node)
        for reference, partition in zip(world.references, node.running._views.partitions, strict=True):
            is_held = node.holds(partition.number)
            if is_held and state_of(partition, node.running._state.statistics) != reference.state():
                world.evidence.restored.append((node.number, f"partition {partition.number} at the end"))
        for key in keys:
            if node.holds(partition_of(key, world.plan.partitions)):
                _past(world, node, key)


def _indexes(world: World, node: Node) -> None:
    for partition in node.running._views.partitions:
        parts = partition.active, partition.set_aside.sessions, partition.suspended
        by_key = {key: session for part in parts for key, session in part.items()}
        by_id = {session.key: session for session in partition.by_id.values()}
        owned = {session.key for sessions in partition.by_owner.values() for session in sessions.values()}
        if len(by_key) != sum(map(len, parts)) or by_key != by_id:
            world.evidence.crowds.append(f"node {node.number}: {sorted(by_key)} by key, {sorted(by_id)} by id")
        if owned != {session.key for session in by_id.values() if session.owner is not None}:
            world.evidence.crowds.append(f"node {node.number}: {sorted(owned)} by owner")


def _heard(world: World, node: Node) -> None:
    """Subscribers in the process receive what is published, in the order of each partition."""
    heard: dict[int, list[bytes]] = {}
    while (fact := node.heard.get(timeout_s=0)) is not None:
        reference = world.references[fact.id.partition]
        heard.setdefault(fact.id.partition, []).append(encode(fact, reference.source))
    for number, reference in enumerate(world.references):
        wanted = [fact for folded in reference.folded[node.heard_from[number] :] for fact in folded.facts]
        if heard.get(number, []) != wanted:
            counts = f"{len(heard.get(number, []))} facts heard, not {len(wanted)}"
            world.evidence.heard.append(f"node {node.number}, partition {number}: {counts}")


def _past(world: World, node: Node, key: str) -> None:
    evidence = world.evidence

    def look(engine: object) -> None:
        entries = node.running.history(key)
        rows = [(entry.offset, int(entry.verdict), entry.partition) for entry in entries]
        evidence.histories.append((node.number, key, rows))
        lives = node.running.session_spans(key)
        rows = [(life.session_id, life.ended_offset, life.ended_at_ms, life.reason) for life in lives]
        evidence.lives.append((node.number, key, rows))
        session = node.running.get(key)
        if session is not None:
            result = [message.event_id for message in node.running.messages(key)]
            found = Body(node.number, session.partition, session.session_id, dict(session.attributes), result)
            evidence.bodies.append(found)

    world.attempt(node, look)
