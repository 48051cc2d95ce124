"""How a client gets a response: tries, pauses and redirects to other instances, as a generator that does no I/O.

It yields the next step, `Send` or `Pause`, and receives its outcome; `Client` and `AsyncClient` execute the steps. A
call, its pauses included, takes no longer than the client's timeout, and is tried as long as that allows.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from lastseen.api.problem_document import ProblemDocument
from lastseen.client.address import Address
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.connection import Connection
from lastseen.client.errors import error_for, problem_in, unreadable_response
from lastseen.client.search import Search
from lastseen.engine.errors import EngineClosed, LastseenError, LogUnavailable, NotOwner, OutcomeUnknown, SessionEnded

R = TypeVar("R")


class Send(NamedTuple):
    """Send a request and wait for its answer, so long and no longer."""

    address: Address
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes | None
    timeout_s: float
    connect_timeout_s: float


class Pause(NamedTuple):
    """Wait."""

    seconds: float


AttemptSteps = Generator[Send | Pause, Response | NoResponse | None, R]


def attempt_steps(call: Call[R], connection: Connection, at: Address | None = None) -> AttemptSteps[R]:
    """The result of a call, which is sent to `at` first, if that is given.

    Raises the errors of `engine.errors`, and `ServiceError` for what is none of those.
    """
    search = Search(call, connection, at)
    unknown_outcome: str | None = None
    while True:
        response = yield _request(call, connection, search)
        assert response is not None, "a request has a response, or has lost it"
        outcome = _judge(call, connection, search.address, response)
        search.learn(response, outcome.error)
        if outcome.error is None:
            result: R = outcome.result
            after = None if call.follow is None else call.follow(result)
            return result if after is None else (yield from attempt_steps(after, connection, search.address))
        error = outcome.error
        if outcome.may_have_acted:
            unknown_outcome = str(error)
        elif unknown_outcome is not None and isinstance(error, call.done_errors):
            return (yield from _after(call, connection, error))
        elif unknown_outcome is not None and isinstance(error, call.unclear_errors):
            raise _unknown(call, f"{unknown_outcome}, and now: {error}") from error
        wait_s = None
        if outcome.retries and (call.is_repeatable or not outcome.may_have_acted):
            wait_s = search.move_on(error, outcome.goes_elsewhere, outcome.retry_after)
        if wait_s is None:
            if unknown_outcome is not None and not call.is_read and (outcome.retries or outcome.may_have_acted):
                raise _unknown(call, str(error)) from error
            raise search.refused or error
        if wait_s > 0:
            yield Pause(wait_s)
            search.begin_again()


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
    goes_elsewhere: bool = False
    """Whether another instance may give the answer at once."""
    retry_after: str | None = None


def _judge(call: Call[R], connection: Connection, address: Address, response: Response | NoResponse) -> _Outcome:
    if isinstance(response, NoResponse):
        return _Outcome(
            error=LogUnavailable(f"the service at {address} did not respond: {response.why}"),
            may_have_acted=response.may_have_acted,
            retries=True,
            goes_elsewhere=not response.was_queued,
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
        goes_elsewhere=problem is None or isinstance(error, NotOwner | EngineClosed),
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


def _request(call: Call[Any], connection: Connection, search: Search) -> Send:
    address, query = search.address, dict(call.query)
    if call.waits_for_position and connection.reads_own_writes and (seen := connection.seen.text(call.key)):
        query["min_position"] = seen
    headers = {**connection.headers(), **call.headers}
    if call.content is not None:
        headers["Content-Type"] = "application/json"
    path, timeout_s = address.path + call.path, search.try_s()
    connect_s = min(connection.connect_timeout_s, timeout_s * 0.8)  # the response needs time too
    return Send(address, call.method, path, query, headers, call.content, timeout_s, connect_s)


def _after(call: Call[R], connection: Connection, error: LastseenError) -> AttemptSteps[R]:
    """The result of a call that an earlier try has carried out."""
    if call.then is None:
        return None  # type: ignore[return-value]  # only calls without a result have nothing to get it by
    found = yield from attempt_steps(call.then, connection)
    if found is None:
        raise SessionEnded(f"the command took effect, and the session has ended since ({error})")
    return found


def _unknown(call: Call[Any], why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{call.method} {call.path}: it may or may not have taken effect ({why}); read before you try again, or pin the"
        " call with `session_id`, which makes most of them safe to repeat"
    )
