"""What goes wrong. One function a fault; each says in the evidence when it has really happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from lastseen.engine.events import MAX_RECORD_BYTES
from lastseen.engine.log.port import Mark, Message
from lastseen.engine.log.shared_log import OutboundRecord
from lastseen.engine.partitioner import partition_of
from tests.simulation.disk import fill, free
from tests.simulation.plan import MIN
from tests.simulation.workload import Action, command
from tests.simulation.world import World

FAULTS: dict[str, tuple[int, Action]] = {}
"""Name → how often where it is enabled, and what."""
APPEND_FAULTS = (
    "unavailable", "lost", "lost acknowledgement", "delayed", "duplicated", "half of a batch", "crash before append",
    "crash after append",
)  # fmt: skip
ROTTEN = (b"", b"hello", b"[]", b"{}", b"\xff\xfe", b"\0" * 40, b'{"specversion":"1.0"}', b"[" * 3000, b"9" * 5000)
HOUR = 60 * MIN


def fault(weight: int) -> Callable[[Action], Action]:
    """Take a function into the faults under its own name."""

    def take(function: Action) -> Action:
        FAULTS[function.__name__.replace("_", " ")] = weight, function
        return function

    return take


# ── the log ──


@fault(12)
def an_append_fails(world: World, draw: Random) -> None:
    """In one of all the ways in which it can, while a caller, or the pruner, appends."""
    node = world.up(draw)
    node.line.armed = draw.choice(APPEND_FAULTS)
    if draw.random() < 0.8:
        command(world, node, draw)
    else:
        world.prune(node)
    if node.engine is not None:
        node.line.armed = None


@fault(8)
def a_record_comes_again(world: World, draw: Random) -> None:
    """A producer, or the network, repeats itself."""
    number = draw.randrange(world.plan.partitions)
    records = world.brokers.records[number][-12:]
    if records:
        old = draw.choice(records)
        if old.key is not None and old.value is not None:
            world.brokers.send([Message(number, old.key, old.value)], draw.choice([0, 0, 0, 900, 30_000]))
            world.brokers.let_pass(0)
            world.evidence.happened["record again"] += 1


def marked_offsets(world: World, draw: Random) -> None:
    """A stranger's transaction of right events and its marker, or a batch that cannot be unpacked."""
    key = draw.choice(world.plan.keys)
    number = partition_of(key, world.plan.partitions)
    value = world.event("closed", key, {"session_id": world.some_id(key, draw), "reason": "transaction"}, 0)
    mark, verdict = draw.choice([(Mark.TRANSACTIONAL, "transactional"), (Mark.UNREADABLE, "malformed")])
    for _ in range(draw.choice([1, 1, 3])):
        world.brokers.mark(number, *draw.choice([(key, value), (key, None), (None, None)]), mark, verdict)
    if mark is Mark.TRANSACTIONAL:
        world.brokers.mark(number, None, draw.choice([None, value]), Mark.CONTROL, "control")
    world.evidence.happened["marked offset"] += 1


@fault(8)
def poison(world: World, draw: Random) -> None:
    """Records that no producer of ours makes."""
    if draw.random() < 0.25:
        marked_offsets(world, draw)
        return
    key = draw.choice(world.plan.keys)
    session_id = world.some_id(key, draw)
    good = world.event("touched", key, {"session_id": session_id}, 0)
    verdict, value = draw.choice(
        [
            ("malformed", draw.choice(ROTTEN)),
            ("malformed", draw.randbytes(30)),
            ("malformed", b"x" * (MAX_RECORD_BYTES + 1) if draw.random() < 0.02 else b"x"),
            ("malformed", good.replace(b'"touched', b'"tou').replace(b"session_id", b"sessionid")),
            ("malformed", good.replace(b'"data":{', b'"data":{"if_version":-1,')),
            ("malformed", good[: draw.randrange(len(good))]),
            ("unknown_type", good.replace(b"lastseen.session.touched.v1", b"lastseen.session.touched.v9")),
            ("unknown_type", good.replace(b"lastseen.session.touched.v1", b"com.example.order")),
        ]
    )
    number = partition_of(key, world.plan.partitions)
    if draw.random() < 0.2:  # a right event under a wrong record key
        verdict, value = "malformed", good
        key = draw.choice([other for other in world.plan.keys if other != key])
        number = partition_of(key, world.plan.partitions)
    world.brokers.rotten[value] = verdict
    world.brokers.land([Message(number, key, value)])
    world.evidence.happened["poison"] += 1


