"""Fixtures of the HTTP tests: an engine on a file, and its application behind a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

import lastseen
from lastseen import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a log of its own, with its threads."""
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}") as opened:
        yield opened


@pytest.fixture
def served(engine: Engine) -> Iterator[Served]:
    """The engine's application, behind uvicorn on a free port."""
    with Served(engine) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of it."""
    with served.client() as made:
        yield made


Problem = Callable[[httpx.Response], dict[str, Any]]


@pytest.fixture
def problem() -> Problem:
    """Reads a problem document, and checks its form."""

    def read(answer: httpx.Response) -> dict[str, Any]:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        body: dict[str, Any] = answer.json()
        assert body["status"] == answer.status_code
        assert body["type"].startswith("/problems/")
        assert body["detail"]
        return body

    return read
