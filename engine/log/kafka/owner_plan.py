"""Which member of the group owns which partition, and which members keep a copy of it ready: pure, and the same for
the same members.

A partition moves only to a member that has caught up with it (Kafka Streams does the same, KIP-441). Until then its
owner keeps it, and the member that is to have it loads it. A partition without an owner goes at once to a member that
has caught up with it, if there is one. Ownership is spread evenly in the end: no member owns two partitions more than
another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

NONE: frozenset[int] = frozenset()


class GroupMember(NamedTuple):
    """What a member says of itself when it joins."""

    owned: frozenset[int] = NONE
    """The partitions that it owns now."""
    caught_up: frozenset[int] = NONE
    """Those that it could serve at once."""
    present: frozenset[int] = NONE
    """Those that it holds or loads."""
    standbys: int = 0
    """How many members besides the owner are to hold each partition, as far as it is concerned."""
    has_room: bool = True
    """Whether it holds partitions for others; a member that holds everything needs none assigned."""
    address: str | None = None


class OwnerPlan(NamedTuple):
    """What each member is to do after this round."""

    owned: dict[str, frozenset[int]]
    """The partitions that each member owns from now on."""
    incoming: dict[str, frozenset[int]]
    """Those that are to become a member's once it has caught up: it loads them, and joins again then."""
    standby: dict[str, frozenset[int]]
    """Those that a member holds for the case that their owner fails."""
    serving: dict[int, str]
    """For each partition the member to ask: its owner, or the member that is ready and owns it after the next round."""


def plan_owners(partitions: Sequence[int], members: Mapping[str, GroupMember]) -> OwnerPlan:
    """Divide partitions among members, none of which loses one before another can serve it."""
    before = {number: name for name in sorted(members) for number in sorted(members[name].owned)}
    interim = _interim(partitions, members, before)
    final = _balanced(interim, members)
    serving = {}
    for number, name in interim.items():
        is_lost_anyway = number not in before and number not in members[name].caught_up
        serving[number] = final[number] if number in members[final[number]].caught_up or is_lost_anyway else name
    owned: dict[str, set[int]] = {name: set() for name in members}
    incoming: dict[str, set[int]] = {name: set() for name in members}
    for number, name in serving.items():
        if before.get(number, name) == name:
            owned[name].add(number)
        else:  # its owner gives it up in this round; in the next one, without an owner, it goes to `name`
            incoming[name].add(number)
        if final[number] != name:
            incoming[final[number]].add(number)
    standby = _standbys(serving, final, members)
    return OwnerPlan(_frozen(owned), _frozen(incoming), _frozen(standby), serving)


def _interim(
    partitions: Sequence[int], members: Mapping[str, GroupMember], before: Mapping[int, str]
) -> dict[int, str]:
    """The owners there are, and for each partition without one the best there is now."""
    interim = {number: before[number] for number in partitions if number in before}
    load = Counter(interim.values())
    left = {number: _candidates(members, number) for number in partitions if number not in before}
    for number in sorted(left, key=lambda each: (len(left[each]), each)):
        name = min(left[number], key=lambda each: (load[each], each))
        interim[number] = name
        load[name] += 1
    return interim


def _candidates(members: Mapping[str, GroupMember], number: int) -> list[str]:
    """The members that can have a partition at once; those that have begun to load it; else all."""
    ready = [name for name, member in members.items() if number in member.caught_up]
    return ready or [name for name, member in members.items() if number in member.present] or list(members)


def _balanced(interim: Mapping[int, str], members: Mapping[str, GroupMember]) -> dict[int, str]:
    """The owners in the end: as few partitions as possible move, those first that their new owner knows."""
    final = dict(interim)
    while True:
        load = Counter(dict.fromkeys(members, 0))
        load.update(final.values())
        most = min(members, key=lambda name: (-load[name], name))
        least = min(members, key=lambda name: (load[name], name))
        if load[most] - load[least] <= 1:
            return final
        member = members[least]
        final[
            min(
                (number for number, name in final.items() if name == most),
                key=lambda number: (number not in member.caught_up, number not in member.present, number),
            )
        ] = least


def _standbys(
    serving: Mapping[int, str], final: Mapping[int, str], members: Mapping[str, GroupMember]
) -> dict[str, set[int]]:
    """For each member the partitions that it holds for others, besides those that are to become its own."""
    standby: dict[str, set[int]] = {name: set() for name in members}
    wanted = max((member.standbys for member in members.values()), default=0)
    for number in sorted(serving):
        holders = {serving[number], final[number]}
        # One that loads the partition to own it is a copy, too; and one that holds everything is one already.
        left = wanted - (len(holders) - 1)
        left -= sum(not member.has_room for name, member in members.items() if name not in holders)
        free = [name for name, member in members.items() if name not in holders and member.has_room]
        free.sort(key=lambda name: (*_distance(members[name], number), len(standby[name]), name))
        for name in free[: max(left, 0)]:
            standby[name].add(number)
    return standby


def _distance(member: GroupMember, number: int) -> tuple[bool, bool]:
    return number not in member.caught_up, number not in member.present


def _frozen(sets: Mapping[str, set[int]]) -> dict[str, frozenset[int]]:
    return {name: frozenset(numbers) for name, numbers in sets.items()}