@fault(6)
def a_leader_s_clock_jumps(world: World, draw: Random) -> None:
    """The clock of log time; or it is right again."""
    number = draw.randrange(world.plan.partitions)
    jumps = [0, 0, 0, -900, 2_000, -2_000, 20_000, -20_000, -15 * MIN, 15 * MIN, 2 * HOUR, -2 * HOUR]
    world.brokers.skews_ms[number] = draw.choice(jumps)
    world.evidence.happened["leader's clock jumps"] += 1


@fault(4)
def a_reader_is_slow(world: World, draw: Random) -> None:
    """Few records come at a time."""
    world.up(draw).line.read_limit = draw.choice([1, 2, 3])
    world.evidence.happened["slow reader"] += 1


# ── nodes ──


@fault(6)
def a_node_s_clock_jumps(world: World, draw: Random) -> None:
    """A little, or beyond all bounds; or it is right again."""
    node = world.up(draw)
    jumps = [0, 0, 0, 700, -700, 30_000, -45_000, 59_000, 5 * MIN, -9 * MIN, 15 * MIN, -15 * MIN, 2 * HOUR]
    node.clock.skew_ms = draw.choice(jumps)
    world.evidence.happened["node's clock jumps"] += 1


@fault(6)
def a_node_is_killed(world: World, draw: Random) -> None:
    """The process dies; its disk keeps what was written."""
    world.up(draw).die()
    world.evidence.happened["kill"] += 1


@fault(4)
def a_node_loses_power(world: World, draw: Random) -> None:
    """What was not synced is gone."""
    world.up(draw).die(power_lost=True)
    world.evidence.happened["power loss"] += 1


@fault(4)
def a_snapshot_is_torn(world: World, draw: Random) -> None:
    """A sector of it is wrong after the crash, or a byte, or its end is missing."""
    world.up(draw).die(torn=True)
    world.evidence.happened["torn snapshot"] += 1


@fault(2)
def a_snapshot_is_lost(world: World, draw: Random) -> None:
    """It was deleted, and the history with it or not."""
    world.up(draw).die(deleted=True)
    world.evidence.happened["lost snapshot"] += 1


@fault(3)
def a_node_restarts(world: World, draw: Random) -> None:
    """In good order."""
    node = world.up(draw)
    node.stop()
    world.evidence.happened["restart"] += 1
    if draw.random() < 0.7:
        world.start(node)


@fault(4)
def a_disk_is_full(world: World, draw: Random) -> None:
    """For a few flushes; commands and reads go on."""
    node = world.up(draw)
    fill(*node.files())
    for _ in range(draw.randrange(1, 4)):
        command(world, node, draw)
        if node.engine is None:
            return
        if world.attempt(node, lambda engine: engine.flush(), may_fail=True) is not None:
            world.evidence.happened["full disk"] += 1
    free(*node.files())


@fault(4)
def memory_is_short(world: World, draw: Random) -> None:
    """Bodies leave memory, and sessions end if so configured."""
    node = world.up(draw)
    node.pressure.now = 0.95
    world.relieve(node)
    node.pressure.now = 0.0
    world.evidence.happened["memory pressure"] += 1


# ── owners ──


@fault(5)
def a_zombie_stays(world: World, draw: Random) -> None:
    """Owners change, and the old one does not hear of it: it prunes and publishes as before."""
    group = world.brokers.group
    world.rebalance(draw)
    deaf = draw.randrange(world.plan.nodes)
    for number, member in group.members.items():
        if number != deaf:
            member.hear()
    node = world.nodes[deaf]
    if node.engine is not None and group.members[deaf].believed - group.share_of(deaf):
        world.evidence.happened["zombie owner"] += 1
        world.attempt(node, lambda engine: engine._duties.publish())


