"""What the calls of a client share: addresses, token, times, the positions that they have seen, and their pauses."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from lastseen.api.positions import MAX_POSITIONS, position_or_none, positions_text
from lastseen.client.routes import Routes
from lastseen.engine.log.port import Position
from lastseen.engine.partitioner import partition_of

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 2.0
TRY_TIMEOUT_S = 3.0
"""How long an instance has to respond to a call that may be sent again: longer than it waits for a position."""
CONNECT_TIMEOUT_S = 2.0


class SeenPositions:
    """The last records that a client's answers reflected: what it reads next must reflect them too."""

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}
        self._partitions: int | None = None
        self._lock = threading.Lock()

    def add(self, header: str, partitions: str = "") -> None:
        """Record what the headers `Position` and `Partitions` of an answer say. What is malformed is ignored."""
        if re.fullmatch("[1-9][0-9]{0,4}", partitions):
            self._partitions = int(partitions)
        found = [position_or_none(part.strip()) for part in header[:4_000].split(",")]
        with self._lock:
            for position in found:
                if position is not None:
                    partition, offset = position
                    # The partition that was seen last stands last.
                    self._offsets[partition] = max(offset, self._offsets.pop(partition, -1))

    def partition_of(self, key: str | None) -> int | None:
        """The partition of a key; `None` before the service has said how many there are, or without a key."""
        return None if key is None or self._partitions is None else partition_of(key, self._partitions)

    def text(self, key: str | None = None) -> str:
        """The positions, as `min_position` takes them: of a key's partition only, where there is a key."""
        partition = self.partition_of(key)
        with self._lock:
            newest = list(self._offsets.items())[-MAX_POSITIONS:]
            if partition is not None:
                newest = [(partition, self._offsets.get(partition, -1))]
        return positions_text(Position(partition, offset) for partition, offset in newest)


@dataclass(slots=True)
class Connection:
    """What all calls of a client share."""

    routes: Routes
    token: str | None = field(repr=False)
    timeout_s: float
    reads_own_writes: bool = True
    try_timeout_s: float = TRY_TIMEOUT_S
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    seen: SeenPositions = field(default_factory=SeenPositions)
    now_s: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def headers(self, accept: str = "application/json, application/problem+json") -> dict[str, str]:
        """The headers of every request."""
        headers = {"Accept": accept}
        return headers if self.token is None else {**headers, "Authorization": f"Bearer {self.token}"}


def pause_s(connection: Connection, tries: int, longest_s: float = MAX_PAUSE_S) -> float:
    """How long to wait before the next try: twice as long each time, at random."""
    return min(FIRST_PAUSE_S * (1 << min(tries - 1, 10)), longest_s) * (0.5 + connection.jitter() / 2)


def retry_after_s(connection: Connection, stated: str | None) -> float:
    """How long a service asks its callers to wait, by its header `Retry-After`; 0 if it does not."""
    # Clients that were turned away together must not come back together.
    return _seconds_in(stated) * (1 + connection.jitter() / 4)


def _seconds_in(stated: str | None) -> float:
    if stated is None:
        return 0.0
    if re.fullmatch("[0-9]{1,9}", stated.strip()):
        return float(stated)
    try:
        return max(parsedate_to_datetime(stated).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return 0.0
