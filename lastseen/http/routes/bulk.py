"""The routes that end, suspend or resume many sessions: named ones, or those of an owner or under a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from lastseen.api.paths import BULK
from lastseen.api.problems import Problem, document_of, problem_of
from lastseen.api.requests import MAX_BULK, BulkRequest
from lastseen.api.responses import BulkResult, BulkResults
from lastseen.auth.caller import Caller, Scope
from lastseen.embedded.selection import BulkCommand, Filter, Named, execute, select
from lastseen.engine.arguments import ANY
from lastseen.engine.errors import LastseenError
from lastseen.http import responses
from lastseen.http.caller import OTHER_KEYS, caller_of
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import body_of, or_any, or_none
from lastseen.http.routes.sessions import narrow_prefix
from lastseen.http.worker_threads import WorkerThreads


class BulkRoutes:
    """The handlers."""

    def __init__(self, workers: WorkerThreads) -> None:
        self._workers = workers
        self._engine = workers.engine

    async def run(self, command: BulkCommand, request: Request) -> Response:
        """Do it to all that are meant."""
        caller = caller_of(request, Scope.MANAGE)
        body = await body_of(request, BulkRequest)
        has_filter = any(part is not UNSET for part in (body.owner, body.prefix, body.status))
        if (body.sessions is not UNSET) is has_filter:
            raise Problem(
                422,
                "invalid-input",
                "give either sessions, or a filter: an owner or a prefix, and a status if wanted",
            )
        return await self._workers.call(self._run, command, caller, body)

    def _run(self, command: BulkCommand, caller: Caller, body: BulkRequest) -> Response:
        if body.sessions is UNSET:
            sessions, is_complete = self._selected(caller, body)
            refused: dict[int, BulkResult] = {}
        else:
            # Keys of others are refused before anything is looked up.
            refused = {
                place: BulkResult(each.key, or_none(each.session_id), "refused", _FORBIDDEN)
                for place, each in enumerate(body.sessions)
                if not caller.covers(each.key)
            }
            sessions = [(each.key, or_none(each.session_id)) for each in body.sessions if caller.covers(each.key)]
            is_complete = True
        errors = iter(execute(self._engine, command, sessions, body.reason, dry_run=body.dry_run))
        rest = iter(sessions)
        results = [
            refused[place] if place in refused else _result(next(rest), next(errors), body.dry_run)
            for place in range(len(sessions) + len(refused))
        ]
        done = sum(result.result == "applied" for result in results)
        return responses.of_value(
            BulkResults(results, done, is_complete), headers=self._reflecting(sessions if done else ())
        )

    def _selected(self, caller: Caller, body: BulkRequest) -> tuple[Sequence[Named], bool]:
        Filter(or_any(body.owner), or_any(body.prefix), or_any(body.status)).check()
        prefix = narrow_prefix(caller.prefix, or_none(body.prefix) or "")
        if prefix is None:
            return [], True
        if caller.prefix:
            self._engine.register_prefixes([caller.prefix])
        wanted = Filter(or_any(body.owner), prefix or ANY, or_any(body.status))
        return select(self._engine, wanted, MAX_BULK)

    def _reflecting(self, sessions: Sequence[Named]) -> dict[str, str]:
        return responses.reflecting(self._engine, {self._engine.partition_of(key) for key, _ in sessions})


_FORBIDDEN = document_of(Problem(403, "forbidden", OTHER_KEYS))


def _result(named: Named, error: LastseenError | None, dry_run: bool) -> BulkResult:
    if error is not None:
        return BulkResult(*named, "refused", document_of(problem_of(error)))
    return BulkResult(*named, "selected" if dry_run else "applied")


_SUMMARIES: dict[BulkCommand, str] = {
    "close": "End many sessions", "suspend": "Suspend many sessions", "resume": "Resume many sessions",
}  # fmt: skip


def operations(workers: WorkerThreads) -> list[Operation]:
    """The operations."""
    handlers = BulkRoutes(workers)
    return [
        Operation(
            "POST", f"{BULK}/{command}", f"{command}Sessions", partial(handlers.run, command), Scope.MANAGE, summary,
            {200: Success("A result for each session that is meant.", BulkResults, ("Position", "Partitions"))},
            "Names the sessions, or selects live ones by owner, prefix and status; with `dry_run` nothing is written."
            " 1,000 sessions are one append. A session that is refused does not keep the others. One request takes at"
            " most 10,000: if `complete` is false, more fit, and the same request does the rest.",
            body=BulkRequest, needs_body=True, body_example={"owner": "user3", "dry_run": True}, problems=(415,),
            tag="sessions",
        )
        for command, summary in _SUMMARIES.items()
    ]  # fmt: skip