@fault(14)
def an_heir_tells_at_once(world: World, draw: Random) -> None:
    """A partition gets another owner, which publishes before it has read what the last one published."""
    owners = [*world.brokers.group.owners]
    number = draw.randrange(world.plan.partitions)
    node = world.up(draw)
    owners[number] = node.number
    world.brokers.group.assign(owners)
    world.brokers.group.members[node.number].hear()
    behind = node.running._views.partitions[number].checkpoint < world.brokers.ends()[number]
    world.attempt(node, lambda engine: engine._duties.publish())
    if behind:
        world.evidence.happened["heir behind"] += 1


@fault(5)
def a_zombie_prunes(world: World, draw: Random) -> None:
    """A pruner that has not caught up, by whatever clock it has, announces what it believes to be due."""
    node = world.up(draw)
    group = world.brokers.group
    believed, group.members[node.number].believed = (
        group.members[node.number].believed,
        frozenset(range(world.plan.partitions)),
    )
    world.attempt(node, lambda engine: engine._pruner.run(node.clock.now_ms()))
    group.members[node.number].believed = believed
    world.evidence.happened["zombie pruner"] += 1


@fault(5)
def publishing_fails(world: World, draw: Random) -> None:
    """Before, during or after a write; the next publisher continues."""
    node = world.up(draw)
    node.line.fact_publisher.armed = draw.choice(
        ["before facts", "during facts", "after facts", "before states", "after states"]
    )  # fmt: skip
    world.attempt(node, lambda engine: engine._duties.publish(), may_fail=True)
    node.line.fact_publisher.armed = None


@fault(3)
def an_old_state_is_written(world: World, draw: Random) -> None:
    """A replaced owner has the last word on a state."""
    states = draw.choice(world.brokers.topics.states)
    if states:
        states.append(draw.choice(states))
        world.evidence.happened["old state"] += 1


@fault(6)
def a_stranger_writes_facts(world: World, draw: Random) -> None:
    """Foreign writers to the topic of facts: garbage, transactions, and facts that say what never was."""
    number = draw.randrange(world.plan.partitions)
    topics = world.brokers.topics
    for _ in range(draw.choice([1, 1, 3, 60])):
        forged, mark = _strange_fact(world, number, draw)
        topics.strange[number][len(topics.facts[number])] = mark
        topics.facts[number].append(forged)
    world.evidence.happened["strange facts"] += 1
    if draw.random() < 0.5:
        world.rebalance(draw)
        for member in world.brokers.group.members.values():
            member.hear()
        world.attempt(world.up(draw), lambda engine: engine._duties.publish())


def _strange_fact(world: World, number: int, draw: Random) -> tuple[OutboundRecord, Mark | None]:
    facts, key = world.brokers.topics.facts[number], draw.choice(world.plan.keys)
    garbage = draw.choice([*ROTTEN, None, b'{"id":"0-1-0"}'])
    ours = [fact for place, fact in enumerate(facts) if place not in world.brokers.topics.strange[number]]
    if not ours or draw.random() < 0.3:
        return OutboundRecord(key, garbage), draw.choice([None, None, *Mark])
    fact = draw.choice(ours[-3:])
    assert fact.value is not None
    event = json.loads(fact.value)
    what = draw.choice(["offset", "offset", "kind", "key", "k", "mark"])
    if what == "mark":
        return fact, Mark.TRANSACTIONAL
    if what == "key":
        return OutboundRecord(f"not {fact.key}", fact.value), None
    if what == "kind":
        event["data"]["kind"] = "forged"
    elif what == "k":
        event["data"]["k"] += 1
    else:
        end = world.brokers.ends()[number]
        event["data"]["offset"] = draw.choice([end - 1, end, end + 5, draw.randrange(end), 2**40])
    if what != "kind":
        event["data"]["forged"] = True
        event["id"] = f"{number}-{event['data']['offset']}-{event['data']['k']}"
    return OutboundRecord(fact.key, json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()), None


@fault(3)
def a_stranger_writes_states(world: World, draw: Random) -> None:
    """Garbage, and states of keys that there are and of keys that there never were."""
    states = draw.choice(world.brokers.topics.states)
    for _ in range(draw.choice([1, 4])):
        key = draw.choice([*world.plan.keys, "unowned", ""])
        states.append(OutboundRecord(key, draw.choice([*ROTTEN, b'{"data":{}}', None])))
    world.evidence.happened["strange states"] += 1
