"""Mistakes of users, for type checkers: they must find one in each line marked so, and in no other. It is never run."""

from __future__ import annotations

import lastseen
from lastseen import nothing  # mistake

lastseen.Clinet  # mistake


def embedded(engine: lastseen.Engine) -> None:
    lastseen.open_engine(5)  # mistake
    engine.touch(5)  # mistake
    engine.touch("a", massage="hello")  # mistake
    engine.open("a", attributes=["ana"])  # mistake
    engine.get("a").version  # mistake
    engine.tuch("a")  # mistake
    engine.get("a")


async def asynchronous(engine: lastseen.AsyncEngine, client: lastseen.AsyncClient) -> None:
    (await engine.open("a")).key + 1  # mistake
    engine.open("a").key  # mistake
    await client.touch(5)  # mistake
    await client.touch("a")


def remote(client: lastseen.Client, emitter: lastseen.Emitter) -> None:
    client.touch(5)  # mistake
    client.open("a").key + 1  # mistake
    emitter.touch("a")  # mistake
    emitter.touch("a", "the-session-id-of-this-one")
