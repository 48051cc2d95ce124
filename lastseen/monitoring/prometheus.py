"""The figures of an engine in a program of your own, beside its other metrics: `register(engine)` is all it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import EngineClosed, InvalidSetting
from lastseen.monitoring.metrics import EngineCollector


class HasEngine(Protocol):
    """What wraps an engine: `lastseen.AsyncEngine`."""

    @property
    def engine(self) -> Engine:
        """The engine."""
        ...


class RegisteredEngine(Collector):
    """An engine's figures in a registry, computed at each scrape."""

    def __init__(self, engine: Engine, registry: CollectorRegistry) -> None:
        self._engine = engine
        self._collector = EngineCollector(engine)
        self._registry = registry

    @property
    def is_over(self) -> bool:
        """Whether the engine has stopped permanently."""
        return isinstance(self._engine.obstacle(), EngineClosed)

    def collect(self) -> Iterator[Metric]:
        """All figures as they are now; `lastseen_engine_usable` is 0 once the engine has stopped."""
        return self._collector.collect()

    def unregister(self) -> None:
        """Take the figures out of the registry. May be called again."""
        with suppress(KeyError):
            self._registry.unregister(self)
        if _registered.get(self._registry) is self:
            del _registered[self._registry]


_registered: WeakKeyDictionary[CollectorRegistry, RegisteredEngine] = WeakKeyDictionary()


def register(engine: Engine | HasEngine, registry: CollectorRegistry = REGISTRY) -> RegisteredEngine:
    """Add the figures of an `Engine` or `AsyncEngine` to a registry of `prometheus_client`.

    The default registry is the one that its exporters serve. A registry holds the figures of one engine; those of an
    engine that has shut down make way for those of the next. Raises `InvalidSetting` where it holds another's.
    """
    embedded = engine if isinstance(engine, Engine) else engine.engine
    before = _registered.get(registry)
    if before is not None and not before.is_over:
        raise InvalidSetting(
            "registry: it holds the figures of an engine already, and each name would be there twice: give this engine"
            " a registry of its own, such as CollectorRegistry()"
        )
    if before is not None:
        before.unregister()
    registered = _registered[registry] = RegisteredEngine(embedded, registry)
    registry.register(registered)
    return registered
