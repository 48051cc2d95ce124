"""Callers that ask for more than their share, against the service as people run it: others are served meanwhile.

What is checked are counts and states. No test here has a wall-clock bound but the patience for what must come.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from lastseen import ANY
from lastseen.auth.token_file import TokenFile
from tests.patience import PATIENCE_S
from tests.service.running import Running

ARGUMENTS = ("--log", "sqlite:///log.db", "--port", "0", "--token-file", "tokens.json")


@pytest.fixture
def token(tmp_path: Path) -> str:
    """A token for all keys, in the file that the service reads."""
    secret, _ = TokenFile(tmp_path / "tokens.json").create("operator", ["read", "touch", "manage", "admin"], ANY, 0)
    return secret


def test_probes_and_scrapes_are_answered_under_the_address_of_a_pod(tmp_path: Path, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    named = {"LASTSEEN_ALLOWED_HOSTS": "sessions.example.org"}
    with Running(tmp_path, *ARGUMENTS, "--host", "0.0.0.0", **named) as service:
        port = urlsplit(service.address()).port
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            for host in (f"10.0.0.7:{port}", "127.0.0.1", "pod-0.sessions.svc"):
                as_pod = {"Host": host}
                assert client.get("/livez", headers=as_pod).text == "ok\n"
                assert client.get("/readyz?verbose", headers=as_pod).text == "ready\n", "and no details"
                assert client.get("/metrics", headers={**as_pod, **bearer}).status_code == 200
                assert client.get("/v1/sessions", headers={**as_pod, **bearer}).status_code == 400
            known = {"Host": "sessions.example.org"}
            assert "[ok] log" in client.get("/readyz?verbose", headers=known).text
            assert client.get("/v1/sessions", headers={**known, **bearer}).status_code == 200
