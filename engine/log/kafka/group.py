"""Who does the owner's duties for which partition: a consumer group whose members consume nothing.

Each engine is a member; Kafka's coordinator gives every partition to one of them, and to another within the session
timeout when that one falls silent. Assignment is cooperative-sticky: those who stay keep what they have. What a member
has read is kept in its snapshot, not with the group: no offset is ever committed here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from lastseen.engine.errors import LogError, OwnerState
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.kafka import CLIENT_ID
from lastseen.engine.log.kafka.client import log_error, open_admin, open_member
from lastseen.engine.log.kafka.library_internals import check_group, finish_rebalance
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.shared_log import Owner

SESSION_TIMEOUT_MS = 10_000
"""A member that has been silent for so long has lost its partitions."""
HEARTBEAT_MS = 1_000
POLL_TIMEOUT_MS = 20_000
"""Others wait for a member that does not poll any more, and so holds up a change of owners, for so long at most."""
POLL_MS = 200
DUTY = "group"
ADDRESSES_FRESH_S = 2.0
"""How long an answer about owners' addresses is good for."""
_SETTLED = ("Stable", "Empty", "Dead")
"""The states of a group that is not dividing partitions."""
_logger = logging.getLogger("lastseen")


class Membership:
    """This process's place in the group (`shared_log.Duties`). A thread of its own keeps it."""

    def __init__(
        self,
        url: KafkaUrl,
        partitions: int,
        *,
        group: str | None,
        member: str | None,
        address: str | None,
        changed: Callable[[], None],
        health: DutyHealth,
    ) -> None:
        """Join the group, in a thread. Raises `UnsupportedLibrary`."""
        check_group()
        self._url = url
        self._partitions = partitions
        self.group = group or f"{url.topic}.owners"
        self._member = member
        self._address = address
        self._changed = changed
        self._owned: frozenset[int] = frozenset()
        self._stop = threading.Event()
        self._looking_up = threading.Lock()
        self._owners: dict[int, Owner] = {}
        self._looked_up_s = float("-inf")
        self._health = health
        self._thread = threading.Thread(target=self._run, name="lastseen-kafka-group", daemon=True)
        self._thread.start()

    def owned(self) -> frozenset[int]:
        """The partitions that this process owns (`shared_log.Duties`)."""
        return frozenset() if self._stop.is_set() else self._owned

    def owner_of(self, partition: int) -> str | None:
        """The address of a partition's owner (`shared_log.Duties`)."""
        if partition in self._owned:
            return self._address
        self._look_up()
        return self._last_known(partition).address

    def known_owner(self, partition: int) -> Owner:
        """The owner as it was known last (`shared_log.Duties`)."""
        if partition in self._owned:
            return Owner(OwnerState.LOADING)
        if time.monotonic() - self._looked_up_s > ADDRESSES_FRESH_S and not self._looking_up.locked():
            threading.Thread(target=self._try_look_up, name="lastseen-kafka-owners", daemon=True).start()
        found = self._last_known(partition)
        # What was ours has another owner by now, and an answer that names this engine would go in a circle.
        is_old = found.address is not None and found.address == self._address
        return Owner(OwnerState.UNKNOWN) if is_old else found

    def _last_known(self, partition: int) -> Owner:
        return self._owners.get(partition, Owner(OwnerState.UNKNOWN))

    def _look_up(self) -> None:
        with self._looking_up:
            if time.monotonic() - self._looked_up_s > ADDRESSES_FRESH_S:
                self._owners |= _owners_of(self._url, self.group, self._partitions)
                self._looked_up_s = time.monotonic()

    def _try_look_up(self) -> None:
        try:
            self._look_up()
        except Exception as error:
            _logger.info("the owners' addresses could not be read: %s", error)

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
        consumer = self._join()
        try:
            while not self._stop.is_set():
                # All partitions are paused: this fetches nothing, and keeps the membership going.
                consumer.poll(timeout_ms=POLL_MS)
                finish_rebalance(consumer)
                self._health.succeeded(DUTY)
        finally:
            try:
                self._set_owned(frozenset())
            finally:
                self._leave(consumer)

    def _join(self) -> KafkaConsumer:
        consumer = open_member(
            self._url,
            group_id=self.group,
            group_instance_id=self._member,
            client_id=CLIENT_ID if self._address is None else f"{CLIENT_ID}@{self._address}",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_TIMEOUT_MS,
            partition_assignment_strategy=[CooperativeStickyAssignor],
        )
        consumer.subscribe([self._url.topic], listener=_Listener(self, consumer))
        return consumer

    def _leave(self, consumer: KafkaConsumer) -> None:
        try:
            consumer.close(autocommit=False, timeout_ms=2_000)
        except Exception as error:
            _logger.debug("leaving the group: %r", error)

    def _set_owned(self, partitions: frozenset[int]) -> None:
        if partitions != self._owned:
            _logger.info("partitions owned: %s", sorted(partitions))
            self._owned = partitions
            self._changed()

    def add(self, partitions: set[int]) -> None:
        """The group has given us these."""
        self._set_owned(self._owned | partitions)

    def remove(self, partitions: set[int]) -> None:
        """The group has taken these from us."""
        self._set_owned(self._owned - partitions)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, membership: Membership, consumer: KafkaConsumer) -> None:
        self._membership = membership
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: Any) -> None:
        for each in assigned:
            # A position, so that the client looks for no committed one; it is never read from.
            self._consumer.seek(each, 0)
            self._consumer.pause(each)
        self._membership.add({each.partition for each in assigned})

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._membership.remove({each.partition for each in revoked})

    def on_partitions_lost(self, lost: Any) -> None:
        self._membership.remove({each.partition for each in lost})


def _owners_of(url: KafkaUrl, group: str, partitions: int) -> dict[int, Owner]:
    """Partition → its owner, by what the group's coordinator says.

    While the group divides the partitions, the coordinator knows only some owners, or none: the others are left out.
    """
    admin = open_admin(url)
    try:
        found = admin.describe_groups([group])[group]
    except (errors.KafkaError, OSError) as error:
        raise log_error(url, "cannot report the owners", error) from None
    finally:
        admin.close()
    is_settled = found["group_state"] in _SETTLED
    owners = dict.fromkeys(range(partitions), Owner(OwnerState.VACANT)) if is_settled else {}
    for member in found["members"]:
        _, _, address = member["client_id"].partition("@")
        owner = Owner(OwnerState.KNOWN, address) if address else Owner(OwnerState.UNNAMED)
        assignment = member["member_assignment"]
        for topic in assignment["assigned_partitions"] if assignment else ():
            for partition in topic["partitions"] if topic["topic"] == url.topic else ():
                owners[partition] = owner
    return owners
