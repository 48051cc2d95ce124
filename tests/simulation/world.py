"""The world of one history: brokers, nodes, true time, and the evidence of all that happens."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from lastseen.embedded.engine import Engine
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.errors import LastseenError, NotOwner
from lastseen.engine.log.port import Message
from lastseen.engine.partitioner import partition_of
from tests.simulation.brokers import Brokers
from tests.simulation.evidence import Evidence, Look, Planned, Read
from tests.simulation.node import Answer, Node
from tests.simulation.plan import Plan
from tests.simulation.reference import Folded, Reference, state_of

MARKS = ("opened", "import_finished")
"""Events about the log itself."""


class World:
    """Everything there is."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.evidence = Evidence()
        self.brokers = Brokers(plan.partitions, plan.steady)
        draw = Random(plan.seed + 1)
        self.nodes: list[Node] = []
        for number in range(plan.nodes):
            chance = Random(draw.getrandbits(32))
            place = folder / str(number)
            node = Node(number, self.brokers, place, chance, plan, self._happened)
            self.nodes.append(node)
        self.references = [Reference(n, f"/lastseen/{self.brokers.identity}") for n in range(plan.partitions)]
        self._events = 0
        self.step = 0
        """Which step it is."""
        for node in self.nodes:
            node.start()
            node.line.read_limit = plan.read_limit

    def _happened(self, fault: str) -> None:
        self.evidence.happened[fault] += 1

    # ── asking ──

    def up(self, draw: Random) -> Node:
        """Some node, which runs; it is started if it does not."""
        node = draw.choice(self.nodes)
        if node.engine is None:
            self.start(node)
        return node

    def follow(self) -> None:
        """Bring the references up to date."""
        for reference in self.references:
            reference.follow(self.brokers)

    def reference_of(self, key: str) -> Reference:
        """The reference of a key's partition."""
        return self.references[partition_of(key, self.plan.partitions)]

    def first_copies(self) -> dict[str, Folded]:
        """By event id, the first record that holds it: the one that its author hears of."""
        first: dict[str, Folded] = {}
        for reference in self.references:
            for folded in reference.folded:
                if folded.said.event is not None:
                    first.setdefault(folded.said.event["id"], folded)
        return first

    def live(self, key: str) -> dict[str, Any] | None:
        """The session under a key, as the log has it."""
        self.follow()
        reference = self.reference_of(key)
        return reference.at(key, len(reference.folded))

    def some_id(self, key: str, draw: Random) -> str:
        """An id for a command: mostly right, else a zombie's, another key's, or an unknown one."""
        chance, live = draw.random(), self.live(key)
        chronicle = self.reference_of(key).chronicle
        if chance < 0.6 and live is not None:
            return str(live["id"])
        old = chronicle.of_key.get(key, []) if chance < 0.85 else [*chronicle.keys]
        return draw.choice(old) if old and chance < 0.95 else f"an-id-of-no-session-{draw.randrange(1000):04d}"

    def next_due(self, draw: Random) -> int | None:
        """The deadline of some live session."""
        self.follow()
        due = [
            deadline[0]
            for reference in self.references
            for session_id in reference.partition.by_id
            if (deadline := reference.chronicle.deadline(session_id, len(reference.folded))) is not None
            and deadline[0] > self.brokers.now_ms
        ]
        return draw.choice(sorted(due)) if due else None

    # ── doing ──

    def start(self, node: Node) -> None:
        """Start a node that is down, and compare what it knows with what the log says."""
        try:
            engine = node.start()
        except LastseenError as error:
            self.evidence.errors.append(f"node {node.number} did not start: {error!r}")
            raise
        node.line.read_limit = self.plan.read_limit
        self.follow()
        for partition, reference in zip(engine._views.partitions, self.references, strict=True):
            if not node.holds(partition.number):
                continue
            known, wanted = state_of(partition, engine._state.statistics), reference.state()
            unlike = [
                f"{name}: {known[name]} instead of {wanted[name]}" for name in wanted if known[name] != wanted[name]
            ]
            if unlike:
                self.evidence.restored.append((node.number, f"partition {partition.number}: {unlike[0]}"))
        self.look(node)

    def attempt(self, node: Node, work: Callable[[Engine], Any], *, may_fail: bool = False) -> LastseenError | None:
        """Let a node do something in the background; an error that no fault explains is evidence."""
        node.line.failed = False
        before = sum(self.evidence.happened.values())
        error = node.do(work)
        if isinstance(error, NotOwner):
            return error
        if error is not None and not may_fail and sum(self.evidence.happened.values()) == before:
            self.evidence.errors.append(f"node {node.number}: {''.join(traceback.format_exception(error)[-4:])}")
        if node.engine is not None:
            node.line.appended = []
        return error

    def answered(self, node: Node, answer: Answer | None) -> None:
        """Take note of what a caller received."""
        if answer is not None:
            self.evidence.answers.append(answer)
            self.read(node, answer.key)

    def read(self, node: Node, key: str) -> None:
        """A node shows a key."""
        found: list[Any] = []
        if self.attempt(node, lambda engine: found.append(engine.get(key))) is not None:
            return
        partition = node.running._views.partition_of(key)
        view = found[0]
        seen = None if view is None else {"id": view.session_id, "version": view.version, "deadline": view.deadline_ms}
        now_ms = max(node.clock.now_ms(), partition.log_time_ms)  # a clock that was set back revives nothing
        self.evidence.reads.append(Read(node.number, partition.number, partition.checkpoint, key, now_ms, seen))

    def look(self, node: Node) -> None:
        """Take note of a node's digests."""
        if node.engine is not None:
            for partition in node.running._views.partitions:
                look = Look(node.number, partition.number, partition.checkpoint, partition.digest)
                self.evidence.looks.append(look)

    def prune(self, node: Node) -> None:
        """A pruner's pass; under pressure, beside whom it should end."""
        error = self.attempt(node, lambda engine: engine.refresh())
        if error is None:
            now_ms = node.clock.now_ms()
            owned = node.running._duties.announced_by_us()
            plan = node.running._pruner.plan(now_ms)
            planned = [due.session_id for due in plan.due if due.reason == "capacity"]
            due = len(plan.due) - len(planned)
            most = self.plan.settings["max_sessions"]
            excess = 0 if most is None else node.running.count() - due - most
            every = range(self.plan.partitions)
            expected = self._least_used(
                node, now_ms, excess, owned, every, {each.session_id for each in plan.due[:due]}
            )
            self.evidence.planned.append(Planned(node.number, "capacity", planned, expected))
            self.attempt(node, lambda engine: engine._maintenance.prune())

    def relieve(self, node: Node) -> None:
        """What is done when memory is short."""
        now_ms, engine = node.clock.now_ms(), node.running
        planned = [due.session_id for due in engine._pruner.plan_memory(now_ms, 2).due]
        owned = engine._duties.announced_by_us()
        expected = self._least_used(node, now_ms, 2, owned, owned, set())
        self.evidence.planned.append(Planned(node.number, "memory", planned, expected))
        self.attempt(node, lambda engine: engine._maintenance.relieve_memory())

    def _least_used(self, node: Node, now_ms: int, count: int, owned: Any, among: Any, planned: set[str]) -> list[str]:
        """The least recently used of a node's sessions that may be ended, by looking at all in some partitions."""
        chronicles = [reference.chronicle for reference in self.references]
        found = []
        for partition in node.running._views.partitions:
            if partition.number not in among:
                continue
            chronicle, before = chronicles[partition.number], partition.checkpoint
            self.follow()
            at_ms = max(now_ms, partition.log_time_ms)
            for session_id in partition.by_id:
                if session_id in planned or chronicle.suspended_at(session_id, before) is not None:
                    continue
                if any(until > at_ms for until in chronicle.leases(session_id, before).values()):
                    continue
                offset = chronicle.last_active_offset(session_id, before)
                used_ms = chronicle.last_active(session_id, before)
                found.append((offset, used_ms, partition.number, session_id))
        return merged(found, count, owned)

    # ── producers ──

    def event(self, name: str, key: str, what: dict[str, Any], off_ms: int) -> bytes:
        """An event as some service writes it, by a clock that is off by so much."""
        self._events += 1
        event = {
            "specversion": "1.0",
            "id": f"event-{self._events}",
            "source": "/service",
            "type": f"lastseen.{'log' if name in MARKS else 'session'}.{name}.v1",
            "subject": key,
            "time": iso_from_ms(self.brokers.now_ms + off_ms),
            "datacontenttype": "application/json",
            "data": what,
        }
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()

    def send(
        self, name: str, key: str, what: dict[str, Any], *, delay_ms: int, off_ms: int = 0, astray: int = 0
    ) -> None:
        """A service sends an event; `astray` partitions beyond that of the key, if its partitioner is another."""
        number = (partition_of(key, self.plan.partitions) + astray) % self.plan.partitions
        message = Message(number, key, self.event(name, key, what, off_ms))
        self.brokers.send([message], delay_ms)
        self.brokers.let_pass(0)

    def report(self, draw: Random) -> None:
        """A service without a view reports what it believes."""
        key = draw.choice(self.plan.keys)
        name = draw.choice(
            ["created"] * 3 + ["touched"] * 3 + ["expired"] * 4
            + ["suspended", "resumed", "held", "released", "closed", "pressed", "replaced", "opened"]
        )  # fmt: skip
        what: dict[str, Any] = {"session_id": self.some_id(key, draw)}
        now_ms = self.brokers.now_ms
        if name in ("created", "replaced"):
            if name == "replaced":
                what = {"session_id": f"reported-session-{self._events:06d}", "replaces": what["session_id"]}
            elif draw.random() < 0.6:
                what = {"session_id": f"reported-session-{self._events:06d}"}
            what |= {"policy": draw.choice(self.plan.policies), "attributes": draw.choice([{}, {"owner": "u1"}])}
        elif name == "touched" and draw.random() < 0.5:
            what |= {"message": "hi", "policy": draw.choice(self.plan.policies)}
        elif name in ("held", "released"):
            what["holder"] = draw.choice("abc")
            if name == "held":
                what["lease_ms"] = draw.choice([400, 10**6])
        elif name == "expired":
            what |= {"reason": draw.choice(["idle", "max_age", "suspend_ttl"]), "deadline_ms": now_ms}
        elif name == "pressed":
            what |= {"reason": draw.choice(["capacity", "memory"]), "deadline_ms": now_ms}
        elif name == "closed":
            what["reason"] = "reported"
        elif name == "opened":
            name = draw.choice(MARKS)
            what = {"log_id": "another", "partition": 0, "partitions": 1, "imports": True} if name == "opened" else {}
        if name not in MARKS and draw.random() < 0.15:
            what["if_version"] = draw.randrange(0, 5)
        off_ms = draw.choice([0, 0, 0, 0, -5_000, 59_000, -500_000, 61_000, -601_000])
        delay_ms = draw.choice([0, 0, 0, 5, 1_000, 20_000])
        astray = draw.choice([0] * 9 + [1])
        self.send(name.replace("pressed", "expired").replace("replaced", "created"), key, what,
                  delay_ms=delay_ms, off_ms=off_ms, astray=astray)  # fmt: skip

    def rebalance(self, draw: Random) -> None:
        """Each partition gets some owner."""
        self.brokers.group.assign([draw.randrange(self.plan.nodes) for _ in range(self.plan.partitions)])


def merged(found: list[tuple[int, int, int, str]], count: int, owned: Any) -> list[str]:
    """The first `count` in LRU order, and of them those that are ours.

    Within a partition the order of the log is the order of use; between partitions, log time.
    """
    lines: dict[int, list[tuple[int, int, int, str]]] = {}
    for each in sorted(found):
        lines.setdefault(each[2], []).append(each)
    order = []
    while any(lines.values()):
        first = min((line for line in lines.values() if line), key=lambda line: (line[0][1], line[0][2]))
        order.append(first.pop(0))
    return [session_id for _, _, number, session_id in order[: max(count, 0)] if number in owned]
