"""Bodies: the attributes and the newest messages of live sessions, the heavy part, under a memory bound.

Whole bodies are kept in an LRU cache over the snapshot; what the snapshot does not hold yet is kept beside it until the
next flush. So a body can leave memory at any time and nothing is lost, and the fold never reads the disk: a change to a
body that is not in memory is only noted, and joined with the rest when the body is read or flushed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from lastseen.engine import events
from lastseen.engine.merge_patch import merge_patch
from lastseen.engine.verdicts import Verdict
from lastseen.projections.facts import Effect
from lastseen.projections.partition import Outcome, Partition

DEFAULT_MAX_BODY_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 200
"""What a body or a message costs in memory beside its JSON, roughly."""


class BodyId(NamedTuple):
    """Names a session's body: its partition and the offset of its `created` record."""

    partition: int
    born_offset: int


class Message(NamedTuple):
    """One message of a session."""

    offset: int
    event_id: str
    at_ms: int
    json: bytes
    """The message as compact JSON, as it is stored."""

    @property
    def value(self) -> Any:
        """The message as it was given to `touch`: any JSON value, a new object at each call."""
        return msgspec.json.decode(self.json)


@dataclass(slots=True)
class Body:
    """A whole body."""

    attributes: dict[str, Any] = field(default_factory=dict)
    messages: OrderedDict[str, Message] = field(default_factory=OrderedDict)
    """By event id, oldest first."""

    cost_bytes: int = _ENTRY_BYTES
    """What it takes in memory, roughly; kept as it changes, since adding it up would cost the whole ring."""

    reached: int = 0
    """The snapshot that it was read from holds all changes before this offset."""

    def take(self, step: Step) -> None:
        """One applied touch, unless it was in the snapshot already."""
        if step.offset >= self.reached:
            self.change(step.patch, step.message, step.keep)

    def change(self, patch: dict[str, Any] | None, message: Message | None, keep: int | None) -> None:
        """One applied touch: patch the attributes; add the message unless its event is in the ring; keep the newest."""
        if patch is not None:
            self.set_attributes(merge_patch(self.attributes, patch))
        if message is not None and message.event_id not in self.messages:
            self.messages[message.event_id] = message
            self.cost_bytes += _ENTRY_BYTES + len(message.json)
            while keep is not None and len(self.messages) > keep:
                _, oldest = self.messages.popitem(last=False)
                self.cost_bytes -= _ENTRY_BYTES + len(oldest.json)

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        """Put `attributes` in the place of what is there."""
        self.cost_bytes += _weight(attributes) - _weight(self.attributes)
        self.attributes = attributes

    def copy(self) -> Body:
        """A body that shares nothing with this one that ever changes."""
        return Body(self.attributes, self.messages.copy(), self.cost_bytes, self.reached)


def _weight(value: Any) -> int:
    # Parsed JSON takes about twice its text.
    return 2 * len(msgspec.json.encode(value)) if value else 0


class Step(NamedTuple):
    """One change of a body."""

    offset: int
    """The record that changed it."""
    patch: dict[str, Any] | None
    message: Message | None
    keep: int | None
    """How many messages the policy keeps; `None` keeps all."""

    def cost_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return _ENTRY_BYTES + _weight(self.patch) + (0 if self.message is None else len(self.message.json))


@dataclass(slots=True)
class Unsaved:
    """What happened to a body since the last flush."""

    attributes: dict[str, Any] | None = None
    """What the session was created with, if that was since the last flush."""
    steps: list[Step] = field(default_factory=list)

    def after(self, born_offset: int, checkpoint: int) -> Unsaved:
        """What of it a snapshot that has reached `checkpoint` does not hold yet."""
        attributes = self.attributes if born_offset >= checkpoint else None
        return Unsaved(attributes, [step for step in self.steps if step.offset >= checkpoint])

    def following(self, earlier: Unsaved | None) -> Unsaved:
        """What happened, where `earlier` came before; it may hold the beginning of this already."""
        if earlier is None or earlier is self:
            return self
        last = earlier.steps[-1].offset if earlier.steps else -1
        return Unsaved(earlier.attributes, earlier.steps + [step for step in self.steps if step.offset > last])

    def cost_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return _weight(self.attributes) + sum(step.cost_bytes() for step in self.steps)

    def join(self, body: Body) -> Body:
        """Bring `body`, as the snapshot has it, up to date; returns it."""
        if self.attributes is not None:
            body.set_attributes(self.attributes)
        for step in self.steps:
            body.take(step)
        return body


class BodyStore(Protocol):
    """Where bodies are when they are not in memory: the snapshot."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held from the moment when a flush takes the unsaved changes until they are committed or given back."""
        ...

    def load_body(self, body_id: BodyId) -> Body:
        """The body as last flushed; an empty one if there is none."""
        ...


def _ignore_growth() -> None:
    pass


