"""The bodies of responses about the service itself: plans, projections, operations, snapshots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lastseen.api.fields import AtMs


class DueRow(Struct, frozen=True):
    """A session that a plan ends."""

    key: str
    session_id: str
    partition: int
    reason: Annotated[str, Meta(description="`idle`, `max_age`, `suspend_ttl` or `capacity`.")]
    deadline_ms: AtMs
    version: int
    outcome: Annotated[
        Literal["ended", "kept"] | None,
        Meta(description="In an applied plan: `ended`, or `kept` if the session was used in between. Otherwise null."),
    ]


class SparedRow(Struct, frozen=True):
    """A session that a plan spares although it is older than those that end."""

    key: str
    session_id: str
    partition: int
    guard: Annotated[str, Meta(description="The reason: it is `suspended`, or `held` by a job.")]
    over_since_ms: Annotated[int | None, Meta(description="When its idle limit would have ended it.")]


class PrunePlan(Struct, frozen=True):
    """The sessions that would end; in an applied plan, those that have ended."""

    plan: Annotated[str, Meta(description="Its name for `apply`: valid once, for 10 minutes, on this instance.")]
    applied: bool
    due: list[DueRow]
    """Soonest due first, at most 10,000."""
    due_total: int
    spared: list[SparedRow]
    """Longest overdue first, about 1,000 at most."""
    spared_total: int


class StreamTicket(Struct, frozen=True):
    """A ticket for one event stream."""

    ticket: Annotated[str, Meta(description="To be sent as `ticket` in the address of the stream.")]
    expires_at_ms: Annotated[int, Meta(description="Until then it opens the stream, which may last longer.")]
    url: Annotated[str, Meta(description="The address of the stream, with the ticket.")]


ProjectionName = Literal["live_view", "snapshot", "history", "pruner", "facts"]
OperationKind = Literal["archive", "verify"]


class Failure(Struct):
    """The error of something that failed."""

    error: str
    detail: str


class ProjectionState(Struct):
    """The state of one projection."""

    name: ProjectionName
    phase: Annotated[
        str, Meta(description="`live`, `catching_up`, `retrying` after the error, or `stopped` permanently.")
    ]
    lag_events: Annotated[
        int | None,
        Meta(description="Records (for the snapshot: sessions) that it does not show yet; null if unknown."),
    ]
    lag_seconds: Annotated[float | None, Meta(description="How long the first of them has waited, at most.")]
    last_error: Failure | None


class PartitionState(Struct):
    """How far one partition is folded."""

    partition: int
    checkpoint: Annotated[int, Meta(description="The next offset to read.")]
    digest: Annotated[str, Meta(description="The digest of all records before it, with their verdicts.")]
    lag_events: int
    lag_seconds: float


class Projections(Struct):
    """The state of each projection and of each partition."""

    projections: list[ProjectionState]
    partitions: list[PartitionState]


class LongOperation(Struct):
    """An operation that takes longer than a request."""

    id: str
    kind: OperationKind
    status: Literal["running", "done", "failed"]
    started_at_ms: AtMs
    done: Annotated[int, Meta(description="Progress, out of `total`; both are 0 while the total is unknown.")] = 0
    total: int = 0
    ended_at_ms: int | None = None
    result: dict[str, Any] | None = None
    error: Failure | None = None


class LongOperations(Struct):
    """The operations that the instance remembers."""

    operations: list[LongOperation]


class SnapshotFile(Struct):
    """One snapshot."""

    name: Annotated[str, Meta(examples=["current", "archive-3"])]
    size_bytes: int
    created_at_ms: int | None
    unsaved_sessions: Annotated[
        int | None, Meta(description="Of the current one: the sessions that changed since its last flush.")
    ]


class Snapshots(Struct):
    """The snapshots of an instance."""

    snapshots: list[SnapshotFile]


class ProblemType(Struct):
    """A kind of problem, and what it means."""

    type: Annotated[str, Meta(examples=["/problems/session-ended"])]
    meaning: str


class ProblemTypes(Struct):
    """Every kind of problem."""

    problems: list[ProblemType]
