"""The route that ends what is due or too much: a plan first, then what the plan says."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import service_responses
from lastseen.api.paths import PRUNE
from lastseen.api.problems import Problem
from lastseen.api.requests import PruneRequest
from lastseen.auth.caller import Caller, Scope
from lastseen.engine.arguments import ANY
from lastseen.engine.events import TIMED_REASONS
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import body_of
from lastseen.http.worker_threads import WorkerThreads
from lastseen.projections.pruner import Due, Plan

MAX_ROWS = 10_000
"""Sessions that one plan ends at most, soonest due first; the next plan has the rest."""
MAX_SPARED = 1_000
"""The most spared sessions that are listed; their total is always given."""
MAX_STORED_PLANS = 16
STORE_S = 600.0


@dataclass(frozen=True, slots=True)
class _StoredPlan:
    """A plan that can be applied."""

    caller: str
    stored_s: float
    plan: Plan


class Pruning:
    """The handler."""

    def __init__(self, workers: WorkerThreads, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._engine = workers.engine
        self._clock = clock
        self._lock = threading.Lock()
        self._plans: dict[str, _StoredPlan] = {}

    async def prune(self, request: Request) -> Response:
        """Plan, or apply a plan."""
        caller = caller_of(request, Scope.ADMIN)
        body = await body_of(request, PruneRequest)
        if body.apply is None:
            return await self._workers.call(self._plan, caller)
        return await self._workers.call(self._apply, caller, body.apply)

    def _plan(self, caller: Caller) -> Response:
        full_plan = self._engine.prune(dry_run=True)
        due, spared = full_plan.due, full_plan.spared
        if caller.prefix:
            # Who sees some keys only must not learn from a plan how many others there are.
            due = [each for each in due if caller.covers(each.key) and each.reason in TIMED_REASONS]
            spared = []
        if caller.prefix:
            # Else it would go through the sessions of others.
            self._engine.register_prefixes([caller.prefix])
        guarded = self._engine.guarded(MAX_SPARED, caller.prefix or ANY)
        rows = [
            service_responses.SparedRow(each.key, each.session_id, each.partition, each.guard, each.over_since_ms)
            for each in guarded.first
        ]
        named = {row.session_id for row in rows}
        rows += [
            service_responses.SparedRow(each.key, each.session_id, each.partition, each.reason, None)
            for each in spared[:MAX_SPARED]
            if each.session_id not in named
        ]
        plan = Plan(due[:MAX_ROWS])
        return responses.of_value(
            service_responses.PrunePlan(
                plan=self._store(caller, plan), applied=False, due=[_row(each) for each in plan.due],
                due_total=len(due), spared=rows, spared_total=max(guarded.total, len(rows)),
            )
        )  # fmt: skip

    def _store(self, caller: Caller, plan: Plan) -> str:
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._plans[name] = _StoredPlan(caller.name, self._clock(), plan)
            while len(self._plans) > MAX_STORED_PLANS:
                del self._plans[next(iter(self._plans))]
        return name

    def _apply(self, caller: Caller, name: str) -> Response:
        with self._lock:
            stored = self._plans.get(name)
            if stored is None or stored.caller != caller.name or self._clock() - stored.stored_s > STORE_S:
                raise Problem(
                    404, "no-such-plan",
                    "this instance has no such plan: it was applied already, is older than 10 minutes, or another"
                    " instance made it; make a new plan and apply that",
                )  # fmt: skip
            del self._plans[name]
        self._engine.execute_plan(stored.plan)
        rows = []
        for each in stored.plan.due:
            lives = self._engine.get_by_id(each.session_id) is not None
            rows.append(_row(each, "kept" if lives else "ended"))
        return responses.of_value(
            service_responses.PrunePlan(
                plan=name, applied=True, due=rows, due_total=len(rows), spared=[], spared_total=0
            )
        )


def _row(due: Due, outcome: Literal["ended", "kept"] | None = None) -> service_responses.DueRow:
    return service_responses.DueRow(
        due.key, due.session_id, due.partition, due.reason, due.deadline_ms, due.version, outcome
    )


def operations(workers: WorkerThreads) -> list[Operation]:
    """The operations."""
    pruning = Pruning(workers)
    return [
        Operation(
            "POST", PRUNE, "prune", pruning.prune, Scope.ADMIN, "End sessions that are due or above a limit",
            {200: Success("The plan; of an applied one, the outcome of each session.", service_responses.PrunePlan)},
            "Without a body, only a plan: which sessions would end and why, and which are spared for which reason."
            " `apply` executes a plan, and nothing else; a session that was used since is kept.",
            body=PruneRequest, body_example={}, tag="service", problems=(404, 415),
        ),
    ]  # fmt: skip
