"""How a client gets an answer: tries, pauses and moves to other instances, as a generator that does no I/O.

It yields what to do, `Send` or `Pause`, and is sent what came of it; `Client` and `AsyncClient` do the doing. All of a
call, its pauses included, is over after the client's timeout.
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

from lastseen.client.address import Address, owner_address
from lastseen.client.call import Call, Lost, Reply
from lastseen.client.errors import Stated, error_of, stated_in, unreadable
from lastseen.engine.errors import LastseenError, LogUnavailable, NotOwner, OutcomeUnknown, SessionEnded

R = TypeVar("R")
MOST_TRIES = 12
MOST_MOVES = 3
"""How often a call lets itself be sent to another instance: owners change, and may know of each other late."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
MAX_POSITIONS = 100
_position = re.compile(r"([0-9]{1,5}):([0-9]{1,18})")


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


Exchange = Generator[Send | Pause, Reply | Lost | None, R]


class Seen:
    """The last records that a client's answers reflected: what it reads next must reflect them too."""

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}
        self._lock = threading.Lock()

    def add(self, header: str) -> None:
        """Take in a `Position` header. What is none is left alone."""
        found = [_position.fullmatch(part.strip()) for part in header[:4_000].split(",")]
        with self._lock:
            for match in found:
                if match is not None:
                    partition, offset = int(match[1]), int(match[2])
                    # The partition that was seen last stands last.
                    self._offsets[partition] = max(offset, self._offsets.pop(partition, -1))

    def text(self) -> str:
        """As `min_position` takes it."""
        with self._lock:
            newest = list(self._offsets.items())[-MAX_POSITIONS:]
        return ",".join(f"{partition}:{offset}" for partition, offset in newest)


@dataclass(slots=True)
class Line:
    """What all calls of a client share."""

    address: Address
    token: str | None = field(repr=False)
    timeout_s: float
    reads_own_writes: bool = True
    seen: Seen = field(default_factory=Seen)
    now_s: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def headers(self, accept: str = "application/json, application/problem+json") -> dict[str, str]:
        """The headers of every request."""
        told = {"Accept": accept}
        return told if self.token is None else {**told, "Authorization": f"Bearer {self.token}"}


def pause_s(line: Line, tries: int, retry_after: str | None) -> float:
    """How long to wait before the next try: twice as long each time, at random, and what the service asks for."""
    pause = min(FIRST_PAUSE_S * (1 << min(tries - 1, 10)), LONGEST_PAUSE_S) * (0.5 + line.jitter() / 2)
    # Those who were sent away together must not come back together.
    return max(pause, _asked_s(retry_after) * (1 + line.jitter() / 4))


