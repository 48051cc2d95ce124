"""What a client accepts as an address, a token, a time; and that it never reveals its token."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastseen import AsyncClient, Client
from lastseen.client.address import address_of
from lastseen.engine.errors import EngineClosed, InvalidSetting
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
SECRET = "lst_verysecret"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://127.0.0.1:8321", "http://127.0.0.1:8321"),
        ("https://sessions.example", "https://sessions.example:443"),
        ("http://sessions.example/", "http://sessions.example:80"),
        ("https://gateway/lastseen/", "https://gateway:443/lastseen"),
        ("http://[::1]:8321", "http://[::1]:8321"),
    ],
)
def test_an_address_names_a_service(text: str, wanted: str) -> None:
    assert str(address_of(text)) == wanted


WRONG = [
    "", "127.0.0.1:8321", "localhost", "ftp://host", "http://", "http://host:99999", "http://host:port",
    "http://u:hunter2@host", "http://host/?a=b", "http://host/#f", "http://host/a b", "http://host/../x?", None, 8321,
    "file:///etc/passwd", "http://[::1", "http://ho st", "http://höst", "http://host\n",
]  # fmt: skip


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("text", WRONG)
def test_anything_else_is_refused(kind: Any, text: Any) -> None:
    with pytest.raises(InvalidSetting, match="address") as refused:
        kind(text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("token", ["", "two words", f"{SECRET}\n", f"{SECRET}ü", 7])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(kind: Any, token: Any) -> None:
    with pytest.raises(InvalidSetting, match="token") as refused:
        kind("http://host", token)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": -1}, {"timeout": "10s"}, {"timeout": True}, {"timeout": float("nan")},
     {"connections": 0}, {"connections": "many"}],
)  # fmt: skip
def test_so_are_options_out_of_bounds(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        kind("http://host", **options)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_does_not_show_its_token(kind: Any) -> None:
    assert SECRET not in repr(kind("http://host", SECRET))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_environment_has_no_say(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    assert httpx.Client()._mounts  # the variable would count
    assert kind("http://host", SECRET)._http._mounts == {}


def test_the_token_goes_into_its_header() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"live": 0})

    with Client("http://host", SECRET, transport=httpx.MockTransport(answer)) as client:
        assert client.statistics() == {"live": 0}
    assert asked[0].headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(asked[0].url)


def test_a_client_that_is_shut_down_says_so() -> None:
    client = Client("http://host")
    client.shutdown()
    client.shutdown()
    with pytest.raises(EngineClosed):
        client.get("key")


def python(script: str) -> str:
    """What a program prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_client_does_not_load_the_service() -> None:
    loaded = python("import sys, lastseen; lastseen.Client, lastseen.AsyncClient; print(*sys.modules, sep='\\n')")
    names = {name.partition(".")[0] for name in loaded.split()}
    assert "httpx" in names
    assert names & {"starlette", "fastapi", "uvicorn", "sqlalchemy", "kafka"} == set()


def test_a_client_without_its_library_says_what_to_install() -> None:
    script = """
import sys
sys.modules["httpx"] = None
import lastseen
lastseen.AsyncEngine, lastseen.ServiceError, lastseen.RemoteSession
for name in ("Client", "AsyncClient"):
    try:
        getattr(lastseen, name)
    except ModuleNotFoundError as error:
        print(error)
"""
    assert python(script) == "".join(
        f"{name} needs httpx: pip install 'lastseen[client]'\n" for name in ("Client", "AsyncClient")
    )
