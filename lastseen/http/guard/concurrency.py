"""How much may be in progress at once, and how much of that for one tenant: none can keep all the others out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lastseen.api.problems import Problem
from lastseen.auth.caller import ANONYMOUS, Caller
from lastseen.http.guard.overload import AdaptiveLimit, LoopMonitor, current_limit

SHARE_OF_FREE = 8
"""A token may have this many times the places that are free, and no more: some are always left for others."""


class ConcurrencyLimit:
    """So many places, of which all tokens of one prefix together may take half. For the thread of one event loop."""

    def __init__(self, what: str, slots: int, adaptive: AdaptiveLimit | None = None) -> None:
        """`what` is in progress, such as `requests are in progress`.

        With a `pace` there are fewer places while the service does not keep up. A token that has none of them gets one
        of the rest, so that who asks for little is heard.
        """
        self._what, self._slots = what, slots
        self._adaptive = adaptive
        self._watch = None if adaptive is None else LoopMonitor(adaptive, self._needs_watching)
        self.in_use = 0
        self._used_by_prefix: dict[str, int] = {}
        """Prefix → its places, while it has any. Who has no prefix is no tenant, and has a share in nothing but all."""
        self._used_by_token: dict[str, int] = {}
        """Name of a token → its places, while it has any."""

    def check(self, caller: Caller) -> None:
        """Raise `Problem` 503 where there is no place for a caller."""
        prefix, name, adaptive = caller.prefix, caller.name, self._adaptive
        with_token, of_tenant = self._used_by_token.get(name, 0), self._used_by_prefix.get(prefix, 0)
        # Without tokens all callers share one name, and none is the first.
        is_first = with_token == 0 and caller is not ANONYMOUS
        slots = self._slots if is_first or adaptive is None else adaptive.limit
        share = (slots + 1) // 2
        if prefix and of_tenant >= share:
            raise _full(f"{share} of this tenant's {self._what}")
        if self.in_use >= slots:
            raise _full(f"{slots} {self._what}")
        if caller is not ANONYMOUS and with_token >= SHARE_OF_FREE * (self._slots - self.in_use):
            raise _full(f"{with_token} of this token's {self._what}")

    @contextmanager
    def slot(self, caller: Caller) -> Iterator[None]:
        """Take a place for as long as the context lasts. Raises `Problem` 503 at once where there is none."""
        self.check(caller)
        prefix, name, adaptive = caller.prefix, caller.name, self._adaptive
        with_token, of_tenant = self._used_by_token.get(name, 0), self._used_by_prefix.get(prefix, 0)
        self.in_use += 1
        self._used_by_token[name] = with_token + 1
        if prefix:
            self._used_by_prefix[prefix] = of_tenant + 1
        if adaptive is not None:
            current_limit.set(adaptive)  # for the rest of this request, which has a task of its own
            if self._watch is not None and self.in_use >= adaptive.minimum:
                self._watch.start()
        try:
            yield
        finally:
            self.in_use -= 1
            _release(self._used_by_token, name)
            if prefix:
                _release(self._used_by_prefix, prefix)

    def _needs_watching(self) -> bool:
        return self._adaptive is not None and (
            self.in_use >= self._adaptive.minimum or not self._adaptive.is_unrestricted
        )


def _release(slots: dict[str, int], name: str) -> None:
    remaining = slots[name] - 1
    if remaining:
        slots[name] = remaining
    else:
        del slots[name]


def _full(what: str) -> Problem:
    return Problem(
        503,
        "overloaded",
        f"{what} already: nothing was done, try again in a second",
        headers={"Retry-After": "1"},
    )
