"""How much may be under way at once, and how much of that for one tenant: none can keep all the others out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lastseen.http.problems import Problem


class Room:
    """So many places, of which all tokens of one prefix together may take half. For the thread of one event loop."""

    def __init__(self, what: str, places: int) -> None:
        """`what` is under way, such as `requests are worked on`."""
        self._what, self._places = what, places
        self._share = (places + 1) // 2
        self.taken = 0
        self._taken_by: dict[str, int] = {}
        """Prefix → its places, while it has any. Who has no prefix is no tenant, and has a share in nothing but all."""

    @contextmanager
    def place(self, prefix: str) -> Iterator[None]:
        """Take a place for as long as the context lasts. Raises `Problem` 503 at once where there is none."""
        own = self._taken_by.get(prefix, 0)
        if prefix and own >= self._share:
            raise _full(f"{self._share} of this tenant's {self._what}")
        if self.taken >= self._places:
            raise _full(f"{self._places} {self._what}")
        self.taken += 1
        if prefix:
            self._taken_by[prefix] = own + 1
        try:
            yield
        finally:
            self.taken -= 1
            if prefix:
                self._leave(prefix)

    def _leave(self, prefix: str) -> None:
        left = self._taken_by[prefix] - 1
        if left:
            self._taken_by[prefix] = left
        else:
            del self._taken_by[prefix]


def _full(what: str) -> Problem:
    return Problem(
        503,
        "overloaded",
        f"{what} already: nothing was done, try again in a second",
        headers={"Retry-After": "1"},
    )
