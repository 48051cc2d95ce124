"""lastseen: who is live, until when, and why. An event-sourced session lifecycle engine.

import lastseen

with lastseen.open_engine("sqlite:///sessions.db", idle_ttl="30m") as engine:
    engine.open("discord:guild1:chan2:user3", attributes={"owner": "user3"})
    engine.touch("discord:guild1:chan2:user3")
    print(engine.explain("discord:guild1:chan2:user3").sentence)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine import errors
from engine.clock import Clock, ManualClock, SystemClock
from engine.errors import EmitterFull, LastseenError, NotDelivered
from engine.log.port import Position
from engine.session import Policy, SessionView, Status
from engine.verdicts import Verdict
from lastseen.app import Engine
from lastseen.config import Settings, policy
from lastseen.opening import open_engine

if TYPE_CHECKING:
    from lastseen.async_client import AsyncClient
    from lastseen.async_engine import AsyncEngine, open_async
    from lastseen.client import Client
    from lastseen.client_errors import ServiceError
    from lastseen.client_session import RemoteSession
    from lastseen.emitter import Emitter

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "AsyncEngine",
    "Client",
    "Clock",
    "Emitter",
    "EmitterFull",
    "Engine",
    "LastseenError",
    "ManualClock",
    "NotDelivered",
    "Policy",
    "Position",
    "RemoteSession",
    "ServiceError",
    "SessionView",
    "Settings",
    "Status",
    "SystemClock",
    "Verdict",
    "errors",
    "open_async",
    "open_engine",
    "policy",
]


_LAZY = {
    "AsyncClient": "lastseen.async_client",
    "AsyncEngine": "lastseen.async_engine",
    "Client": "lastseen.client",
    "Emitter": "lastseen.emitter",
    "RemoteSession": "lastseen.client_session",
    "ServiceError": "lastseen.client_errors",
    "open_async": "lastseen.async_engine",
}
"""What only some services need is loaded when it is asked for, and where it is."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return getattr(import_module(_LAZY[name]), name)
        except ModuleNotFoundError as error:
            if error.name != "httpx":
                raise
            raise ModuleNotFoundError(f"{name} needs httpx: pip install 'lastseen[client]'", name="httpx") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
