"""Who owns what, as the group's coordinator says: for partitions of which the group's leader has named no address."""

from __future__ import annotations

import logging
import threading
import time

from kafka import errors

from lastseen.engine.errors import OwnerState
from lastseen.engine.log.kafka.client import log_error, open_admin
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.shared_log import Owner

ADDRESSES_FRESH_S = 2.0
"""How long an answer about owners' addresses is good for."""
_SETTLED = ("Stable", "Empty", "Dead")
"""The states of a group that is not dividing partitions."""
_logger = logging.getLogger("lastseen")


class OwnerLookup:
    """Asks for the owners, at most every `ADDRESSES_FRESH_S`, and remembers them. Safe to call from many threads."""

    def __init__(self, url: KafkaUrl, group: str, partitions: int) -> None:
        self._url, self._group, self._partitions = url, group, partitions
        self._looking_up = threading.Lock()
        self._owners: dict[int, Owner] = {}
        self._looked_up_s = float("-inf")

    def last_known(self, partition: int) -> Owner:
        """The owner as it was found last."""
        return self._owners.get(partition, Owner(OwnerState.UNKNOWN))

    def look_up(self) -> None:
        """Ask, unless that was done a moment ago. Raises `LogUnavailable`."""
        with self._looking_up:
            if time.monotonic() - self._looked_up_s > ADDRESSES_FRESH_S:
                self._owners |= owners_of(self._url, self._group, self._partitions)
                self._looked_up_s = time.monotonic()

    def look_up_soon(self) -> None:
        """Ask in a thread, unless that was done a moment ago."""
        if time.monotonic() - self._looked_up_s > ADDRESSES_FRESH_S and not self._looking_up.locked():
            threading.Thread(target=self._try, name="lastseen-kafka-owners", daemon=True).start()

    def _try(self) -> None:
        try:
            self.look_up()
        except Exception as error:
            _logger.info("the owners' addresses could not be read: %s", error)


def owners_of(url: KafkaUrl, group: str, partitions: int) -> dict[int, Owner]:
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
