"""A client's call, carried out step by step on answers that a test gives, without any I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lastseen.api.problems import Problem, document, problem_of
from lastseen.client.address import address_of
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.retries import Connection, Pause, Send, attempt_steps
from lastseen.engine.errors import LastseenError, NotOwner, OwnerState

KEY = "telegram:42"
ID = "h3Zq0mJ5Tn2b8c1xYw9KfA"
SECRET = "lst_verysecret"
RESET, REFUSED = NoResponse("ReadError", True), NoResponse("ConnectError", False)
SESSION = {
    "key": KEY, "session_id": ID, "status": "active", "version": 3, "owner": None, "created_at_ms": 1,
    "last_active_at_ms": 2, "deadline_ms": None, "deadline_reason": None, "holders": {}, "position": [0, 7],
    "policy": {"idle_ttl_ms": None, "max_age_ms": None, "suspend_ttl_ms": None, "touch_precision_ms": 0,
               "max_hold_ms": None, "max_messages": None},
    "attributes": {},
}  # fmt: skip


def session(headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    """A success."""
    return Response(200, headers or {"position": "0:7"}, json.dumps({**SESSION, **members}).encode())


def problem(of: LastseenError | Problem, **headers: str) -> Response:
    """A refusal, as the service makes it."""
    stated = problem_of(of) if isinstance(of, LastseenError) else of
    told = {name.lower(): value for name, value in stated.headers.items()}
    return Response(stated.status, {"content-type": "application/problem+json", **told, **headers}, document(stated))


class Driven:
    """A call, carried out by a script of answers on a clock that pauses turn."""

    def __init__(
        self, call: Call[Any], script: list[Response | NoResponse], timeout_s: float = 10, **options: Any
    ) -> None:
        self.now_s = 1_000.0
        self.is_whole = options.pop("is_whole", True)
        """Whether all of the script is to be needed."""
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self.connection = options.pop("connection", None) or Connection(
            address_of(options.pop("address", "http://one:8321")), SECRET, timeout_s, now_s=lambda: self.now_s,
            jitter=lambda: 0.5, **options,
        )  # fmt: skip
        self.result: Any = None
        self.error: LastseenError | None = None
        try:
            self._drive(call, list(script))
        except LastseenError as error:
            self.error = error
        assert SECRET not in f"{self.error!r} {self.connection!r} {self.error and self.error.__cause__!r}"

    def _drive(self, call: Call[Any], script: list[Response | NoResponse]) -> None:
        exchange = attempt_steps(call, self.connection)
        answer: Response | NoResponse | None = None
        while True:
            try:
                step = exchange.send(answer)
            except StopIteration as over:
                self.result = over.value
                assert not script or not self.is_whole, "it was over before all was said"
                return
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now_s += step.seconds
                answer = None
            else:
                self.sent.append(step)
                answer = script.pop(0) if len(script) > 1 or not self.repeats_last(script) else script[0]

    def repeats_last(self, script: list[Response | NoResponse]) -> bool:
        """Whether the last answer is given for ever."""
        return bool(script) and isinstance(script[0], NoResponse) and script[0].why == "for ever"


def for_ever(may_have_acted: bool) -> NoResponse:
    """No answer, now and later."""
    return NoResponse("for ever", may_have_acted)


def owned_by(address: str | None, owner: OwnerState | None = None) -> Response:
    """A refusal by an instance that does not own the key's partition."""
    return problem(NotOwner("not here", address, owner))