class Bodies:
    """The bodies of all live sessions. All but `read` expects the caller to hold the view's lock."""

    def __init__(self, max_body_bytes: int = DEFAULT_MAX_BODY_BYTES) -> None:
        self._max_bytes = max_body_bytes
        self._whole: OrderedDict[BodyId, tuple[Body, int]] = OrderedDict()
        self.whole_bytes = 0
        self._unsaved: dict[BodyId, Unsaved] = {}
        self._taken: dict[BodyId, Unsaved] | None = None
        """What a flush is writing."""
        self.hits = 0
        self.misses = 0
        self.evictions: Counter[str] = Counter()
        """By cause: `capacity` (the bound), `memory` (pressure)."""
        self._grown_bytes = 0
        self._step_bytes, self._on_growth = 0, _ignore_growth

    def call_every(self, step_bytes: int, on_growth: Callable[[], None]) -> None:
        """Call `on_growth` whenever another `step_bytes` were taken in: be quick, the view's lock may be held."""
        self._step_bytes, self._on_growth = step_bytes, on_growth

    def _grow(self, by_bytes: int) -> None:
        self._grown_bytes += by_bytes
        if self._grown_bytes >= self._step_bytes:
            self._grown_bytes = 0
            self._on_growth()

    hears_touches = False
    """A plain touch changes no body (`follower.Listener`)."""

    def on_touch(self, number: int, effect: Effect) -> None:
        """Nothing to note."""

    def on_record(self, partition: Partition, outcome: Outcome) -> None:
        """Note what a record did to bodies. To be called right after it was folded: how many messages are kept is a
        matter of the limits as they were then."""
        _, event, verdict, _, session, ended, _ = outcome
        if ended is not None and (self._whole or self._unsaved):
            self._drop(BodyId(partition.number, ended.born_offset))
        if session is None or verdict is not Verdict.APPLIED:
            return
        if type(event) is events.Touched:
            if event.data.attributes is not None or event.data.message is not None:
                self._touch(BodyId(partition.number, session.born_offset), outcome, event)
        elif type(event) is events.Created and event.data.attributes:
            # An empty body costs nothing: no memory, no row.
            body_id = BodyId(partition.number, session.born_offset)
            self._unsaved[body_id] = Unsaved(attributes=event.data.attributes)
            self._keep(body_id, self._unsaved[body_id].join(Body()))
            self._grow(self._unsaved[body_id].cost_bytes())

    def _touch(self, body_id: BodyId, outcome: Outcome, event: events.Touched) -> None:
        message = None
        if event.data.message is not None:
            value = msgspec.json.encode(event.data.message)
            message = Message(outcome.record.offset, event.id, outcome.at_ms, value)
        assert outcome.session is not None
        step = Step(outcome.record.offset, event.data.attributes, message, outcome.session.policy.max_messages)
        self._unsaved.setdefault(body_id, Unsaved()).steps.append(step)
        whole = self._whole.get(body_id)
        if whole is not None:
            whole[0].take(step)
            self._keep(body_id, whole[0])
        self._grow(step.cost_bytes())

    def in_memory(self, body_id: BodyId) -> dict[str, Any] | None:
        """The attributes of a body that is in memory, else `None`. Counts as no use of it."""
        whole = self._whole.get(body_id)
        return None if whole is None else whole[0].attributes

    def read(self, body_id: BodyId, store: BodyStore, view_lock: AbstractContextManager[Any]) -> Body:
        """The body as it is now, from memory or from the snapshot. It belongs to the cache: copy before you change it.

        Raises `SnapshotError` where it must be read from the snapshot and cannot.
        """
        with view_lock:
            whole = self._whole.get(body_id)
            if whole is not None:
                self.hits += 1
                self._whole.move_to_end(body_id)
                return whole[0].copy()
        with store.lock:
            body = store.load_body(body_id)
            with view_lock:
                self.misses += 1
                unsaved = self._unsaved.get(body_id)
                if self._taken is not None:  # an interrupt kept a flush from taking it back
                    earlier = self._taken.get(body_id)
                    unsaved = earlier if unsaved is None else unsaved.following(earlier)
                if unsaved is not None:
                    unsaved.after(body_id.born_offset, body.reached).join(body)
                self._keep(body_id, body)
                self._grow(body.cost_bytes)
                return body.copy()

    def take_unsaved(self) -> dict[BodyId, Unsaved]:
        """Hand all unsaved changes to a flush, which says `written` or `take_back` afterwards."""
        self._taken = self._unsaved
        self._unsaved = {}
        return self._taken

    def written(self) -> None:
        """What was taken is in the snapshot."""
        self._taken = None

    def take_back(self, ended: Iterable[BodyId]) -> None:
        """Take unsaved changes back that were not written, before those that came meanwhile.

        Costs what came meanwhile. Where an interrupt ends it, the next call completes it.
        """
        taken = self._taken
        if taken is None:
            return
        for body_id in ended:
            taken.pop(body_id, None)
        if taken is not self._unsaved:
            for body_id, later in self._unsaved.items():
                taken[body_id] = later.following(taken.get(body_id))
            self._unsaved = taken
        self._taken = None

    def forget(self, number: int) -> None:
        """Drop everything of one partition, written or not."""
        for body_id in [each for each in self._whole if each.partition == number]:
            self._forget_whole(body_id)
        for unsaved in (self._unsaved, self._taken or {}):
            for body_id in [each for each in unsaved if each.partition == number]:
                del unsaved[body_id]

    def shrink(self, to_bytes: int, cause: str) -> None:
        """Let whole bodies leave memory, least recently used first, until they take at most `to_bytes`."""
        while self._whole and self.whole_bytes > to_bytes:
            _, (_, cost) = self._whole.popitem(last=False)
            self.whole_bytes -= cost
            self.evictions[cause] += 1

    def _keep(self, body_id: BodyId, body: Body) -> None:
        self._forget_whole(body_id)
        self._whole[body_id] = (body, body.cost_bytes)
        self.whole_bytes += body.cost_bytes
        self.shrink(self._max_bytes, "capacity")

    def _forget_whole(self, body_id: BodyId) -> None:
        whole = self._whole.pop(body_id, None)
        if whole is not None:
            self.whole_bytes -= whole[1]

    def _drop(self, body_id: BodyId) -> None:
        self._forget_whole(body_id)
        self._unsaved.pop(body_id, None)
