"""How many connections are open, in all and from one address: who opens many cannot keep the others out.

Each open connection takes a file descriptor, of which a process has only so many. Where the bound is reached, a new
connection takes the place of one whose request has not arrived, that of the address that has most of them, oldest
first. Only where every connection has a request in progress is a new one refused; and some places are for probes alone.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Protocol


class Admission(enum.Enum):
    """What a new connection may do."""

    ANY = "any"
    PROBES = "probes"
    """Only probe, on a place of the reserve."""
    NONE = "none"


class Connection(Protocol):
    """A connection, as far as this bound knows it."""

    def is_waiting(self) -> bool:
        """Whether it has no request in progress that has arrived whole."""
        ...

    def give_way(self) -> None:
        """Close it: another takes its place."""
        ...


class Connections:
    """The open connections of one server. For the thread of its event loop."""

    def __init__(self, most: int) -> None:
        """At most `most`, and a few more for probes. One address may have three quarters: it may be a proxy's."""
        reserve = max(most // 16, 2)
        self._places, self._reserve = _Places(most, max(most - most // 4, 1)), _Places(reserve, reserve)

    def __len__(self) -> int:
        return len(self._places) + len(self._reserve)

    def admit(self, connection: Connection, host: str | None) -> Admission:
        """Count a new connection, and close another that has to give way. One that may do nothing is not counted."""
        address = address_group(host or "")
        if self._places.take(connection, address):
            return Admission.ANY
        # Apart from the others: a connection that gives way here leaves a place for a probe, and no more.
        return Admission.PROBES if self._reserve.take(connection, address) else Admission.NONE

    def leave(self, connection: Connection) -> None:
        """The connection is closed. May be called again."""
        self._places.leave(connection)
        self._reserve.leave(connection)


class _Places:
    """So many places, and so many for one address."""

    def __init__(self, most: int, per_address: int) -> None:
        self._most, self._per_address = most, per_address
        self._by_address: dict[str, dict[Connection, None]] = {}
        """Address → its connections, the oldest first."""
        self._addresses: dict[Connection, str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def take(self, connection: Connection, address: str) -> bool:
        """Whether there is a place, free or made free by closing another connection."""
        has_share = len(self._by_address.get(address, ())) >= self._per_address
        is_full = has_share or len(self) >= self._most
        # An address that has its share makes room among its own connections.
        if is_full and not self._close_one([address] if has_share else self._busiest()):
            return False
        self._by_address.setdefault(address, {})[connection] = None
        self._addresses[connection] = address
        return True

    def leave(self, connection: Connection) -> None:
        """The connection is closed. May be called again."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            own = self._by_address[address]
            del own[connection]
            if not own:
                del self._by_address[address]

    def _busiest(self) -> Iterator[str]:
        def count(address: str) -> int:
            return len(self._by_address[address])

        yield max(self._by_address, key=count)  # most often it is enough
        yield from sorted(self._by_address, key=count, reverse=True)

    def _close_one(self, addresses: Iterable[str]) -> bool:
        for address in addresses:
            for each in self._by_address.get(address, ()):
                if each.is_waiting():
                    self.leave(each)
                    each.give_way()
                    return True
        return False


@lru_cache(maxsize=4_096)
def address_group(host: str) -> str:
    """What counts as one address: of IPv6 the network of 64 bits, since one machine has all of it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
