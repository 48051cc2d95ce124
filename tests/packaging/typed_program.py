"""A user's program, for type checkers: behind each `reveal_type` stands what they must find. It is never run."""

from __future__ import annotations

import engine as own_engine
import projections as own_projections
from typing_extensions import reveal_type

import lastseen
from lastseen import errors
from lastseen.compat.lru import LruSessions

reveal_type(own_engine.OWN)  # str
reveal_type(own_projections.OWN)  # str
reveal_type(lastseen.__version__)  # str


def embedded() -> None:
    with lastseen.open_engine("memory://", idle_ttl="30m") as engine:
        reveal_type(engine)  # Engine
        session = engine.open("a", attributes={"owner": "ana"})
        reveal_type(session)  # SessionView
        reveal_type(session.status)  # Status
        reveal_type(session.attributes)  # Mapping[str, Any]
        reveal_type(session.deadline_ms)  # int | None
        reveal_type(session.position)  # Position
        reveal_type(session.policy.idle_ttl_ms)  # int | None
        reveal_type(engine.get("a"))  # SessionView | None
        reveal_type(engine.touch("a", message={"text": "hello"}))  # SessionView | None
        reveal_type(engine.count())  # int
        reveal_type(engine.list(limit=10).sessions)  # list[SessionView]
        reveal_type(engine.explain("a").sentence)  # str
        reveal_type(engine.prune(dry_run=True).due)  # list[Due]
        reveal_type(engine.history("a"))  # Sequence[Entry]
        with engine.hold("a", holder="job") as hold:
            reveal_type(hold)  # Hold
        for fact in engine.subscribe():
            reveal_type(fact)  # Fact


async def asynchronous() -> None:
    async with await lastseen.open_async("memory://") as engine:
        reveal_type(engine)  # AsyncEngine
        reveal_type(await engine.open("a"))  # SessionView
        reveal_type(await engine.touch("a"))  # SessionView | None
        reveal_type(await engine.get("a"))  # SessionView | None
        async with engine.hold("a", holder="job") as hold:
            reveal_type(hold)  # AsyncHold
    async with lastseen.AsyncClient("http://127.0.0.1:8321") as client:
        reveal_type(client)  # AsyncClient
        reveal_type(await client.touch("a"))  # RemoteSession | None
        async for session in client.sessions():
            reveal_type(session)  # RemoteSession


def remote() -> None:
    with lastseen.Client("http://127.0.0.1:8321", "token") as client:
        reveal_type(client)  # Client
        reveal_type(client.open("a"))  # RemoteSession
        reveal_type(client.get("a"))  # RemoteSession | None
        reveal_type(client.touch("a"))  # RemoteSession | None
        for session in client.sessions():
            reveal_type(session)  # RemoteSession


def reporting() -> None:
    with lastseen.Emitter("memory://", source="/gateway") as emitter:
        reveal_type(emitter)  # Emitter
        reveal_type(emitter.open("a"))  # str
        reveal_type(emitter.statistics())  # dict[str, int]


def failing() -> None:
    try:
        lastseen.open_engine("memory://").touch("a")
    except errors.SessionNotFound as error:
        reveal_type(error)  # SessionNotFound
    except lastseen.ServiceError as error:
        reveal_type(error)  # ServiceError


def in_anothers_place() -> None:
    sessions = LruSessions(max_sessions=100)
    reveal_type(sessions)  # LruSessions
    reveal_type(sessions.cleanup())  # int
    reveal_type(lastseen.policy(idle_ttl="30m"))  # Policy
    reveal_type(lastseen.ManualClock(0).advance(1))  # int
