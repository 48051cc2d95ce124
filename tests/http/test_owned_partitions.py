"""An instance that holds some partitions only: what it refuses, what it says of the owner, and what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

import lastseen
from lastseen.engine.errors import NotOwner, OwnerState, Refused
from lastseen.engine.log.port import Position
from lastseen.engine.log.shared_log import Owner
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import SessionView

Problem = Callable[[httpx.Response], dict[str, Any]]
PARTITIONS = 3
HERE, THERE = (
    next(f"user:{n}" for n in range(100) if partition_of(f"user:{n}", PARTITIONS) == number) for number in (0, 1)
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[lastseen.Engine]:
    """An engine that serves partition 0 of three."""
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}", partitions=PARTITIONS) as opened:
        opened.open(HERE)
        opened.open(THERE)
        opened._views.served = frozenset({0})
        yield opened


def know(engine: lastseen.Engine, state: OwnerState, address: str | None = None) -> None:
    """Have the engine know this of the owner of partition 1, and that partition 2 is another engine's."""
    owners = {1: Owner(state, address)}
    engine._views.known_owner = lambda number: owners.get(number, Owner(OwnerState.KNOWN, "http://third:1"))


@pytest.mark.parametrize("path", ["", "/history", "/explain", "/messages"])
def test_a_read_waits_for_the_keys_own_partition_and_no_other(
    client: httpx.Client, engine: lastseen.Engine, problem: Problem, path: str
) -> None:
    know(engine, OwnerState.KNOWN, "http://second:1")
    far = {"min_position": "0:0,1:999999,2:999999"}
    assert client.get(f"/v1/sessions/{HERE}{path}", params=far).status_code == 200
    refused = client.get(f"/v1/sessions/{THERE}{path}", params=far)
    assert (refused.status_code, problem(refused)["address"]) == (421, "http://second:1"), "the key's owner, no other's"


def test_a_listing_waits_for_what_it_covers(client: httpx.Client, problem: Problem) -> None:
    listed = client.get("/v1/sessions", params={"min_position": "0:0,1:999999"})
    assert listed.status_code == 200
    late = client.get("/v1/sessions", params={"min_position": "0:999999"})
    assert problem(late)["type"] == "/problems/position-not-reached"


def test_a_position_in_a_partition_that_the_log_has_not_is_refused(client: httpx.Client, problem: Problem) -> None:
    assert problem(client.get(f"/v1/sessions/{HERE}", params={"min_position": "0:0,3:0"}))["status"] == 409


@pytest.mark.parametrize("state", list(OwnerState))
def test_a_refusal_names_the_owner_or_says_when_to_ask_again(
    client: httpx.Client, engine: lastseen.Engine, problem: Problem, state: OwnerState
) -> None:
    address = "http://second:1" if state is OwnerState.KNOWN else None
    know(engine, state, address)
    for refused in (
        client.get(f"/v1/sessions/{THERE}"),
        client.post(f"/v1/sessions/{THERE}/touch"),
        client.post("/v1/sessions", json={"key": THERE}),
        client.get(f"/v1/sessions/{THERE}", params={"min_position": "1:999999"}),
    ):
        assert refused.status_code == 421
        stated = problem(refused)
        assert (stated["owner"], stated.get("address")) == (state.value, address)
        assert refused.headers.get("retry-after") == (None if address else "1")


def test_of_many_touches_each_that_is_elsewhere_is_refused_alone(
    served: Served, client: httpx.Client, engine: lastseen.Engine
) -> None:
    know(engine, OwnerState.KNOWN, "http://second:1")
    answer = client.post("/v1/touches", json={"keys": [HERE, THERE]})
    first, second = answer.json()["results"]
    assert answer.status_code == 200
    assert (first["result"], second["result"]) == ("applied", "refused")
    assert (second["problem"]["status"], second["problem"]["address"]) == (421, "http://second:1")
    assert answer.headers["position"].startswith("0:")
    with lastseen.Client(served.address) as there:
        done, refused = there.touch_many([HERE, THERE])
        assert isinstance(refused, NotOwner)
        assert (done.version, refused.address, refused.owner) == (3, "http://second:1", OwnerState.KNOWN)


@pytest.mark.parametrize("command", ["suspend", "close"])
def test_a_bulk_command_refuses_each_that_is_elsewhere_alone(
    served: Served, client: httpx.Client, engine: lastseen.Engine, command: str
) -> None:
    know(engine, OwnerState.UNKNOWN)
    answer = client.post(f"/v1/bulk/{command}", json={"sessions": [{"key": THERE}, {"key": HERE}]})
    first, second = answer.json()["results"]
    assert (answer.status_code, answer.json()["applied"]) == (200, 1)
    assert (first["result"], second["result"]) == ("refused", "applied")
    assert (first["problem"]["status"], first["problem"]["owner"]) == (421, "unknown")
    with lastseen.Client(served.address) as there:
        refused, again = getattr(there, f"{command}_many")([THERE, HERE])
        assert isinstance(refused, NotOwner)
        assert refused.owner is OwnerState.UNKNOWN
        assert isinstance(again, Refused), "it is suspended, or has ended, already"


def test_gathered_touches_too(engine: lastseen.Engine) -> None:
    know(engine, OwnerState.KNOWN, "http://second:1")

    async def story() -> None:
        there = lastseen.AsyncEngine(engine)
        done, refused = await asyncio.gather(there.touch(HERE), there.touch(THERE), return_exceptions=True)
        assert isinstance(done, SessionView)
        assert isinstance(refused, NotOwner)
        assert refused.address == "http://second:1"
        done, refused = await there.close_many([HERE, THERE])
        assert (done, type(refused)) == (None, NotOwner)
        await there.shutdown()

    asyncio.run(story())


def test_answers_say_how_many_partitions_there_are(client: httpx.Client) -> None:
    for answer in (
        client.get(f"/v1/sessions/{HERE}"),
        client.post(f"/v1/sessions/{HERE}/touch"),
        client.post("/v1/touches", json={"keys": [HERE]}),
        client.get("/v1/sessions"),
        client.delete(f"/v1/sessions/{HERE}"),
    ):
        assert (answer.headers["partitions"], answer.headers["position"].partition(":")[0]) == ("3", "0")


def test_a_response_names_a_position_though_its_partition_was_dropped_meanwhile(
    client: httpx.Client, engine: lastseen.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.get(HERE)
    assert session is not None
    monkeypatch.setattr(engine, "reached", lambda number: Position(number, -1))
    response = client.get(f"/v1/sessions/{HERE}")
    assert response.headers["position"] == f"{session.position.partition}:{session.position.offset}"
