"""Two services that differ in one thing: in the one, tenant B has sessions; in its twin, tenant C has the same instead.

Everything else is equal, to the byte: clocks, ids, what was written when. So whatever a caller sees, and whatever work
its requests cause, must be equal too, or B's sessions have shown.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from asgi_caller import Answer, call

import lastseen
from lastseen import Engine
from lastseen.auth.token_file import TokenFile
from lastseen.engine import identifiers
from lastseen.engine.session import Policy
from lastseen.http.application import build
from lastseen.http.guard.guard import Guard, Tokens
from lastseen.http.guard.live_tokens import LiveTokens
from lastseen.http.routes import health, metrics
from lastseen.projections.live_view import LiveView

START_MS = 1_700_000_000_000
OURS = "tenantA:"
SECRET = "what-is-written-down-here-is-a-secret"
NAMES = ("plain", "held", "suspended", "closed", "idle", "turned", "a/b?c", "written")


class Ids:
    """Ids that look random, and are the same in both worlds; but for those of the other tenant, which are its own."""

    def __init__(self) -> None:
        self._drawn = 0
        self.seed = ""

    def take(self, count: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_128(f"{self.seed}{self._drawn}".encode()).digest(count)


class World:
    """One service: an engine, its application behind the guard, and the sessions of A and of another tenant."""

    def __init__(
        self, folder: Path, other: str, owner: str, patch: pytest.MonkeyPatch, known: Tokens | None = None
    ) -> None:
        self.other, self.owner = other, owner
        self._patch, self._ids = patch, Ids()
        self.clock = lastseen.ManualClock(START_MS)
        self.enter()
        folder.mkdir()
        tokens = TokenFile(folder / "tokens.json")
        self.token, _ = tokens.create("a", ["read", "touch", "manage"], OURS, START_MS)
        self.other_token, _ = tokens.create("b", ["read", "touch", "manage"], other, START_MS)
        self.engine: Engine = lastseen.open_engine("memory://", clock=self.clock, background=False, idle_ttl=None)
        live = known or LiveTokens(tokens, clock=self.clock)
        self.app = build(
            self.engine,
            guard=lambda app: Guard(app, tokens=live, write=dict),
            operations=[health.router(self.engine, lambda: False), metrics.router(self.engine)],
        )
        self.looked_up: list[str] = []
        self.visited: list[str] = []
        """The keys of the sessions that listings have gone through."""
        for tenant, name in ((OURS, "ana"), (other, owner)):
            self._ids.seed = "" if tenant == OURS else tenant
            self._populate(tenant, name)
        self._ids.seed = ""
        self.written_before = self.engine.checkpoints()[0][0]
        self._watch()

    def enter(self) -> None:
        """From now on ids are this world's."""
        self._patch.setattr(identifiers._random, "take", self._ids.take)
        self._patch.setattr(identifiers.os, "urandom", self._ids.take)
        self._patch.setattr(secrets, "token_bytes", self._ids.take)

    def _populate(self, tenant: str, owner: str) -> None:
        engine, kept = self.engine, {"owner": owner, "secret": SECRET + tenant}
        for name in NAMES:
            limits = Policy(idle_ttl_ms=60_000) if name == "idle" else None
            engine.create(tenant + name, attributes=kept, policy=limits)
            self.clock.advance(10)
            engine.touch(tenant + name, message={"text": SECRET + tenant})
        engine.take_lease(tenant + "held", "job", 3_600_000)
        engine.suspend(tenant + "suspended")
        engine.close(tenant + "closed", reason="logout")
        engine.rotate(tenant + "turned")
        self.clock.advance(61_000)  # the idle ones are due, and not announced yet

    def _watch(self) -> None:
        """Write down every key that anything is looked up for."""
        asked, looked_up = LiveView.number_of, self.looked_up

        def number_of(view: LiveView, key: str) -> int:
            looked_up.append(key)
            return asked(view, key)

        def partition_of(view: LiveView, key: str) -> Any:
            looked_up.append(key)
            return view.partitions[asked(view, key)]

        views = self.engine._views
        walk = views.walk
        all_steps = walk.steps

        def steps(owner: str | None = None, prefix: str = "") -> Any:
            for partition, step in all_steps(owner, prefix):
                self.visited += [session.key for session in step]
                yield partition, step

        walk.steps = steps  # type: ignore[method-assign]
        views.number_of = number_of.__get__(views)  # type: ignore[method-assign]
        views.partition_of = partition_of.__get__(views)  # type: ignore[method-assign]

    async def ask(self, scope: dict[str, Any], body: bytes, token: str | None = None) -> Answer:
        """Send a request, in this world; as tenant A, unless another token is given."""
        self.enter()
        return await call(self.app, fresh(scope, token or self.token), [body] if body else [])

    def foreign(self) -> list[Any]:
        """All there is of the other tenant: live sessions, every record of each key, every life."""
        sessions = [each.as_dict() for each in self.engine.list(prefix=self.other, limit=1000).sessions]
        keys = [self.other + name for name in NAMES]
        return [sessions, *([list(self.engine.history(key)), list(self.engine.session_spans(key))] for key in keys)]

    def written_keys(self) -> Iterable[str | None]:
        """The keys of all records that requests have caused."""
        count = self.engine.checkpoints()[0][0]
        return [record.key for record in self.engine._log.read(0, self.written_before, count)]


def fresh(scope: dict[str, Any], token: str) -> dict[str, Any]:
    """A scope that has not been used, with a world's token, and its path as a server would decode it."""
    fields = [*scope["headers"], (b"authorization", b"Bearer " + token.encode())]
    return {**scope, "path": unquote(scope["raw_path"].decode("latin-1")), "headers": fields, "state": {}}
