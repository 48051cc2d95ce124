"""The ways to an engine that must all be alike: itself, its asyncio twin, and both clients over a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

from served import Served

import lastseen
from lastseen import AsyncClient, AsyncEngine, Client, ManualClock
from tests.patience import PATIENCE_S

KINDS = ("engine", "async engine", "client", "async client")


class Waiting:
    """What is made of coroutines, called as if it were not: from outside of the loop that it lives in."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lastseen-test-loop")
        self._thread.start()
        self._twin = self._wait(_made(make))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._twin, name)
        if name == "hold":
            return lambda *args, **options: self._entered(method(*args, **options))
        return lambda *args, **options: self._wait(method(*args, **options))

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    @contextmanager
    def _entered(self, held: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
        inside = self._wait(_awaited(held.__aenter__()))
        try:
            yield inside
        finally:
            self._wait(_awaited(held.__aexit__(None, None, None)))

    def end(self) -> None:
        """End it, and its loop."""
        self._wait(self._twin.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _made(make: Callable[[], Any]) -> Any:
    return make()


async def _awaited(what: Awaitable[Any]) -> Any:
    return await what


@contextmanager
def opened_kind(kind: str, folder: Path, clock: ManualClock, **settings: Any) -> Iterator[Any]:
    """One way to an engine on a log of its own; everything ends with it."""
    chosen = {"background": False, **settings}
    with lastseen.open_engine(f"sqlite:///{folder / 'log.db'}", clock=clock, **chosen) as engine:
        if kind == "engine":
            yield engine
        elif kind == "async engine":
            yield from _ended(Waiting(lambda: AsyncEngine(engine, clock)))
        elif kind == "client":
            with Served(engine) as served, Client(served.address) as client:
                yield client
        else:
            with Served(engine) as served:
                yield from _ended(Waiting(lambda: AsyncClient(served.address)))


def _ended(waiting: Waiting) -> Iterator[Waiting]:
    try:
        yield waiting
    finally:
        waiting.end()


def shown(session: Any) -> Any:
    """A session without what chance decides."""
    if session is None:
        return None
    received = dict(session.as_dict())
    del received["session_id"]
    return received
