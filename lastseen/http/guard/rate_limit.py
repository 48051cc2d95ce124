"""How fast each token may make requests: a bucket that fills steadily, and that each request takes from."""

from __future__ import annotations

import math

from lastseen.api.problems import Problem

BYTES_PER_REQUEST = 16_384
"""So many bytes of body count as one request more: a batch is more work than a touch."""


class RateLimiter:
    """A bucket for each caller. The names are those of tokens, so there are only so many of them."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}
        self._policy = (b"ratelimit-policy", f'"requests";q={burst};w={max(math.ceil(burst / per_s), 1)}'.encode())

    def take(self, caller: str, body_bytes: int, now_s: float) -> list[tuple[bytes, bytes]]:
        """Count a request; returns the header fields that tell the caller what is left. Raises `Problem` 429.

        `now_s` is of any clock that runs steadily. A request larger than the whole bucket waits until it is full.
        """
        return self._spend(caller, min(1.0 + body_bytes // BYTES_PER_REQUEST, self._burst), now_s)

    def charge(self, caller: str, body_bytes: int, now_s: float) -> list[tuple[bytes, bytes]]:
        """Count a body whose size was not known when its request was counted, as `take` would have.

        Raises `Problem` 429, and empties the bucket: the body has been received all the same.
        """
        cost = min(float(body_bytes // BYTES_PER_REQUEST), self._burst - 1)
        return self._spend(caller, cost, now_s, level_if_refused=0.0)

    def _spend(
        self, caller: str, cost: float, now_s: float, level_if_refused: float | None = None
    ) -> list[tuple[bytes, bytes]]:
        level, at_s = self._buckets.get(caller, (self._burst, now_s))
        level = min(level + (now_s - at_s) * self._per_s, self._burst)
        if level < cost:
            level = level if level_if_refused is None else level_if_refused
            self._buckets[caller] = (level, now_s)
            wait_s = max(math.ceil((cost - level) / self._per_s), 1)
            raise Problem(
                429,
                "too-many-requests",
                f"this token may make {self._per_s:g} requests a second: nothing was done, try again in {wait_s} s",
                headers={
                    "Retry-After": str(wait_s),
                    **{name.decode(): value.decode() for name, value in self._headers(0)},
                },
            )
        level -= cost
        self._buckets[caller] = (level, now_s)
        return self._headers(level)

    def _headers(self, level: float) -> list[tuple[bytes, bytes]]:
        full_in_s = math.ceil((self._burst - level) / self._per_s)
        return [self._policy, (b"ratelimit", b'"requests";r=%d;t=%d' % (level, full_in_s))]
