"""The simulated group of owners: who owns which partition, and who still believes so."""

from __future__ import annotations

from lastseen.engine.errors import OwnerState
from lastseen.engine.log.shared_log import Owner


class Member:
    """One node's duties (`shared_log.Duties`): what it believes to own, which may be out of date."""

    def __init__(self, node: int, group: Group) -> None:
        self._node = node
        self._group = group
        self.believed: frozenset[int] = frozenset()

    def hear(self) -> None:
        """The node learns what it owns now."""
        self.believed = self._group.share_of(self._node)

    def owned(self) -> frozenset[int]:
        """The partitions that this node believes to own."""
        return self.believed

    def to_hold(self) -> frozenset[int]:
        """A node holds what it believes to own."""
        return self.believed

    def kept_for_others(self) -> frozenset[int]:
        """There are no standbys here."""
        return frozenset()

    def owner_of(self, partition: int) -> str | None:  # noqa: ARG002
        """No member gives an address here."""
        return None

    def known_owner(self, partition: int) -> Owner:  # noqa: ARG002
        """No member gives an address here."""
        return Owner(OwnerState.UNKNOWN)

    def leave(self) -> None:
        """Release what is owned."""
        self.believed = frozenset()

    def close(self) -> None:
        """Release what is owned."""
        self.believed = frozenset()


class Group:
    """Gives each partition to one node."""

    def __init__(self, partitions: int) -> None:
        self.owners: list[int] = [0] * partitions
        self.members: dict[int, Member] = {}

    def join(self, node: int) -> Member:
        """A node takes part; it hears at once what it owns."""
        member = self.members[node] = Member(node, self)
        member.hear()
        return member

    def share_of(self, node: int) -> frozenset[int]:
        """What a node owns in truth."""
        return frozenset(number for number, owner in enumerate(self.owners) if owner == node)

    def assign(self, owners: list[int]) -> None:
        """Other owners from now on; who does not hear of it is a zombie."""
        self.owners = owners
