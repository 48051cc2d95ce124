"""The prefixes of the tokens are registered before the service takes callers: no tenant's first listing is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from lastseen import ANY
from lastseen.auth.token_file import TokenFile
from lastseen.configuration.configuration import configure
from lastseen.http.application import worker_threads_of
from lastseen.service import process, server


def test_a_service_registers_the_prefixes_of_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    for name, prefix in (("a", "a:"), ("a2", "a:"), ("b", "b:"), ("all", ANY)):
        tokens.create(name, ["read"], prefix, 0)
    seen: list[set[str]] = []

    def run_server(app: FastAPI, *_: Any) -> None:
        seen.append(set(worker_threads_of(app).engine._views.walk._prefixes.known))

    monkeypatch.setattr(server, "run_server", run_server)
    process.serve(
        configure({"log": "memory://", "port": "0", "token_file": str(tmp_path / "tokens.json")}, environment={})
    )
    assert seen == [{"a:", "b:"}]
