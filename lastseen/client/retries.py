"""How a client gets a response: tries, pauses and redirects to other instances, as a generator that does no I/O.

It yields the next step, `Send` or `Pause`, and receives its outcome; `Client` and `AsyncClient` execute the steps. A
call, its pauses included, takes no longer than the client's timeout.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from lastseen.api.positions import MAX_POSITIONS, position_or_none, positions_text
from lastseen.api.problem_document import ProblemDocument
from lastseen.client.address import Address, owner_address
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.errors import error_for, problem_in, unreadable_response
from lastseen.engine.errors import LastseenError, LogUnavailable, NotOwner, OutcomeUnknown, SessionEnded
from lastseen.engine.log.port import Position
from lastseen.engine.partitioner import partition_of

R = TypeVar("R")
MAX_TRIES = 12
MAX_REDIRECTS = 3
"""How often a call lets itself be sent to another instance: owners change, and may know of each other late."""
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 2.0


class Send(NamedTuple):
    """Send a request and wait for its answer, so long and no longer."""

    address: Address
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes | None
    timeout_s: float


class Pause(NamedTuple):
    """Wait."""

    seconds: float


AttemptSteps = Generator[Send | Pause, Response | NoResponse | None, R]


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

    address: Address
    token: str | None = field(repr=False)
    timeout_s: float
    reads_own_writes: bool = True
    seen: SeenPositions = field(default_factory=SeenPositions)
    now_s: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def headers(self, accept: str = "application/json, application/problem+json") -> dict[str, str]:
        """The headers of every request."""
        headers = {"Accept": accept}
        return headers if self.token is None else {**headers, "Authorization": f"Bearer {self.token}"}


def pause_s(connection: Connection, tries: int, retry_after: str | None) -> float:
    """How long to wait before the next try: twice as long each time, at random, and what the service asks for."""
    pause = min(FIRST_PAUSE_S * (1 << min(tries - 1, 10)), MAX_PAUSE_S) * (0.5 + connection.jitter() / 2)
    # Clients that were turned away together must not come back together.
    return max(pause, _retry_after_s(retry_after) * (1 + connection.jitter() / 4))


def _retry_after_s(retry_after: str | None) -> float:
    if retry_after is None:
        return 0.0
    if re.fullmatch("[0-9]{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def attempt_steps(call: Call[R], connection: Connection) -> AttemptSteps[R]:
    """The result of a call. Raises the errors of `engine.errors`, and `ServiceError` for what is none of those."""
    until_s = connection.now_s() + connection.timeout_s
    address, redirects, tries = connection.address, 0, 0
    unknown_outcome: str | None = None
    while True:
        tries += 1
        response = yield _request(call, connection, address, until_s - connection.now_s())
        assert response is not None, "a request has an answer, or has lost it"
        outcome = _judge(call, connection, address, response)
        if outcome.error is None:
            result: R = outcome.result
            after = None if call.follow is None else call.follow(result)
            return result if after is None else (yield from attempt_steps(after, connection))
        error = outcome.error
        if outcome.may_have_acted:
            unknown_outcome = str(error)
        elif unknown_outcome is not None and isinstance(error, call.done_errors):
            return (yield from _after(call, connection, error))
        elif unknown_outcome is not None and isinstance(error, call.unclear_errors):
            raise _unknown(call, f"{unknown_outcome}, and now: {error}") from error
        if isinstance(error, NotOwner) and error.address is not None and redirects < MAX_REDIRECTS:
            owner = owner_address(address, error.address)
            if owner is None:
                raise error  # the token does not go there
            if owner != address:
                address, redirects = owner, redirects + 1
                continue
        retries = outcome.retries and (call.is_repeatable or not outcome.may_have_acted)
        wait_s = pause_s(connection, tries, outcome.retry_after)
        if not retries or tries >= MAX_TRIES or connection.now_s() + wait_s >= until_s:
            if unknown_outcome is not None and not call.is_read and (outcome.retries or outcome.may_have_acted):
                raise _unknown(call, str(error)) from error
            raise error
        yield Pause(wait_s)


class Attempt(Generic[R]):
    """A call in progress: the client executes `step`, and calls `proceed` with its outcome."""

    def __init__(self, call: Call[R], connection: Connection) -> None:
        """Raises what `attempt_steps` raises, as does `proceed`."""
        self._steps = attempt_steps(call, connection)
        self.step: Send | Pause | None = None
        """What is to be done; `None` once the call is over, and has its `result`."""
        self.result: R
        self.proceed(None)

    def proceed(self, response: Response | NoResponse | None) -> None:
        """The answer to what was sent; `None` after a pause."""
        try:
            self.step = self._steps.send(response)
        except StopIteration as over:
            self.step, self.result = None, over.value


class _Outcome(NamedTuple):
    """What an answer means."""

    result: Any = None
    error: LastseenError | None = None
    """What went wrong; `None`: the call is over, with `result`."""
    may_have_acted: bool = False
    retries: bool = False
    """Whether another try may fare better."""
    retry_after: str | None = None


def _judge(call: Call[R], connection: Connection, address: Address, response: Response | NoResponse) -> _Outcome:
    if isinstance(response, NoResponse):
        return _Outcome(
            error=LogUnavailable(f"the service at {address} did not respond: {response.why}"),
            may_have_acted=response.may_have_acted,
            retries=True,
        )
    if 200 <= response.status < 300:
        try:
            result = call.read(response)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, KeyError) as fault:
            return _Outcome(error=unreadable_response(response.status, fault), may_have_acted=not call.is_read)
        connection.seen.add(response.headers.get("position", ""), response.headers.get("partitions", ""))
        return _Outcome(result)
    problem = problem_in(response.headers, response.content)
    error = error_for(response.status, problem)
    if problem is not None and isinstance(error, call.none_errors):
        return _Outcome()
    retries, may_have_acted = _prospects(response, problem, error)
    return _Outcome(
        error=error,
        may_have_acted=may_have_acted and not call.is_read,
        retries=retries,
        retry_after=response.headers.get("retry-after"),
    )


def _prospects(response: Response, problem: ProblemDocument | None, error: LastseenError) -> tuple[bool, bool]:
    """Whether another try may fare better, and whether this one may have had an effect all the same."""
    if response.status == 429 or isinstance(error, NotOwner):
        return True, False
    if problem is None:
        # Something between us and the service gave up on it.
        return response.status in (502, 503, 504), response.status >= 500
    if isinstance(error, OutcomeUnknown):
        return True, True
    # 408: the request came too slowly. With Retry-After the service says that nothing was done, and may be done soon.
    return response.status == 408 or (
        response.status == 503 and "retry-after" in response.headers
    ), response.status == 500


def _request(call: Call[Any], connection: Connection, address: Address, left_s: float) -> Send:
    query = dict(call.query)
    if call.waits_for_position and connection.reads_own_writes and (seen := connection.seen.text(call.key)):
        query["min_position"] = seen
    headers = {**connection.headers(), **call.headers}
    if call.content is not None:
        headers["Content-Type"] = "application/json"
    # One answer that never comes must leave time for another try.
    timeout_s = max(left_s / 2, min(left_s, 1.0)) if call.is_repeatable else left_s
    return Send(address, call.method, address.path + call.path, query, headers, call.content, max(timeout_s, 0.001))


def _after(call: Call[R], connection: Connection, error: LastseenError) -> AttemptSteps[R]:
    """The result of a call that an earlier try has carried out."""
    if call.then is None:
        return None  # type: ignore[return-value]  # only calls without a result have nothing to get it by
    found = yield from attempt_steps(call.then, connection)
    if found is None:
        raise SessionEnded(f"it was done, and the session has ended since ({error})")
    return found


def _unknown(call: Call[Any], why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{call.method} {call.path}: it may or may not have been done ({why}); read before you try again, or pin the"
        " call with `session_id`, which makes most of them safe to repeat"
    )
