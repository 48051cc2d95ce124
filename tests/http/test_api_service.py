"""What those who run the service ask of it over HTTP: plans, figures, projections, snapshots, long work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

import lastseen
from lastseen import Engine, ManualClock, policy
from lastseen.engine.errors import LogUnavailable
from tests.patience import eventually

Problem = Callable[[httpx.Response], dict[str, Any]]
T0, MIN = 1_700_000_000_000, 60_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    """An engine for three sessions, whose clock the test turns; it runs nothing by itself."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, clock=clock, background=False, max_sessions=3) as opened:
        yield opened


def watched(client: httpx.Client, begun: httpx.Response) -> dict[str, Any]:
    """The outcome of long work."""
    assert begun.status_code == 202

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(begun.headers["location"]).json()
        return None if found["status"] == "running" else found

    body: dict[str, Any] = eventually(ended, "the work ends")
    return body


# ── plans ──


@pytest.fixture
def crowd(engine: Engine, clock: ManualClock) -> None:
    """Two that are due, two too many, one suspended and one held that would be due, and two that are fine."""
    for key in ("due-1", "suspended", "due-2"):
        engine.open(key, policy=policy(idle_ttl="5m"))
    engine.suspend("suspended")
    for key in ("held", "old-1", "old-2", "new-1", "new-2"):
        engine.open(key, policy=policy(idle_ttl="1h" if key != "held" else "5m"))
        clock.advance(1)
    engine.take_lease("held", "job", 60 * MIN)
    clock.advance(6 * MIN)


def test_a_plan_says_what_and_why_and_who_is_spared(client: httpx.Client, engine: Engine, crowd: None) -> None:
    plan = client.post("/v1/prune").json()
    assert [(row["key"], row["reason"]) for row in plan["due"]] == [
        ("due-1", "idle"), ("due-2", "idle"), ("old-1", "capacity"), ("old-2", "capacity"), ("new-1", "capacity"),
    ]  # fmt: skip
    assert [(row["key"], row["guard"]) for row in plan["spared"]] == [("held", "held"), ("suspended", "suspended")]
    assert (plan["applied"], plan["due_total"], plan["spared_total"]) == (False, 5, 2)
    assert {row["outcome"] for row in plan["due"]} == {None}
    assert engine.count() == 8


def test_what_is_applied_is_what_the_plan_said(
    client: httpx.Client, engine: Engine, crowd: None, problem: Problem
) -> None:
    plan = client.post("/v1/prune", json={}).json()
    engine.touch("old-1")
    engine.open("later", policy=policy(idle_ttl="5m"))
    done = client.post("/v1/prune", json={"apply": plan["plan"]}).json()
    assert done["applied"]
    assert [(row["key"], row["outcome"]) for row in done["due"]] == [
        ("due-1", "ended"), ("due-2", "ended"), ("old-1", "kept"), ("old-2", "ended"), ("new-1", "ended"),
    ]  # fmt: skip
    assert sorted(session.key for session in engine.list().sessions) == ["held", "later", "new-2", "old-1", "suspended"]
    for again in (plan["plan"], "unknown"):
        assert problem(client.post("/v1/prune", json={"apply": again}))["type"] == "/problems/no-such-plan"


# ── figures ──


def test_statistics_are_the_engine_s(client: httpx.Client, engine: Engine) -> None:
    engine.open("a")
    engine.close("a")
    assert client.get("/v1/statistics").json() == engine.statistics()


def test_projections_say_how_they_stand(
    client: httpx.Client, engine: Engine, tmp_path: Path, clock: ManualClock
) -> None:
    engine.open("a")

    def received() -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in client.get("/v1/projections").json()["projections"]}

    assert {name: each["phase"] for name, each in received().items()} == dict.fromkeys(
        ("live_view", "snapshot", "history", "pruner", "facts"), "live"
    )
    assert received()["snapshot"]["lag_events"] == 1
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, clock=clock, background=False, snapshot=":memory:") as other:
        other.open("b")
    assert (received()["live_view"]["phase"], received()["live_view"]["lag_events"]) == ("catching_up", 1)
    (partition,) = client.get("/v1/projections").json()["partitions"]
    assert (partition["checkpoint"], partition["digest"]) == engine.checkpoints()[0]

    engine._background.failures["prune"] = LogUnavailable("the disk is full")
    said = received()["pruner"]
    assert (said["phase"], said["last_error"]) == (
        "retrying",
        {"error": "LogUnavailable", "detail": "the disk is full"},
    )
    engine.shutdown()
    assert {each["phase"] for each in received().values()} == {"stopped"}


# ── snapshots ──


def test_a_snapshot_is_put_by_and_verified(
    client: httpx.Client, engine: Engine, tmp_path: Path, problem: Problem
) -> None:
    engine.open("a")
    made = watched(client, client.post("/v1/snapshots"))
    assert (made["kind"], made["status"], made["result"]) == ("archive", "done", {"name": "archive-1"})
    listed = client.get("/v1/snapshots").json()["snapshots"]
    assert [(each["name"], each["unsaved_sessions"]) for each in listed] == [("current", 0), ("archive-1", None)]
    assert all(each["size_bytes"] > 0 for each in listed)
    for name, count in (("archive-1", 1), ("current", 2)):  # the genesis record, and the session's
        verified = watched(client, client.post(f"/v1/snapshots/{name}/verify"))
        assert verified["result"] == {"name": name, "sound": True, "differences": []}
        assert verified["done"] == verified["total"] == count
    (archive,) = tmp_path.glob("*.archive-1")
    archive.write_bytes(archive.read_bytes()[:-1])
    spoilt = watched(client, client.post("/v1/snapshots/archive-1/verify"))
    assert spoilt["result"]["sound"] is False
    assert problem(client.post("/v1/snapshots/archive-9/verify"))["status"] == 404
    kinds = [each["kind"] for each in client.get("/v1/operations").json()["operations"]]
    assert kinds == ["verify", "verify", "verify", "archive"]
    assert problem(client.get("/v1/operations/unknown"))["status"] == 404


def test_a_snapshot_in_memory_is_not_put_by(problem: Problem) -> None:
    with (
        lastseen.open_engine("memory://", background=False) as opened,
        Served(opened) as served,
        served.client() as client,
    ):
        assert problem(client.post("/v1/snapshots"))["type"] == "/problems/snapshot-in-memory"


def test_long_work_that_fails_says_why(client: httpx.Client, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(engine, "archive", full)
    failed = watched(client, client.post("/v1/snapshots"))
    assert (failed["status"], failed["error"]) == ("failed", {"error": "LogUnavailable", "detail": "the disk is full"})


def test_long_work_is_bounded_and_broken_off_at_the_end(
    served: Served, engine: Engine, monkeypatch: pytest.MonkeyPatch, problem: Problem
) -> None:
    def endless(progress: Callable[[int, int], None]) -> list[str]:
        while True:
            progress(1, 2)
            time.sleep(0.01)  # waits: as work does, until the service breaks it off

    monkeypatch.setattr(engine, "refold", endless)
    with served.client() as client:
        begun = [client.post("/v1/snapshots/current/verify") for _ in range(2)]
        refused = client.post("/v1/snapshots/current/verify")
        assert problem(refused)["type"] == "/problems/too-many-operations"
        assert refused.headers["retry-after"] == "5"
        running = client.get(begun[0].headers["location"]).json()
        assert running["status"] == "running"
    served.stop()
