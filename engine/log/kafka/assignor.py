"""The plan of owners (`owner_plan`) as Kafka's group protocol carries it: cooperative, with what each member knows.

A member says, when it joins, which partitions it has caught up with, and where it is reached; the leader's answer tells
it which partitions to load, which to hold for others, and where each partition is served. So no member asks the broker
for owners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from lastseen.engine.log.kafka.owner_plan import GroupMember, plan_owners

NAME = "lastseen-owners"


class _Says(msgspec.Struct, array_like=True):
    """What a member adds to its subscription."""

    caught_up: list[int] = []
    present: list[int] = []
    standbys: int = 0
    has_room: bool = True
    address: str | None = None


class Assigned(msgspec.Struct, array_like=True):
    """What the leader adds to a member's partitions."""

    incoming: list[int] = []
    """To load, and to own as soon as they have caught up."""
    standby: list[int] = []
    """To hold for the case that their owner fails."""
    addresses: dict[int, str] = {}
    """Where each partition is served; none for a member that gave no address."""
    members: int = 0
    """How many members the group has."""


class OwnersAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Assigns by `plan_owners`. One for each consumer."""

    name = NAME

    def __init__(self, member: Callable[[], GroupMember], assigned: Callable[[frozenset[int], Assigned], None]) -> None:
        """`member` says what this process holds, whenever it joins; `assigned` is called with the partitions that it
        owns from then on, and with the rest of the leader's answer."""
        super().__init__()
        self._member, self._assigned = member, assigned
        self.reported: frozenset[int] = frozenset()
        """What this member said, when it joined last, that it has caught up with."""

    def metadata(self, topics: Any) -> Any:
        """The subscription, with what this member says of itself."""
        member = self._member()
        self.reported = member.caught_up
        subscription = super().metadata(topics)
        says = _Says(sorted(member.caught_up), sorted(member.present), member.standbys, member.has_room, member.address)
        subscription.user_data = msgspec.json.encode(says)
        return subscription

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """What each member gets (`AbstractPartitionAssignor.assign`)."""
        joined = {each.member_id: _member_of(each.metadata) for each in members}
        (topic,) = {topic for each in members for topic in each.metadata.topics}
        plan = plan_owners(sorted(cluster.partitions_for_topic(topic) or ()), joined)
        addresses = {
            number: address for number, name in plan.serving.items() if (address := joined[name].address) is not None
        }
        return {
            name: self._assignment(
                topic,
                plan.owned[name],
                Assigned(sorted(plan.incoming[name]), sorted(plan.standby[name]), addresses, len(joined)),
            )
            for name in joined
        }

    def _assignment(self, topic: str, owned: frozenset[int], more: Assigned) -> Any:
        return ConsumerProtocolAssignment(self.version, [(topic, sorted(owned))], msgspec.json.encode(more))

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """This member's part (`AbstractPartitionAssignor.on_assignment`)."""
        super().on_assignment(assignment, generation)
        owned = frozenset(each.partition for each in assignment.partitions())
        self._assigned(owned, _decoded(assignment.user_data, Assigned))


def _member_of(metadata: Any) -> GroupMember:
    says = _decoded(metadata.user_data, _Says)
    owned = {partition for each in metadata.owned_partitions or () for partition in each.partitions}
    return GroupMember(
        frozenset(owned), frozenset(says.caught_up), frozenset(says.present), says.standbys, says.has_room, says.address
    )


def _decoded(user_data: bytes | None, kind: type[Any]) -> Any:
    """What a member, or the leader, says; nothing where it cannot be read: a later version may say it otherwise."""
    try:
        return msgspec.json.decode(user_data or b"[]", type=kind)
    except msgspec.MsgspecError:
        return kind()
