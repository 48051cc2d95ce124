"""With a token of tenant A, nothing that is asked for reads, changes, shows or even looks up what is tenant B's."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from asgi_caller import request
from tenant_requests import THEIRS, Requests
from tenant_worlds import NAMES, OURS, SECRET, World

from lastseen.auth.caller import Caller, Scope
from lastseen.http.application import worker_threads_of
from lastseen.http.guard.guard import Tokens

REQUESTS, FEW_REQUESTS = 10_000, 1_500
TWIN = "tenantC:"
TIMED = ("/metrics", "/readyz", "/livez")
"""They say how long things took, and are asked without a comparison."""


async def both(worlds: tuple[World, World], scope: dict[str, Any], body: bytes) -> tuple[Any, Any]:
    """Ask for the same in both worlds."""
    return await worlds[0].ask(scope, body), await worlds[1].ask(scope, body)


class RunsItsOwn:
    """Knows every token as tenant A's that runs the service. None such can be made; the routes would hold out."""

    def caller(self, secret: bytes) -> Caller:
        """Who sends it."""
        assert secret
        return Caller("a", frozenset([Scope.ADMIN]), OURS)


CALLERS = [
    pytest.param(None, FEW_REQUESTS, 20_260_102, id="tenant"),
    pytest.param(RunsItsOwn(), FEW_REQUESTS, 20_260_102, id="tenant that is admin"),
    pytest.param(None, REQUESTS, 20_260_101, id="tenant, for long", marks=pytest.mark.thorough),
]


@pytest.mark.parametrize(("known", "requests", "seed"), CALLERS)
def test_no_number_of_requests_tells_whether_another_tenant_has_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Tokens | None, requests: int, seed: int
) -> None:
    monkeypatch.setattr("lastseen.http.worker_threads.POSITION_WAIT_S", 0.001)
    with pytest.MonkeyPatch.context() as patch:
        worlds = (
            World(tmp_path / "b", THEIRS, "bob", patch, known),
            World(tmp_path / "c", TWIN, "cyd", patch, known),
        )
        try:
            asyncio.run(compare(worlds, seed, requests))
        finally:
            for world in worlds:
                world.engine.shutdown()


async def use_an_idempotency_key(world: World) -> None:
    """The other tenant opens a session with a key that A will send, too."""
    body = json.dumps({"key": f"{world.other}plain"}).encode()
    fields = [("idempotency-key", "theirs"), ("content-type", "application/json"), ("content-length", str(len(body)))]
    opened = await world.ask(request("POST", "/v1/sessions", fields=fields), body, world.other_token)
    assert opened.status in (200, 403)


async def compare(worlds: tuple[World, World], seed: int, count: int) -> None:
    """Ask both worlds for the same, over and over, and hold the answers against each other."""
    real, twin = worlds
    for world in worlds:
        await use_an_idempotency_key(world)
    before = [world.foreign() for world in worlds]
    # Those of sessions that have ended as well: the twin does not know them.
    ids = [life.session_id for _, lives in before[0][1:] for life in lives]
    assert len(ids) == len(NAMES) + 1
    requests = Requests(seed, real.app.openapi(), ids)
    for world in worlds:
        world.looked_up.clear()
        world.visited.clear()
    statuses: Counter[int] = Counter()
    served: Counter[str] = Counter()
    visited = 0
    for number in range(count):
        template, scope, body = requests.one()
        seen = await both(worlds, scope, body)
        received = (
            f"seed {seed}, request {number}: {scope['method']} {scope['raw_path']!r} {scope['query_string']!r} {body!r}"
        )
        if not template.startswith(TIMED):
            assert seen[0].status == seen[1].status, f"{received}: {seen[0].body!r} and {seen[1].body!r}"
            assert seen[0].body == seen[1].body, received
            assert sorted(seen[0].fields) == sorted(seen[1].fields), received
        assert SECRET + THEIRS not in seen[0].body.decode(), received
        assert template != "/metrics" or seen[0].status >= 400, "figures are those of all tenants"
        assert real.looked_up == twin.looked_up, f"{received}: more work for the one than for the other"
        assert not [key for key in real.looked_up if not key.startswith(OURS)], f"{received}: looked up"
        assert real.visited == twin.visited, received
        assert not [key for key in real.visited if not key.startswith(OURS)], f"{received}: gone through"
        visited += len(real.visited)
        for world in worlds:
            world.looked_up.clear()
            world.visited.clear()
        statuses[seen[0].status] += 1
        served[template] += seen[0].status < 300
        if seen[0].body.startswith(b"{"):
            requests.learn(json.loads(seen[0].body))
        if number % 50 == 0:
            for world in worlds:
                world.clock.advance(7)
    assert [world.foreign() for world in worlds] == before, "what is theirs is as it was"
    for world in worlds:
        assert {key.startswith(OURS) for key in world.written_keys() if key is not None} == {True}
        await worker_threads_of(world.app).close()
    assert statuses[200] > count // 10, "requests that are all refused would prove little"
    assert statuses[403] > count // 10
    assert requests.paths - set(served) == set(), "every route is tried"
    assert not [status for status in statuses if status == 500]
    assert visited > count // 100, "listings by owner and plain ones are among them"
