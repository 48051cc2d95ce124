"""A client's call, carried out step by step on answers that a test gives, without any I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lastseen.api.problems import Problem, document, problem_of
from lastseen.client.address import addresses_of, host_rules_of
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.connection import Connection
from lastseen.client.retries import Pause, Send, attempt_steps
from lastseen.client.routes import Routes
from lastseen.engine.errors import LastseenError, NotOwner, OwnerState

KEY = "telegram:42"
ID = "h3Zq0mJ5Tn2b8c1xYw9KfA"
SECRET = "lst_verysecret"
RESET, REFUSED = NoResponse("ReadError", True), NoResponse("ConnectError", False)
FROZEN, UNREACHABLE = NoResponse("ReadTimeout", True, True), NoResponse("ConnectTimeout", False, True)
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
    received = {name.lower(): value for name, value in stated.headers.items()}
    return Response(
        stated.status, {"content-type": "application/problem+json", **received, **headers}, document(stated)
    )


Script = list[Response | NoResponse] | Callable[[Send], Response | NoResponse]


class Driven:
    """A call, carried out by a script of answers on a clock that pauses and time-outs turn."""

    def __init__(self, call: Call[Any], script: Script, timeout_s: float = 10, **options: Any) -> None:
        self.is_whole = options.pop("is_whole", True)
        """Whether all of the script is to be needed."""
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self.connection: Connection = options.pop("connection", None) or connected(timeout_s, **options)
        self.clock: Clock = self.connection.now_s  # type: ignore[assignment]
        self.result: Any = None
        self.error: LastseenError | None = None
        began_s = self.clock()
        try:
            self._drive(call, script if callable(script) else list(script))
        except LastseenError as error:
            self.error = error
        self.took_s = self.clock() - began_s
        assert SECRET not in f"{self.error!r} {self.connection!r} {self.error and self.error.__cause__!r}"

    def _drive(self, call: Call[Any], script: Script) -> None:
        exchange = attempt_steps(call, self.connection)
        answer: Response | NoResponse | None = None
        while True:
            try:
                step = exchange.send(answer)
            except StopIteration as over:
                self.result = over.value
                assert callable(script) or not script or not self.is_whole, "it was over before all was said"
                return
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.clock.now_s += step.seconds
                answer = None
            else:
                self.sent.append(step)
                answer = self._answer(step, script)
                if isinstance(answer, NoResponse) and answer.timed_out:
                    self.clock.now_s += step.timeout_s if answer.may_have_acted else step.connect_timeout_s

    def _answer(self, step: Send, script: Script) -> Response | NoResponse:
        if callable(script):
            return script(step)
        return script[0] if isinstance(script[0], NoResponse) and script[0].why == "without end" else script.pop(0)

    @property
    def asked(self) -> list[str]:
        """The hosts that the call was sent to."""
        return [sent.address.host for sent in self.sent]


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def connected(timeout_s: float = 10, **options: Any) -> Connection:
    """What the calls of one client share."""
    clock = Clock()
    hosts = host_rules_of(options.pop("owner_hosts", ["two", "three"]))
    routes = Routes(addresses_of(options.pop("address", "http://one:8321")), hosts, clock)
    return Connection(routes, SECRET, timeout_s, now_s=clock, jitter=lambda: 0.5, **options)


def without_end(may_have_acted: bool) -> NoResponse:
    """No answer, now and later."""
    return NoResponse("without end", may_have_acted)


def owned_by(address: str | None, owner: OwnerState | None = None) -> Response:
    """A refusal by an instance that does not own the key's partition."""
    return problem(NotOwner("not here", address, owner))


def planned(*due: str) -> Response:
    """A plan of the pruner for these keys."""
    rows = [
        {
            "key": key,
            "session_id": ID,
            "partition": 0,
            "reason": "idle",
            "deadline_ms": 1,
            "version": 1,
            "outcome": None,
        }
        for key in due
    ]
    plan = {"plan": "p1", "applied": False, "due": rows, "due_total": len(rows), "spared": [], "spared_total": 0}
    return Response(200, {}, json.dumps(plan).encode())
