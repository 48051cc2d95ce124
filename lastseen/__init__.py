"""lastseen: who is live, until when, and why. An event-sourced session lifecycle engine.

import lastseen

with lastseen.open_engine("sqlite:///sessions.db", idle_ttl="30m") as engine:
    engine.open("discord:guild1:chan2:user3", attributes={"owner": "user3"})
    engine.touch("discord:guild1:chan2:user3")
    print(engine.explain("discord:guild1:chan2:user3").sentence)
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a checkout, or a folder on the path, asks no installer
    # First of all, and in words that every Python 3 reads: else the first dependency would fail, each in its own way.
    raise ImportError(
        f"lastseen needs Python 3.11 or newer, and this is Python {sys.version.split()[0]} ({sys.executable}):"
        " install it in a newer one"
    )

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lastseen.embedded.engine import Engine
from lastseen.embedded.opening import open_engine
from lastseen.embedded.settings import Settings, policy
from lastseen.engine import errors
from lastseen.engine.arguments import ANY
from lastseen.engine.clock import Clock, ManualClock, SystemClock
from lastseen.engine.errors import EmitterFull, LastseenError, NotDelivered
from lastseen.engine.log.port import Position
from lastseen.engine.session import Policy, SessionView, Status
from lastseen.engine.verdicts import Verdict
from lastseen.version import __version__

if TYPE_CHECKING:
    from lastseen.aio.engine import AsyncEngine, open_async
    from lastseen.api.responses import Session as RemoteSession
    from lastseen.client.async_client import AsyncClient
    from lastseen.client.client import Client
    from lastseen.client.errors import ServiceError
    from lastseen.emitter.emitter import Emitter

__all__ = [
    "ANY",
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
    "__version__",
    "errors",
    "open_async",
    "open_engine",
    "policy",
]


_LAZY = {
    "AsyncClient": ("lastseen.client.async_client", "AsyncClient"),
    "AsyncEngine": ("lastseen.aio.engine", "AsyncEngine"),
    "Client": ("lastseen.client.client", "Client"),
    "Emitter": ("lastseen.emitter.emitter", "Emitter"),
    "RemoteSession": ("lastseen.api.responses", "Session"),
    "ServiceError": ("lastseen.client.errors", "ServiceError"),
    "open_async": ("lastseen.aio.engine", "open_async"),
}
"""Name → (module, attribute) of what is loaded on first use, because only some programs need it."""


if not TYPE_CHECKING:  # to type checkers, a name that is not above is a mistake

    def __getattr__(name: str) -> Any:
        if name in _LAZY:
            try:
                module, attribute = _LAZY[name]
                return getattr(import_module(module), attribute)
            except ModuleNotFoundError as error:
                if error.name != "httpx":
                    raise
                raise ModuleNotFoundError(f"{name} needs httpx: pip install 'lastseen[client]'", name="httpx") from None
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
