"""Which address a call is sent to, and which addresses a token may be sent to.

A call goes to the owner of its key's partition, as far as the client has learnt it, else to the first configured
address.
An address that did not answer is avoided for a while: other calls are sent elsewhere, and one at a time tries it again.

A service names the owner of a partition in a 421. The text comes from the group of owners on Kafka, so a program that
may join that group can name any address. The client follows it, with its token and the content of the call, only to

1. an address that it was configured with;
2. the host of a configured address, at any port;
3. a host that `owner_hosts` names;

and never by HTTP where the instance that named it was reached by HTTPS.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple

from lastseen.client.address import Address, HostRule, owner_address

SILENT_S = 4.0
"""How long an address is avoided after it did not answer in time; twice as long each time, unless it is an owner's."""
SILENT_UNSAFE_S = 12.0
"""The same for a call that must not be sent twice, and would wait for all of its time: longer than a silent owner stays
one."""
UNREACHABLE_S = 0.5
"""The same after a connection that was refused or broke: finding that out costs no time."""
MAX_SILENT_S = 32.0


class _Fault(NamedTuple):
    """An address that did not answer."""

    tried_at_s: float
    timed_out: bool
    """Whether finding that out took time."""
    times: int

    def avoided_s(self, is_named: bool, is_repeatable: bool) -> float:
        """How long after the last try a call is sent elsewhere."""
        if not self.timed_out:
            return UNREACHABLE_S
        if not is_repeatable:
            return SILENT_UNSAFE_S
        return SILENT_S if is_named else min(SILENT_S * 2 ** (self.times - 1), MAX_SILENT_S)


class Routes:
    """The addresses of a client, and what it has learnt of them. Safe to use from many threads."""

    def __init__(
        self,
        configured: Sequence[Address],
        owner_hosts: Sequence[HostRule] = (),
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.configured = tuple(configured)
        self._owner_hosts = tuple(owner_hosts)
        self._now_s = now_s
        self._owners: dict[int, Address] = {}
        self._faults: dict[Address, _Fault] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return ", ".join(map(str, self.configured))

    def first(self, partition: int | None, is_repeatable: bool) -> Address:
        """The address to ask for a partition first; where all are avoided, the one that was tried least lately."""
        with self._lock:
            candidates = list(self._candidates(partition))
            for each in candidates:
                if self._may_try(each, each not in self.configured, is_repeatable):
                    return each
            return min(candidates, key=lambda each: self._faults[each].tried_at_s)

    def next(self, asked: Container[Address], is_repeatable: bool) -> Address | None:
        """Another address to ask when those in `asked` did not help; `None` if there is none."""
        with self._lock:
            for each in self._candidates(None):
                if each not in asked and self._may_try(each, is_named=False, is_repeatable=is_repeatable):
                    return each
            return None

    def _candidates(self, partition: int | None) -> Iterator[Address]:
        """The owner, the configured addresses, and those that served other partitions."""
        owner = None if partition is None else self._owners.get(partition)
        return iter(dict.fromkeys([*([] if owner is None else [owner]), *self.configured, *self._owners.values()]))

    def _may_try(self, address: Address, is_named: bool, is_repeatable: bool) -> bool:
        fault = self._faults.get(address)
        if fault is None:
            return True
        if self._now_s() < fault.tried_at_s + fault.avoided_s(is_named, is_repeatable):
            return False
        # One call finds out; the others are sent elsewhere meanwhile.
        self._faults[address] = fault._replace(tried_at_s=self._now_s())
        return True

    def owner_at(self, text: str, by: Address) -> Address | None:
        """The owner's address, as the instance `by` states it; `None` where a token must not be sent there."""
        owner = owner_address(by, text)
        if owner is None:
            return None
        for each in self.configured:
            if each[:3] == owner[:3]:
                return each
        return owner if self._is_trusted(owner.host) else None

    def may_follow(self, owner: Address, is_repeatable: bool) -> bool:
        """Whether an owner that a 421 names may be asked now: it is not avoided."""
        with self._lock:
            return self._may_try(owner, is_named=True, is_repeatable=is_repeatable)

    def _is_trusted(self, host: str) -> bool:
        return any(host == each.host for each in self.configured) or any(rule(host) for rule in self._owner_hosts)

    def succeeded(self, address: Address, partition: int | None) -> None:
        """A call about this partition succeeded there."""
        if partition is not None:
            with self._lock:
                self._owners[partition] = address

    def answered(self, address: Address) -> None:
        """The address answered, whatever it said."""
        if address in self._faults:
            with self._lock:
                self._faults.pop(address, None)

    def disowned(self, address: Address, partition: int | None) -> None:
        """The address said that it does not serve this partition."""
        with self._lock:
            if partition is not None and self._owners.get(partition) == address:
                del self._owners[partition]

    def failed(self, address: Address, timed_out: bool) -> None:
        """The address did not answer."""
        with self._lock:
            earlier = self._faults.get(address)
            times = 1 if earlier is None else min(earlier.times + 1, 10)
            self._faults[address] = _Fault(self._now_s(), timed_out, times)
