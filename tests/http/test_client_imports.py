"""A client needs httpx and no library of the HTTP server."""

from __future__ import annotations

import subprocess
import sys

SERVER_LIBRARIES = ("fastapi", "starlette", "uvicorn", "prometheus_client", "httptools")
PROGRAM = """
import sys

import lastseen

lastseen.Client, lastseen.AsyncClient, lastseen.RemoteSession, lastseen.ServiceError
print(*(name for name in {names!r} if name in sys.modules))
"""


def loaded_by(imports: str, names: tuple[str, ...]) -> str:
    """The modules among `names` that a program has loaded after it used the clients and `imports`."""
    program = PROGRAM.format(names=names) if not imports else f"{imports}\n{PROGRAM.format(names=names)}"
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_the_clients_load_no_library_of_the_server() -> None:
    assert loaded_by("", SERVER_LIBRARIES) == ""


def test_one_that_is_loaded_is_noticed() -> None:
    assert loaded_by("import lastseen.http.application", ("starlette",)) == "starlette"
