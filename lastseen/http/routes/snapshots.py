"""Routes of snapshots: which there are, putting one by, and whether one is sound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries, service_responses
from lastseen.api.problems import Problem
from lastseen.auth.caller import Scope
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import query_of
from lastseen.http.routes.operations import OperationRunner, Progress
from lastseen.http.routes.statistics import for_all_keys
from lastseen.http.worker_threads import WorkerThreads
from lastseen.projections.archive import archives_of, is_sound
from lastseen.projections.snapshot_file import IN_MEMORY

CURRENT = "current"
_archive = re.compile(r"\.(archive-[0-9]+)$")


class Snapshots:
    """The handlers."""

    def __init__(self, workers: WorkerThreads, runner: OperationRunner) -> None:
        self._workers = workers
        self._engine = workers.engine
        self._runner = runner

    async def list(self, request: Request) -> Response:
        """The snapshot in use, and its archived copies."""
        for_all_keys(caller_of(request, Scope.ADMIN))
        query_of(request, queries.EmptyQuery)
        return await self._workers.call(self._list)

    def _list(self) -> Response:
        state = self._engine.snapshot_state()
        found = [service_responses.SnapshotFile(CURRENT, state.size_bytes, None, state.unsaved)]
        for name, path in self._archives().items():
            status = path.stat()
            found.append(service_responses.SnapshotFile(name, status.st_size, status.st_mtime_ns // 1_000_000, None))
        return responses.of_value({"snapshots": found})

    def _archives(self) -> dict[str, Path]:
        path = self._engine.snapshot_state().path
        return {} if path == IN_MEMORY else {_named(found): found for found in archives_of(path) if found.is_file()}

    async def create(self, request: Request) -> Response:
        """Put a copy by."""
        for_all_keys(caller_of(request, Scope.ADMIN))
        query_of(request, queries.EmptyQuery)
        if self._engine.snapshot_state().path == IN_MEMORY:
            raise Problem(
                409, "snapshot-in-memory",
                "this instance keeps its snapshot in memory: start it with the setting `snapshot`, which names a file",
            )  # fmt: skip
        return self._runner.start("archive", self._archive)

    def _archive(self, _: Progress) -> dict[str, Any]:
        path = self._engine.archive()
        return {"name": None if path is None else _named(Path(path))}

    async def verify(self, request: Request) -> Response:
        """Check one."""
        for_all_keys(caller_of(request, Scope.ADMIN))
        query_of(request, queries.EmptyQuery)
        name = request.path_params["name"]
        if name == CURRENT:
            return self._runner.start("verify", self._verify_current)
        path = (await self._workers.call(self._archives)).get(name)
        if path is None:
            raise Problem(404, "no-such-snapshot", "no snapshot has this name: see the list of snapshots")
        return self._runner.start("verify", lambda progress: self._verify_archive(name, path, progress))

    def _verify_current(self, progress: Progress) -> dict[str, Any]:
        differences = list(self._engine.refold(progress))
        return {"name": CURRENT, "sound": not differences, "differences": differences}

    def _verify_archive(self, name: str, path: Path, progress: Progress) -> dict[str, Any]:
        progress(0, 1)
        sound = is_sound(path)
        progress(1, 1)
        differences = [] if sound else ["its bytes are not those that were written: it will be skipped"]
        return {"name": name, "sound": sound, "differences": differences}


def _named(path: Path) -> str:
    match = _archive.search(path.name)
    return path.name if match is None else match[1]


def operations(workers: WorkerThreads, runner: OperationRunner) -> list[Operation]:
    """The operations."""
    snapshots = Snapshots(workers, runner)
    begun = {202: Success("It is in progress: watch it at Location.", service_responses.LongOperation, ("Location",))}
    watch = {
        202: {"watch": {"operationId": "getOperation", "parameters": {"id": "$response.body#/id"}}},
    }  # fmt: skip
    return [
        Operation(
            "GET", "/v1/snapshots", "listSnapshots", snapshots.list, Scope.ADMIN, "Snapshots of this instance",
            {200: Success("The one in use, and archived copies, newest first.", service_responses.Snapshots)},
            tag="service",
            query=queries.EmptyQuery,
        ),
        Operation(
            "POST", "/v1/snapshots", "createSnapshot", snapshots.create, Scope.ADMIN, "Archive a copy of the snapshot",
            begun, "Flushed, copied, and kept beside it with its digest.", tag="service", problems=(409,), links=watch,
            query=queries.EmptyQuery,
        ),
        Operation(
            "POST", "/v1/snapshots/{name}/verify", "verifySnapshot", snapshots.verify, Scope.ADMIN,
            "Whether a snapshot is sound", begun,
            "An archived copy is compared with its digest; for `current` the whole log is folded again, and compared"
            " with the state of this instance.", tag="service", problems=(404,), links=watch, query=queries.EmptyQuery,
        ),
    ]  # fmt: skip
