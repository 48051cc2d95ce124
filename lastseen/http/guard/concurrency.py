"""How much may be under way at once, and how much of that for one tenant: none can keep all the others out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lastseen.api.problems import Problem
from lastseen.auth.caller import ANYONE, Caller
from lastseen.http.guard.overload import LoopWatch, Pace, pace_now


class Room:
    """So many places, of which all tokens of one prefix together may take half. For the thread of one event loop."""

    def __init__(self, what: str, places: int, pace: Pace | None = None) -> None:
        """`what` is under way, such as `requests are worked on`.

        With a `pace` there are fewer places while the service does not keep up. A token that has none of them gets one
        of the rest, so that who asks for little is heard.
        """
        self._what, self._places = what, places
        self._pace = pace
        self._watch = None if pace is None else LoopWatch(pace, self._is_worth_a_look)
        self.taken = 0
        self._taken_by: dict[str, int] = {}
        """Prefix → its places, while it has any. Who has no prefix is no tenant, and has a share in nothing but all."""
        self._taken_with: dict[str, int] = {}
        """Name of a token → its places, while it has any."""

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Take a place for as long as the context lasts. Raises `Problem` 503 at once where there is none."""
        prefix, name, pace = caller.prefix, caller.name, self._pace
        with_token, of_tenant = self._taken_with.get(name, 0), self._taken_by.get(prefix, 0)
        # Where there are no tokens, all have one name, and nobody is the first.
        is_first = with_token == 0 and caller is not ANYONE
        places = self._places if is_first or pace is None else pace.limit
        share = (places + 1) // 2
        if prefix and of_tenant >= share:
            raise _full(f"{share} of this tenant's {self._what}")
        if self.taken >= places:
            raise _full(f"{places} {self._what}")
        self.taken += 1
        self._taken_with[name] = with_token + 1
        if prefix:
            self._taken_by[prefix] = of_tenant + 1
        if pace is not None:
            pace_now.set(pace)  # for the rest of this request, which has a task of its own
            if self._watch is not None and self.taken >= pace.fewest:
                self._watch.begin()
        try:
            yield
        finally:
            self.taken -= 1
            _leave(self._taken_with, name)
            if prefix:
                _leave(self._taken_by, prefix)

    def _is_worth_a_look(self) -> bool:
        return self._pace is not None and (self.taken >= self._pace.fewest or not self._pace.is_free)


def _leave(places: dict[str, int], name: str) -> None:
    left = places[name] - 1
    if left:
        places[name] = left
    else:
        del places[name]


def _full(what: str) -> Problem:
    return Problem(
        503,
        "overloaded",
        f"{what} already: nothing was done, try again in a second",
        headers={"Retry-After": "1"},
    )