def _asked_s(retry_after: str | None) -> float:
    if retry_after is None:
        return 0.0
    if re.fullmatch("[0-9]{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def carry_out(call: Call[R], line: Line) -> Exchange[R]:
    """The result of a call. Raises the errors of `engine.errors`, and `ServiceError` for what is none of those."""
    until_s = line.now_s() + line.timeout_s
    address, moves, tries = line.address, 0, 0
    unheard: str | None = None
    while True:
        tries += 1
        answer = yield _request(call, line, address, until_s - line.now_s())
        assert answer is not None, "a request has an answer, or has lost it"
        outcome = _judge(call, line, address, answer)
        if outcome.error is None:
            result: R = outcome.result
            after = None if call.follow is None else call.follow(result)
            return result if after is None else (yield from carry_out(after, line))
        error = outcome.error
        if outcome.may_have_acted:
            unheard = str(error)
        elif unheard is not None and isinstance(error, call.done_by):
            return (yield from _after(call, line, error))
        elif unheard is not None and isinstance(error, call.unclear_by):
            raise _unknown(call, f"{unheard}, and now: {error}") from error
        if isinstance(error, NotOwner) and error.address is not None and moves < MOST_MOVES:
            owner = owner_address(address, error.address)
            if owner is None:
                raise error  # the token does not go there
            if owner != address:
                address, moves = owner, moves + 1
                continue
        retries = outcome.retries and (call.repeats or not outcome.may_have_acted)
        wait_s = pause_s(line, tries, outcome.retry_after)
        if not retries or tries >= MOST_TRIES or line.now_s() + wait_s >= until_s:
            if unheard is not None and not call.is_read and (outcome.retries or outcome.may_have_acted):
                raise _unknown(call, str(error)) from error
            raise error
        yield Pause(wait_s)


class Conversation(Generic[R]):
    """A call as it goes, for whoever does what it asks for: do `step`, and `go_on` with what came of it."""

    def __init__(self, call: Call[R], line: Line) -> None:
        """Raises what `carry_out` raises, as does `go_on`."""
        self._exchange = carry_out(call, line)
        self.step: Send | Pause | None = None
        """What is to be done; `None` once the call is over, and has its `result`."""
        self.result: R
        self.go_on(None)

    def go_on(self, answer: Reply | Lost | None) -> None:
        """The answer to what was sent; `None` after a pause."""
        try:
            self.step = self._exchange.send(answer)
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


def _judge(call: Call[R], line: Line, address: Address, answer: Reply | Lost) -> _Outcome:
    if isinstance(answer, Lost):
        return _Outcome(
            error=LogUnavailable(f"the service at {address} gave no answer: {answer.why}"),
            may_have_acted=answer.may_have_acted,
            retries=True,
        )
    if 200 <= answer.status < 300:
        try:
            result = call.read(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, KeyError) as fault:
            return _Outcome(error=unreadable(answer.status, fault), may_have_acted=not call.is_read)
        line.seen.add(answer.headers.get("position", ""))
        return _Outcome(result)
    stated = stated_in(answer.headers, answer.content)
    error = error_of(answer.status, stated)
    if stated is not None and isinstance(error, call.none_on):
        return _Outcome()
    retries, may_have_acted = _prospects(answer, stated, error)
    return _Outcome(
        error=error,
        may_have_acted=may_have_acted and not call.is_read,
        retries=retries,
        retry_after=answer.headers.get("retry-after"),
    )


def _prospects(answer: Reply, stated: Stated | None, error: LastseenError) -> tuple[bool, bool]:
    """Whether another try may fare better, and whether this one may have had an effect all the same."""
    if answer.status == 429 or isinstance(error, NotOwner):
        return True, False
    if stated is None:
        # Something between us and the service gave up on it.
        return answer.status in (502, 503, 504), answer.status >= 500
    if isinstance(error, OutcomeUnknown):
        return True, True
    # 408: the request came too slowly. With Retry-After the service says that nothing was done, and may be done soon.
    return answer.status == 408 or (answer.status == 503 and "retry-after" in answer.headers), answer.status == 500


def _request(call: Call[Any], line: Line, address: Address, left_s: float) -> Send:
    query = dict(call.query)
    if call.heeds_position and line.reads_own_writes and (seen := line.seen.text()):
        query["min_position"] = seen
    headers = {**line.headers(), **call.headers}
    if call.content is not None:
        headers["Content-Type"] = "application/json"
    # One answer that never comes must leave time for another try.
    timeout_s = max(left_s / 2, min(left_s, 1.0)) if call.repeats else left_s
    return Send(address, call.method, address.path + call.path, query, headers, call.content, max(timeout_s, 0.001))


def _after(call: Call[R], line: Line, error: LastseenError) -> Exchange[R]:
    """The result of a call that an earlier try has carried out."""
    if call.then is None:
        return None  # type: ignore[return-value]  # only calls without a result have nothing to get it by
    found = yield from carry_out(call.then, line)
    if found is None:
        raise SessionEnded(f"it was done, and the session has ended since ({error})")
    return found


def _unknown(call: Call[Any], why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{call.method} {call.path}: it may or may not have been done ({why}); read before you try again, or pin the"
        " call with `session_id`, which makes most of them safe to repeat"
    )
