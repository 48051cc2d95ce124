"""The container's health check asks where the service is: at its port, with its TLS, and not where it has no API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.docker.health import address
from infra.kafka.access import Certificate
from tests.service.running import Running

SCRIPT = Path(__file__).resolve().parents[2] / "infra" / "docker" / "health.py"


@pytest.mark.parametrize(
    ("environment", "file", "expected"),
    [
        ({}, "", "http://127.0.0.1:8321/readyz"),
        ({"HOST": "0.0.0.0", "PORT": "8400"}, "port = 8500", "http://127.0.0.1:8400/readyz"),
        ({"HOST": "::"}, "port = 8500", "http://[::1]:8500/readyz"),
        ({"HOST": "10.0.0.7"}, "", "http://10.0.0.7:8321/readyz"),
        ({"TLS_CERT_FILE": "tls/node.pem"}, "", "https://127.0.0.1:8321/readyz"),
        ({}, 'tls_cert_file = "node.pem"', "https://127.0.0.1:8321/readyz"),
        ({"TLS_CERT_FILE": "none"}, 'tls_cert_file = "node.pem"', "http://127.0.0.1:8321/readyz"),
        ({"PORT": "tcp://10.96.0.7:8321"}, "", "http://127.0.0.1:8321/readyz"),
        ({"ROLES": "view, pruner"}, "", None),
        ({}, 'roles = ["view", "facts"]', None),
        ({"ROLES": "view, api"}, 'roles = ["view"]', "http://127.0.0.1:8321/readyz"),
    ],
)
def test_it_follows_the_settings(
    environment: dict[str, str], file: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {f"LASTSEEN_{name}": text for name, text in environment.items()}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lastseen.toml").write_text(file)
    assert address(own) == expected
    (tmp_path / "lastseen.toml").rename(tmp_path / "other.toml")
    assert address({**own, "LASTSEEN_CONFIG": "other.toml"}) == expected


def test_a_service_with_tls_on_another_port_is_healthy_until_it_ends(tmp_path: Path) -> None:
    Certificate.make(tmp_path / "tls")
    own = {"LASTSEEN_TLS_CERT_FILE": "tls/node.pem", "LASTSEEN_TLS_KEY_FILE": "tls/node.key"}

    def is_healthy(port: str) -> bool:
        environment = {**os.environ, **own, "LASTSEEN_PORT": port}
        done = subprocess.run([sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment, capture_output=True)
        return done.returncode == 0

    with Running(tmp_path, "--log", "sqlite:///log.db", "--port", "0", **own) as service:
        port = service.address().rpartition(":")[2]
        assert is_healthy(port)
        service.tell()
        assert service.exit_code() == 0
    assert not is_healthy(port)
