"""Callers of a cluster of services over plain HTTP, and a caller beside it that measures how busy the machine is.

Each key is used by one caller, one call at a time, so what a response must say is known: the same session, a version
that never goes back, and the caller's own write once it was acknowledged.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import httpx

from tests.patience import PATIENCE_S

TRY_S = 1.0
"""A try at one service; then another one is asked."""
AVOIDED_S = 2.0
"""For how long a service that did not answer is asked last."""
PAUSE_S = 0.005


class Gap(NamedTuple):
    """A time in which no call for a key succeeded."""

    key: str
    began_s: float
    ended_s: float


class Key:
    """One session, and what its caller knows of it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.session_id = ""
        self.version = 0
        """The newest version that a response showed."""
        self.unknown = 0
        """Touches whose outcome is not known: each may have taken effect."""
        self.position = ""
        self.succeeded_s: list[float] = []
        self.address: str | None = None
        """The service that answered last."""


class Caller(threading.Thread):
    """Uses its keys one after another, as long as it is not ended."""

    def __init__(self, keys: Sequence[str], addresses: Callable[[], Sequence[str]]) -> None:
        super().__init__(daemon=True)
        self.keys = [Key(key) for key in keys]
        self.wrong: list[str] = []
        """Responses that no service may give."""
        self.failures: dict[str, int] = {}
        """Tries that failed, by what was said."""
        self._addresses = addresses
        self._bad_until_s: dict[str, float] = {}
        self._client = httpx.Client(timeout=httpx.Timeout(TRY_S), limits=httpx.Limits(max_keepalive_connections=20))
        self._is_over = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self._is_over.is_set():
            turn += 1
            for each in self.keys:
                self._use(each, "get" if turn % 2 else "touch")
                self._is_over.wait(PAUSE_S)
        self._client.close()

    def end(self) -> None:
        """Stop after the call in progress."""
        self._is_over.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()

    def _use(self, key: Key, how: str) -> None:
        """Call for a key, at one service after another, each once."""
        tried: set[str] = set()
        # What did not answer a moment ago is not waited for again for each of its keys.
        wanted = None if key.address is None or self._is_avoided(key.address) else key.address
        while True:
            address = wanted if wanted is not None and wanted not in tried else self._next(tried)
            if address is None:
                return  # it is its turn again in a moment; the gap goes on
            tried.add(address)
            wanted = None
            try:
                response = self._send(address, key, how)
            except httpx.TransportError as error:
                self._bad_until_s[address] = time.monotonic() + AVOIDED_S
                key.unknown += how == "touch" and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                self._count(type(error).__name__)
                continue
            if response.is_success:
                key.address = address
                self._check(key, how, response.json())
                key.position = response.headers["position"]
                key.succeeded_s.append(time.monotonic())
                return
            self._count(f"{response.status_code}")
            if response.status_code == 421:
                wanted = response.json().get("address")
            elif response.status_code >= 500:
                key.unknown += how == "touch"
            else:
                self.wrong.append(f"{how} {key.key}: {response.status_code} {response.text}")
                return

    def _next(self, tried: set[str]) -> str | None:
        return min((each for each in self._addresses() if each not in tried), key=self._is_avoided, default=None)

    def _is_avoided(self, address: str) -> bool:
        return self._bad_until_s.get(address, 0.0) > time.monotonic()

    def _send(self, address: str, key: Key, how: str) -> httpx.Response:
        url = f"{address}/v1/sessions/{key.key}"
        if how == "touch":
            return self._client.post(f"{url}/touch", json={"session_id": key.session_id})
        return self._client.get(url, params={"min_position": key.position})

    def _check(self, key: Key, how: str, found: dict[str, Any]) -> None:
        least = key.version + (how == "touch")
        most = key.version + (how == "touch") + key.unknown
        if found["session_id"] != key.session_id or not least <= found["version"] <= most:
            self.wrong.append(
                f"{how} {key.key}: {found['session_id']} version {found['version']}, and it is {key.session_id} with a"
                f" version from {least} to {most}"
            )
        key.unknown -= max(found["version"] - least, 0)
        key.version = found["version"]

    def _count(self, what: str) -> None:
        self.failures[what] = self.failures.get(what, 0) + 1

    def longest_gap(self, since_s: float, until_s: float) -> Gap:
        """The longest time in which no call for one of the keys succeeded, of those that lie within two times."""
        return max(
            (
                Gap(key.key, before, after)
                for key in self.keys
                for before, after in zip(key.succeeded_s, key.succeeded_s[1:], strict=False)
                if after > since_s and before < until_s
            ),
            key=lambda gap: gap.ended_s - gap.began_s,
        )


class Control(threading.Thread):
    """Calls a service that nothing happens to: its calls are the clock by which the others' gaps are measured."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._answered_s: list[float] = []
        self._per_s = 0.0
        self._is_over = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._address, timeout=PATIENCE_S) as client:
            client.post("/v1/sessions", json={"key": "control"}).raise_for_status()
            while not self._is_over.wait(PAUSE_S):
                client.get("/v1/sessions/control").raise_for_status()
                self._answered_s.append(time.monotonic())

    def calls(self, since_s: float, until_s: float) -> int:
        """How many calls were answered between two times."""
        return bisect.bisect(self._answered_s, until_s) - bisect.bisect(self._answered_s, since_s)

    def calibrate(self, since_s: float, until_s: float) -> None:
        """Take a calm time as the measure: how many calls are a second."""
        self._per_s = self.calls(since_s, until_s) / (until_s - since_s)
        assert self._per_s > 1

    def seconds(self, gap: Gap) -> float:
        """How long a gap is in calls of the control, in seconds of the calm time; never more than by the clock."""
        return min(self.calls(gap.began_s, gap.ended_s) / self._per_s, gap.ended_s - gap.began_s)

    def end(self) -> None:
        """Stop calling."""
        self._is_over.set()
        self.join(PATIENCE_S)
