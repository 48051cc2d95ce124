"""Who does the owner's duties for which partition: a consumer group whose members consume nothing.

Each engine is a member; Kafka's coordinator gives every partition to one of them, and to another within the session
timeout when that one falls silent. The group's leader decides who gets what (`owner_plan`): members keep what they
have, and a partition moves when its next owner has caught up with it. What a member has read is kept in its snapshot,
not with the group: no offset is ever committed here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from kafka import ConsumerRebalanceListener, KafkaConsumer, errors

from lastseen.engine.errors import LogError, OwnerState
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.kafka import CLIENT_ID
from lastseen.engine.log.kafka.assignor import Assigned, OwnersAssignor
from lastseen.engine.log.kafka.client import log_error, open_member
from lastseen.engine.log.kafka.library_internals import check_group, finish_rebalance, rejoin
from lastseen.engine.log.kafka.owner_lookup import OwnerLookup
from lastseen.engine.log.kafka.owner_plan import NONE, GroupMember
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.shared_log import Held, MemberSettings, Owner

SESSION_TIMEOUT_MS = 10_000
"""A member that has been silent for so long has lost its partitions."""
HEARTBEAT_MS = 500
"""How soon a member notices that the group divides its partitions again; moving one takes two rounds."""
POLL_TIMEOUT_MS = 20_000
"""Others wait for a member that does not poll any more, and so holds up a change of owners, for so long at most."""
POLL_MS = 100
DUTY = "group"
_logger = logging.getLogger("lastseen")


class _Share(NamedTuple):
    """What the group has given this member: one value, so that no reader sees half of a change."""

    owned: frozenset[int] = NONE
    incoming: frozenset[int] = NONE
    """Partitions that become ours once we have caught up with them."""
    standby: frozenset[int] = NONE


class Membership:
    """This process's place in the group (`shared_log.Duties`). A thread of its own keeps it."""

    def __init__(
        self,
        url: KafkaUrl,
        partitions: int,
        member: MemberSettings,
        held: Callable[[], Held],
        changed: Callable[[], None],
        health: DutyHealth,
    ) -> None:
        """Join the group, in a thread. Raises `UnsupportedLibrary`."""
        check_group()
        self._url = url
        self._member = member
        self._held = held
        self._changed = changed
        self._health = health
        self.group = member.group or f"{url.topic}.owners"
        self._lookup = OwnerLookup(url, self.group, partitions)
        self._share = _Share()
        self._is_member = False
        self._addresses: dict[int, str] = {}
        """Where each partition is served, as the group's leader said last."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lastseen-kafka-group", daemon=True)
        self._thread.start()

    def owned(self) -> frozenset[int]:
        """The partitions that this process owns (`shared_log.Duties`)."""
        return self._share.owned if self._is_member and not self._stop.is_set() else NONE

    def to_hold(self) -> frozenset[int]:
        """The partitions to hold, owned or not (`shared_log.Duties`)."""
        share = self._share
        return share.owned | share.incoming | share.standby

    def kept_for_others(self) -> frozenset[int]:
        """Those of them that another process owns (`shared_log.Duties`)."""
        share = self._share
        return share.incoming | share.standby

    def owner_of(self, partition: int) -> str | None:
        """The address of a partition's owner (`shared_log.Duties`)."""
        if partition in self.owned():
            return self._member.address
        address = self._addresses.get(partition)
        if address is None:
            self._lookup.look_up()
            address = self._lookup.last_known(partition).address
        return address

    def known_owner(self, partition: int) -> Owner:
        """The owner as it was known last (`shared_log.Duties`)."""
        if partition in self.owned():
            return Owner(OwnerState.LOADING)
        address = self._addresses.get(partition)
        if address is not None and address != self._member.address:
            return Owner(OwnerState.KNOWN, address)
        self._lookup.look_up_soon()
        found = self._lookup.last_known(partition)
        # What was ours has another owner by now, and an answer that names this engine would go in a circle.
        is_old = found.address is not None and found.address == self._member.address
        return Owner(OwnerState.UNKNOWN) if is_old else found

    def leave(self) -> None:
        """Leave the group, within a poll; nothing is owned from this moment on (`shared_log.Duties`)."""
        if not self._stop.is_set():
            self._stop.set()
            self._changed()

    def close(self) -> None:
        """Leave the group, and wait for that (`shared_log.Duties`)."""
        self.leave()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._take_part()
            except Exception as error:
                is_typed = isinstance(error, LogError) or not isinstance(error, (errors.KafkaError, OSError))
                self._health.failed(
                    DUTY, error if is_typed else log_error(self._url, "lost its place in the group of owners", error)
                )
            self._stop.wait(self._health.wait_s(DUTY))

    def _take_part(self) -> None:
        """Be a member until `close`, or until anything fails. Then the partitions are no longer owned here."""
        assignor = OwnersAssignor(self._says, self.assigned)
        consumer = self._join(assignor)
        try:
            while not self._stop.is_set():
                # All partitions are paused: this fetches nothing, and keeps the membership going.
                consumer.poll(timeout_ms=POLL_MS)
                finish_rebalance(consumer)
                if self._share.incoming & self._held().caught_up - assignor.reported:
                    rejoin(consumer)
                self._health.succeeded(DUTY)
        finally:
            try:
                self.lost()
            finally:
                self._leave(consumer)

    def _says(self) -> GroupMember:
        held = self._held()
        return GroupMember(
            self.owned(), held.caught_up, held.present, self._member.standbys, self._member.has_room,
            self._member.address,
        )  # fmt: skip

    def _join(self, assignor: OwnersAssignor) -> KafkaConsumer:
        address = self._member.address
        consumer = open_member(
            self._url,
            group_id=self.group,
            group_instance_id=self._member.name,
            client_id=CLIENT_ID if address is None else f"{CLIENT_ID}@{address}",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_TIMEOUT_MS,
            partition_assignment_strategy=[assignor],
        )
        consumer.subscribe([self._url.topic], listener=_Listener(self, consumer))
        return consumer

    def _leave(self, consumer: KafkaConsumer) -> None:
        try:
            consumer.close(autocommit=False, timeout_ms=2_000)
        except Exception as error:
            _logger.debug("leaving the group: %r", error)

    def assigned(self, owned: frozenset[int], more: Assigned) -> None:
        """The group has given us this, and nothing else."""
        before, self._share = self._share, _Share(owned, frozenset(more.incoming), frozenset(more.standby))
        self._addresses = more.addresses
        was_member, self._is_member = self._is_member, True
        if self._share != before or not was_member:
            _logger.info("partitions owned: %s; kept for others: %s", sorted(owned), sorted(self.kept_for_others()))
            self._changed()

    def lost(self) -> None:
        """We are no longer a member, so nothing is owned. What is held stays, until the group says what to hold."""
        if self._is_member:
            self._is_member = False
            _logger.info("partitions owned: []")
            self._changed()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Keeps the consumer from fetching; what is assigned the assignor says, all at once."""

    def __init__(self, membership: Membership, consumer: KafkaConsumer) -> None:
        self._membership = membership
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: Any) -> None:
        for each in assigned:
            # A position, so that the client looks for no committed one; it is never read from.
            self._consumer.seek(each, 0)
            self._consumer.pause(each)

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing to do: the assignor has said so."""

    def on_partitions_lost(self, lost: Any) -> None:  # noqa: ARG002
        self._membership.lost()
