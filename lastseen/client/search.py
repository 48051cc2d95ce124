"""Where a call is sent next, and when: to other addresses at once, and after a pause to all of them again.

Time ends a call, not the number of its tries.
"""

from __future__ import annotations

from typing import Any

from lastseen.client.address import Address
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.connection import FIRST_PAUSE_S, MAX_PAUSE_S, Connection, pause_s, retry_after_s
from lastseen.client.errors import problem_in
from lastseen.engine.errors import EngineClosed, LastseenError, NotOwner

MAX_REDIRECTS = 3
"""How often a call is sent to an owner that a 421 names, between two pauses."""
MAX_OWNER_PAUSE_S = 0.5
"""The longest pause before the owner is asked for again: a partition moves within a second or two."""


class Search:
    """The addresses that one call has asked, and the time that it has left."""

    def __init__(self, call: Call[Any], connection: Connection, at: Address | None = None) -> None:
        self._connection = connection
        self._routes = connection.routes
        self._is_repeatable = call.is_repeatable
        self._key = call.key
        self._until_s = connection.now_s() + connection.timeout_s
        self.address = at or self._first()
        """Where the call is sent now."""
        self._asked: list[Address] = []
        self._redirects = 0
        self._pauses = 0
        self._timeouts = 0
        self.refused: NotOwner | None = None
        """The last answer named an owner that a token must not be sent to."""

    @property
    def _partition(self) -> int | None:
        return self._connection.seen.partition_of(self._key)

    def _first(self) -> Address:
        return self._routes.first(self._partition, self._is_repeatable)

    def left_s(self) -> float:
        """How long the call may still take."""
        return self._until_s - self._connection.now_s()

    def try_s(self) -> float:
        """How long the next try may take: one that is never answered must leave time for others."""
        left_s = self.left_s()
        if not self._is_repeatable:
            return max(left_s, 0.001)
        share_s = max(left_s / 2, min(left_s, 1.0))
        if self._key is not None:
            # What is slow, and not frozen, gets longer by and by.
            share_s = min(share_s, self._connection.try_timeout_s * 2 ** (self._timeouts // 2))
        return max(share_s, 0.001)

    def learn(self, response: Response | NoResponse, error: LastseenError | None) -> None:
        """Take into account what the address answered."""
        routes, address = self._routes, self.address
        self._asked.append(address)
        if isinstance(response, NoResponse):
            if not response.was_queued:
                self._timeouts += response.timed_out
                routes.failed(address, response.timed_out)
            return
        if response.status in (502, 503, 504) and problem_in(response.headers, response.content) is None:
            routes.failed(address, timed_out=False)
            return
        routes.answered(address)
        if error is None:
            routes.succeeded(address, self._partition)
        elif isinstance(error, NotOwner):
            routes.disowned(address, self._partition)
        elif isinstance(error, EngineClosed):
            routes.failed(address, timed_out=False)

    def move_on(self, error: LastseenError, goes_elsewhere: bool, retry_after: str | None) -> float | None:
        """Choose the next address: seconds to wait before it is asked, or `None` once the time is over."""
        if self.left_s() < FIRST_PAUSE_S:
            return None
        self.refused = None
        found = self._owner_in(error) if isinstance(error, NotOwner) else None
        if found is None and goes_elsewhere:
            found = self._routes.next(self._asked, self._is_repeatable)
        if found is not None:
            self.address = found
            return 0.0
        if self.refused is not None:
            return None
        return self._pause_s(isinstance(error, NotOwner), retry_after)

    def _owner_in(self, error: NotOwner) -> Address | None:
        if error.address is None:
            return None
        owner = self._routes.owner_at(error.address, self.address)
        if owner is None:
            self.refused = NotOwner(
                f"{error}. The client sends neither the call nor its token there: name the address in `address`, or its"
                " host in `owner_hosts`",
                error.address,
                error.owner,
            )
            return None
        if owner in self._asked or self._redirects >= MAX_REDIRECTS:
            return None
        if not self._routes.may_follow(owner, self._is_repeatable):
            return None
        self._redirects += 1
        return owner

    def _pause_s(self, is_for_owner: bool, retry_after: str | None) -> float | None:
        left_s = self.left_s()
        self._pauses += 1
        asked_s = 0.0 if is_for_owner else retry_after_s(self._connection, retry_after)
        if asked_s >= left_s:
            return None
        own_s = pause_s(self._connection, self._pauses, MAX_OWNER_PAUSE_S if is_for_owner else MAX_PAUSE_S)
        # The last tries come closer together, so that the time is used up.
        return max(asked_s, min(own_s, left_s / 2))

    def begin_again(self) -> None:
        """A pause is over: ask from the first address on."""
        self._asked.clear()
        self._redirects = 0
        self.address = self._first()
