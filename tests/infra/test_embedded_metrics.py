"""Engines that are embedded in a program of the user's own: their figures are in its registry with one line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

import lastseen
from lastseen import Engine
from lastseen.engine.errors import InvalidSetting
from lastseen.monitoring.prometheus import register


@pytest.fixture
def registry() -> prometheus_client.CollectorRegistry:
    return prometheus_client.CollectorRegistry()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with lastseen.open_engine(f"sqlite:///{tmp_path}/log.db", background=False) as opened:
        yield opened


def figures(text: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in ("lastseen_sessions_created_total", "lastseen_engine_usable", "orders_total")
    }


def test_they_are_in_the_default_registry_beside_the_programs_own(engine: Engine) -> None:
    orders = prometheus_client.Counter("orders", "The program's own")
    registered = register(engine)
    try:
        engine.open("ana")
        orders.inc()
        app = prometheus_client.make_asgi_app()

        async def scrape() -> str:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
                return (await client.get("/metrics")).text

        expected = {"lastseen_sessions_created_total": 1, "lastseen_engine_usable": 1, "orders_total": 1}
        assert figures(asyncio.run(scrape())) == expected
    finally:
        registered.unregister()
        prometheus_client.REGISTRY.unregister(orders)
    assert b"lastseen_" not in prometheus_client.generate_latest()


def test_an_engine_for_asyncio_is_taken_as_well(registry: prometheus_client.CollectorRegistry) -> None:
    async def story() -> None:
        async with await lastseen.open_async("memory://") as engine:
            register(engine, registry)
            await engine.open("ana")
            assert registry.get_sample_value("lastseen_sessions_created_total") == 1

    asyncio.run(story())


def test_a_registry_holds_one_engine_and_says_so(engine: Engine, registry: prometheus_client.CollectorRegistry) -> None:
    register(engine, registry)
    with (
        lastseen.open_engine("memory://", background=False) as second,
        pytest.raises(InvalidSetting, match="a registry of its own"),
    ):
        register(second, registry)
    with pytest.raises(InvalidSetting):
        register(engine, registry)


def test_after_a_shutdown_scrapes_work_and_the_next_engine_takes_the_place(
    engine: Engine, registry: prometheus_client.CollectorRegistry
) -> None:
    first = register(engine, registry)
    engine.open("ana")
    engine.shutdown()
    assert figures(prometheus_client.generate_latest(registry).decode())["lastseen_engine_usable"] == 0
    with lastseen.open_engine("memory://", background=False) as second:
        register(second, registry)
        assert registry.get_sample_value("lastseen_sessions_created_total") == 0
        first.unregister()
        assert registry.get_sample_value("lastseen_engine_usable") == 1, "the first takes nothing of the second"
