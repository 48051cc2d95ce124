"""What tenant A hears on a stream of facts is the same whether tenant B or another tenant is busy beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from asgi_caller import Answer, request, sender, until
from tenant_requests import THEIRS
from tenant_worlds import OURS, SECRET, World, fresh

from lastseen.http.application import worker_threads_of

ENDING = "last"
ASKED = [
    (b"", []),
    (b"prefix=tenantA:", []),
    (b"prefix=tenant", []),
    (b"type=created,ended,touched", []),
    (b"last_event_id=0", []),
    (b"", [("last-event-id", "0")]),
]


async def act(world: World) -> None:
    """The other tenant and A do things in turn; A's last says that all were done."""
    world.enter()
    engine = world.engine
    engine.touch(world.other + "plain", message={"text": SECRET + world.other})
    engine.suspend(world.other + "held")
    for tenant in (OURS, world.other):
        engine.touch(tenant + "turned", message={"text": SECRET + tenant})
        engine.close(tenant + "written", reason="logout")
        engine.create(tenant + "fresh", attributes={"secret": SECRET + tenant})
    engine.resume(world.other + "held")
    engine.create(OURS + ENDING)


async def heard(world: World, query: bytes, fields: list[tuple[str, str]]) -> bytes:
    """All that A hears, from when it begins to listen until it hears that all was done."""
    answer, hang_up = Answer(), asyncio.Event()

    async def receive() -> dict[str, object]:
        await hang_up.wait()
        return {"type": "http.disconnect"}

    scope = fresh(request(path="/v1/events/stream", query=query, fields=fields), world.token)
    listening = asyncio.create_task(world.app(scope, receive, sender(answer)))
    try:
        await until(lambda: b"id: " in answer.body)
        await act(world)
        await until(lambda: (OURS + ENDING).encode() in answer.body)
    finally:
        hang_up.set()
        await listening
        await worker_threads_of(world.app).close()
    return answer.body


@pytest.mark.parametrize(("query", "fields"), ASKED)
def test_a_stream_tells_a_tenant_of_no_other_tenant(
    tmp_path: Path, query: bytes, fields: list[tuple[str, str]]
) -> None:
    received = []
    with pytest.MonkeyPatch.context() as patch:
        for other, owner in ((THEIRS, "bob"), ("tenantC:", "cyd")):
            world = World(tmp_path / owner, other, owner, patch)
            try:
                received.append(asyncio.run(heard(world, query, fields)))
            finally:
                world.engine.shutdown()
    # In how many pieces it comes is a matter of threads; what is in them is not.
    assert received[0] == received[1]
    assert THEIRS.encode() not in received[0]
    assert received[0].count(b"\ndata: ") >= 4, "A hears of what A did"


@pytest.mark.parametrize("prefix", [THEIRS, "tenantB", "tenantAB", "x"])
def test_a_stream_of_other_keys_is_refused(tmp_path: Path, prefix: str) -> None:
    async def story(world: World) -> None:
        answer = await world.ask(request(path="/v1/events/stream", query=f"prefix={prefix}".encode()), b"")
        assert (answer.status, answer.slug) == (403, "forbidden")
        await worker_threads_of(world.app).close()

    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path / "b", THEIRS, "bob", patch)
        try:
            asyncio.run(story(world))
        finally:
            world.engine.shutdown()
