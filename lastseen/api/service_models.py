"""The JSON about the service itself: plans, projections, long work, snapshots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lastseen.api.models import AtMs


class DueRow(Struct):
    """A session that a plan ends."""

    key: str
    session_id: str
    partition: int
    reason: Annotated[str, Meta(description="Why: `idle`, `max_age`, `suspend_ttl` or `capacity`.")]
    deadline_ms: AtMs
    version: int
    outcome: Annotated[
        str | None, Meta(description="Of an applied plan: `ended`, or `kept` where it was used since. Else null.")
    ]


class SparedRow(Struct):
    """A session that is older than those that end, and is spared."""

    key: str
    session_id: str
    partition: int
    guard: Annotated[str, Meta(description="What spares it: `suspended`, or `held` by a job.")]
    over_since_ms: Annotated[int | None, Meta(description="When its idle limit would have ended it.")]


class PrunePlan(Struct):
    """What would end, or what has ended."""

    plan: Annotated[str, Meta(description="For `apply`, within 10 minutes, once, on this instance.")]
    applied: bool
    due: list[DueRow]
    """Soonest due first, at most 10,000."""
    due_total: int
    spared: list[SparedRow]
    """Longest over first, about 1,000 at most."""
    spared_total: int


ProjectionName = Literal["live_view", "snapshot", "history", "pruner", "facts"]
OperationKind = Literal["archive", "verify"]


class Failure(Struct):
    """What went wrong."""

    error: str
    detail: str


class ProjectionState(Struct):
    """How one projection stands."""

    name: ProjectionName
    phase: Annotated[str, Meta(description="`live`, `catching_up`, `retrying` after the error, or `stopped` for good.")]
    lag_events: Annotated[
        int | None,
        Meta(description="Records, or for the snapshot sessions, that it does not show yet; null where none is known."),
    ]
    lag_seconds: Annotated[float | None, Meta(description="For how long the first of them has waited, at the most.")]
    last_error: Failure | None


class PartitionState(Struct):
    """How far one partition has been folded."""

    partition: int
    checkpoint: Annotated[int, Meta(description="The next offset to read.")]
    digest: Annotated[str, Meta(description="Over all records before it, with their verdicts.")]
    lag_events: int
    lag_seconds: float


class Projections(Struct):
    """How each projection stands, and each partition."""

    projections: list[ProjectionState]
    partitions: list[PartitionState]


class LongOperation(Struct):
    """A piece of long work."""

    id: str
    kind: OperationKind
    status: Literal["running", "done", "failed"]
    started_at_ms: AtMs
    done: Annotated[int, Meta(description="Progress: so much of `total`, both 0 while that is not known.")] = 0
    total: int = 0
    ended_at_ms: int | None = None
    result: dict[str, Any] | None = None
    error: Failure | None = None


class LongOperations(Struct):
    """The operations that are remembered."""

    operations: list[LongOperation]


class SnapshotFile(Struct):
    """One snapshot."""

    name: Annotated[str, Meta(examples=["current", "archive-3"])]
    size_bytes: int
    created_at_ms: int | None
    unsaved_sessions: Annotated[int | None, Meta(description="Of the current one: changed since its last flush.")]


class Snapshots(Struct):
    """The snapshots of an instance."""

    snapshots: list[SnapshotFile]


class ProblemType(Struct):
    """A kind of problem."""

    type: Annotated[str, Meta(examples=["/problems/session-ended"])]
    meaning: str


class ProblemTypes(Struct):
    """Every kind of problem."""

    problems: list[ProblemType]
