"""What callers, pruners and services that only report do, when all goes well. One function a step."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from lastseen.engine.session import Policy
from tests.simulation.node import Node
from tests.simulation.world import World

Action = Callable[[World, Random], None]
ACTIONS: dict[str, tuple[int, Action]] = {}
"""Name → how often, and what."""


def action(weight: int) -> Callable[[Action], Action]:
    """Take a function into the workload under its own name."""

    def take(function: Action) -> Action:
        ACTIONS[function.__name__.replace("_", " ")] = weight, function
        return function

    return take


PINS: dict[str, tuple[str, ...]] = {
    "open": (), "create": (), "touch many": (), "hold": ("session_id",), "release": ("session_id",)
}  # fmt: skip
"""By what a command can be pinned, where not by both."""


def command(world: World, node: Node, draw: Random) -> None:
    """Any one command on a node."""
    key = draw.choice(world.plan.keys)
    pin: dict[str, Any] = {}
    if draw.random() < 0.15:
        pin["session_id"] = world.some_id(key, draw)
    if draw.random() < 0.15:
        live = world.live(key)
        pin["if_version"] = draw.choice([draw.randrange(1, 4), live["version"] if live else 1])
    name, wait, work = _chosen(world, draw, key, pin)
    takes = PINS.get(name, ("session_id", "if_version"))
    answer = node.call(name, key, work, wait=wait, pinned=any(each in takes for each in pin))
    world.answered(node, answer)


def _chosen(world: World, draw: Random, key: str, pin: dict[str, Any]) -> tuple[str, str, Callable[[Any], Any]]:
    attributes = draw.choice([None, {"owner": "u1"}, {"owner": "u2", "n": draw.randrange(9)}, {"owner": None}])
    policy = draw.choice([None, Policy(**draw.choice(world.plan.policies))])
    pinned_id = {name: value for name, value in pin.items() if name == "session_id"}
    holder, lease_ms = draw.choice("abc"), draw.choice([400, 5_000, 10**6])
    wait = draw.choice(["applied", "applied", "applied", "appended", "none"])
    match draw.randrange(22):
        case 0 | 1 | 2 | 3:
            return "open", "applied", lambda engine: engine.open(key, attributes=attributes, policy=policy)
        case 4:
            return "create", "applied", lambda engine: engine.create(key, policy=policy, **pinned_id)
        case 5 | 6 | 7 | 8:
            return "touch", wait, lambda engine: engine.touch(key, wait=wait, **pin)
        case 9 | 10 | 11:
            message = {"n": draw.randrange(9)}
            return "tell", wait, lambda engine: engine.touch(key, message=message, policy=policy, wait=wait, **pin)
        case 12:
            return "update", "applied", lambda engine: engine.update(key, attributes or {"n": None}, **pin)
        case 13:
            return "suspend", "applied", lambda engine: engine.suspend(key, **pin)
        case 14 | 15:
            return "resume", "applied", lambda engine: engine.resume(key, **pin)
        case 16:
            return "hold", "applied", lambda engine: engine.take_lease(key, holder, lease_ms, **pinned_id)
        case 17:
            return "release", "applied", lambda engine: engine.release(key, holder, **pinned_id)
        case 18:
            return "close", "applied", lambda engine: engine.close(key, reason="logout", **pin)
        case 19 | 20:
            return "rotate", "applied", lambda engine: engine.rotate(key, attributes=attributes, policy=policy, **pin)
        case _:
            keys = [*world.plan.keys]
            return "touch many", wait, lambda engine: engine.touch_many(keys, wait=wait)


@action(110)
def a_caller_commands(world: World, draw: Random) -> None:
    """Most of what happens."""
    command(world, world.up(draw), draw)


@action(10)
def a_caller_reads(world: World, draw: Random) -> None:
    """Peeks."""
    world.read(world.up(draw), draw.choice(world.plan.keys))


@action(28)
def time_passes(world: World, draw: Random) -> None:
    """From nothing to minutes; often up to a deadline, to the millisecond."""
    by_ms = draw.choice([1, 10, 499, 999, 1_000, 2_500, draw.randrange(20_000), draw.randrange(200_000)])
    due = world.next_due(draw)
    if due is not None and draw.random() < 0.4:
        by_ms = max(0, min(due - world.brokers.now_ms + draw.choice([-1, 0, 0, 1]), 900_000))
    world.brokers.let_pass(by_ms)


@action(14)
def a_node_follows(world: World, draw: Random) -> None:
    """It folds what others wrote, as far as it has heard of that."""
    node = world.up(draw)
    world.attempt(node, lambda engine: engine._maintenance.follow() if draw.random() < 0.6 else engine.refresh())
    world.look(node)


@action(14)
def a_pruner_runs(world: World, draw: Random) -> None:
    """A pass, as the thread behind an engine makes it."""
    world.prune(world.up(draw))


@action(10)
def a_node_flushes(world: World, draw: Random) -> None:
    """Snapshot and history."""
    world.attempt(world.up(draw), lambda engine: engine.flush())


@action(10)
def a_node_publishes(world: World, draw: Random) -> None:
    """Facts and states, for what it believes to own."""
    node = world.up(draw)
    world.attempt(
        node, lambda engine: engine._duties.publish() if draw.random() < 0.7 else engine._maintenance.save_and_relieve()
    )


@action(30)
def a_service_reports(world: World, draw: Random) -> None:
    """A producer without a view: right and wrong ids, late and early, in any order."""
    world.report(draw)


@action(2)
def a_crowd_of_holders(world: World, draw: Random) -> None:
    """Seventeen jobs hold one session."""
    key = draw.choice(world.plan.keys)
    live = world.live(key)
    if live is not None:
        for number in range(17):
            held = {"session_id": live["id"], "holder": f"job-{number}", "lease_ms": 10**6}
            world.send("held", key, held, delay_ms=0)


@action(3)
def a_held_session_is_pressed(world: World, draw: Random) -> None:
    """A pruner that did not see the lease wants to end its session for capacity."""
    key = draw.choice(world.plan.keys)
    live = world.live(key)
    if live is not None:
        world.send("held", key, {"session_id": live["id"], "holder": "job", "lease_ms": 10**6}, delay_ms=0)
        pressed = {"session_id": live["id"], "reason": "memory", "deadline_ms": world.brokers.now_ms}
        world.send("expired", key, pressed, delay_ms=0)


@action(3)
def duties_move(world: World, draw: Random) -> None:
    """Other owners; all nodes hear of it."""
    world.rebalance(draw)
    world.evidence.happened["rebalance"] += 1
    for member in world.brokers.group.members.values():
        member.hear()
