"""The route of many touches at once: one append for all, and a result for each."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from lastseen.api.paths import TOUCHES
from lastseen.api.problems import Problem, document_of, problem_of
from lastseen.api.requests import TouchManyRequest
from lastseen.api.responses import AppliedTouch, RefusedTouch, SentTouch, TouchResults
from lastseen.auth.caller import Caller, Scope
from lastseen.engine.errors import LastseenError
from lastseen.engine.session import SessionView
from lastseen.http import responses
from lastseen.http.caller import OTHER_KEYS, caller_of
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import check_content_type, decoded
from lastseen.http.worker_threads import WorkerThreads


class ManyTouches:
    """The handler."""

    def __init__(self, workers: WorkerThreads) -> None:
        self._workers = workers
        self._engine = workers.engine

    async def touch(self, request: Request) -> Response:
        """Touch them all."""
        caller = caller_of(request, Scope.TOUCH)
        content = await request.body()
        if content:
            check_content_type(request)
        return await self._workers.call(self._touch, caller, content)

    def _touch(self, caller: Caller, content: bytes) -> Response:
        body = decoded(content or b"{}", TouchManyRequest)
        keys = body.keys
        if caller.prefix:
            # Keys of others are refused before anything is looked up.
            own = [key for key in keys if caller.covers(key)]
            touched = iter(self._engine.touch_many(own, wait=body.wait) if own else ())
            results = [_result_of(next(touched)) if caller.covers(key) else _FORBIDDEN for key in keys]
        else:
            results = [_result_of(each) for each in self._engine.touch_many(keys, wait=body.wait)]
        partitions = {result.position[0] for result in results if isinstance(result, AppliedTouch)}
        return responses.of_value(
            {"results": results}, 200 if body.wait == "applied" else 202, responses.reflecting(self._engine, partitions)
        )


_SENT = SentTouch()


def _refused(problem: Problem) -> RefusedTouch:
    return RefusedTouch(document_of(problem))


_FORBIDDEN = _refused(Problem(403, "forbidden", OTHER_KEYS))


def _result_of(touched: SessionView | LastseenError | None) -> AppliedTouch | SentTouch | RefusedTouch:
    if touched is None:
        return _SENT
    if isinstance(touched, LastseenError):
        return _refused(problem_of(touched))
    return AppliedTouch(
        touched.session_id, touched.version, touched.last_active_at_ms, touched.deadline_ms, touched.position
    )


def operations(workers: WorkerThreads) -> list[Operation]:
    """The operations."""
    handlers = ManyTouches(workers)
    return [
        Operation(
            "POST", TOUCHES, "touchSessions", handlers.touch, Scope.TOUCH, "Report activity of many sessions",
            {
                200: Success("A result for each key, in their order.", TouchResults, ("Position", "Partitions")),
                202: Success("The same for `wait` = `appended` or `none`: refusals are known, the others are being"
                             " appended.", TouchResults),
            },
            "One append for all. A refused key does not affect the others.",
            body=TouchManyRequest, needs_body=True, body_example={"keys": ["telegram:1", "telegram:2"]},
            problems=(415,), tag="activity",
        ),
    ]  # fmt: skip
