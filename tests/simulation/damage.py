"""The log is damaged unseen, at the end of a history: a node that can see it stops, and skips nothing."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LastseenError
from lastseen.engine.log.port import Message
from lastseen.engine.partitioner import partition_of
from tests.simulation.evidence import Stop
from tests.simulation.node import Node
from tests.simulation.world import World


def damage(world: World) -> None:
    """Do the damage that the plan foresees, and write down what each node does about it."""
    if world.plan.damage is None:
        return
    draw = Random(world.plan.seed + 2)
    number = draw.randrange(world.plan.partitions)
    world.evidence.happened[world.plan.damage] += 1
    {
        "truncated": _truncate,
        "gap": _gap,
        "beginning deleted": _delete_beginning,
        "remade": _remake,
        "other partitions": _other_partitions,
    }[world.plan.damage](world, number, draw)


def _grow(world: World, number: int, count: int) -> None:
    key = next((key for key in world.plan.keys), "ana")
    for _ in range(count):
        world.brokers.land([Message(number, key, world.event("touched", key, {"session_id": "n" * 22}, 0))])


def _watch(
    world: World, node: Node, what: str, must_stop: bool, number: int, at_most: int,
    work: Callable[[Engine], object] = lambda engine: engine.refresh(),
) -> None:  # fmt: skip
    """Let a node follow; it must stop, or go on, and in no case fold beyond `at_most`."""
    before = node.running._views.partitions[number].checkpoint
    error = node.do(work)
    reached = node.running._views.partitions[number].checkpoint
    wrong = None if reached <= max(at_most, before) else f"folded up to {reached}, beyond {at_most}"
    _note(world, node, what, must_stop, number, error, wrong)


def _note(
    world: World, node: Node, what: str, must_stop: bool, number: int, error: LastseenError | None, wrong: str | None
) -> None:
    """Write down whether a node stopped: for the partition, which it then shows nothing of, or as a whole."""
    failed = {} if node.engine is None else node.running.partitions().failed
    error = failed.get(number, error)
    for partition in range(world.plan.partitions) if failed and wrong is None else ():
        refused = _refusal(node, key_in(partition, world))
        if partition == number and type(refused) is not type(error):
            wrong = f"shows sessions all the same ({refused!r})"
        elif partition not in failed and refused is not None:
            wrong = f"refuses partition {partition} as well ({refused!r})"
    name = None if error is None else type(error).__name__
    world.evidence.stops.append(Stop(str(world.plan.damage), node.number, what, must_stop, name, wrong))


def _refusal(node: Node, key: str) -> LastseenError | None:
    """The error that a read of a key meets."""
    return node.do(lambda engine: engine.get(key))


def key_in(partition: int, world: World) -> str:
    """A key that belongs to a partition."""
    return next(key for key in map(str, range(10_000)) if partition_of(key, world.plan.partitions) == partition)


def _restart(world: World, node: Node, what: str, must_stop: bool, number: int, *, deleted: bool = False) -> None:
    """Kill a node and start it again, with its snapshot or without."""
    if node.engine is not None:
        node.die()
    if deleted:
        node.disk.restore({})
    error: LastseenError | None = None
    try:
        node.start()
    except LastseenError as caught:
        error = caught
    _note(world, node, what, must_stop, number, error, None)


def _truncate(world: World, number: int, draw: Random) -> None:
    """Its end is lost; then it may grow again, to less than it was or to more."""
    _grow(world, number, 3)
    for node in world.nodes:
        node.do(lambda engine: engine.refresh())
        node.do(lambda engine: engine.flush())
    node = world.nodes[0]
    records = world.brokers.records[number]
    length = draw.randrange(1, len(records))
    del records[length:]
    key = key_in(number, world)
    if draw.random() < 0.5:
        _watch(world, node, "asked to follow after the cut", True, number, length, lambda engine: engine.refresh())
    else:
        _watch(world, node, "asked to open a session after the cut", True, number, length, lambda e: e.open(key))
    node = world.nodes[-1]
    ahead = node.running._views.partitions[number].checkpoint > world.brokers.ends()[number]
    _restart(world, node, "started again with a snapshot of what is lost", ahead, number)
    _restart(world, node, "started again without its snapshot", False, number, deleted=True)


def _gap(world: World, number: int, draw: Random) -> None:
    """A record in the middle is gone: no node may step over it."""
    _grow(world, number, 3)
    records = world.brokers.records[number]
    for node in world.nodes:
        read = node.running._views.partitions[number].checkpoint
        missing = draw.randrange(read, len(records) - 1)
        taken = records.pop(missing)
        _watch(world, node, "a record that it has not read is missing", True, number, missing)
        records.insert(missing, taken)
    records.pop(draw.randrange(len(records) - 1))
    _restart(world, world.nodes[0], "started again without its snapshot", True, number, deleted=True)


def _delete_beginning(world: World, number: int, draw: Random) -> None:
    """Retention took the oldest: who has a snapshot does not need them."""
    _grow(world, number, 2)
    for node in world.nodes:
        node.do(lambda engine: engine.refresh())
        node.do(lambda engine: engine.flush())
    records = world.brokers.records[number]
    first = draw.randrange(1, len(records))
    del records[:first]
    world.brokers.first_offset[number] = first
    _watch(world, world.nodes[0], "it has read on already", False, number, 2**62)
    _restart(world, world.nodes[0], "started again", False, number)
    _restart(world, world.nodes[0], "started again without its snapshot", True, number, deleted=True)


def _remake(world: World, number: int, draw: Random) -> None:
    """A topic of the same name, and of another identity."""
    for node in world.nodes:
        node.do(lambda engine: engine.flush())
    world.brokers.identity = "another"
    for node in world.nodes:
        _restart(world, node, "started again", True, number)


def _other_partitions(world: World, number: int, draw: Random) -> None:
    """The topic has more partitions than it had: keys would move."""
    for node in world.nodes:
        node.do(lambda engine: engine.flush())
    brokers = world.brokers
    brokers.records.append([])
    brokers.true_ms.append([])
    brokers.first_offset.append(0)
    brokers.skews_ms.append(0)
    for node in world.nodes:
        _restart(world, node, "started again", True, number)
