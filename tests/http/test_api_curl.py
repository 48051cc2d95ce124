"""The API by `curl`, as people try it first."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from served import Served

from lastseen import Engine
from tests.service import curl_program


def curl(*arguments: str) -> str:
    """What curl prints."""
    done = subprocess.run(
        [curl_program.choose(), "--silent", "--show-error", "--max-time", "20", *arguments],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_open_touch_look_and_close(served: Served) -> None:
    sessions = f"{served.address}/v1/sessions"
    made: dict[str, Any] = json.loads(curl("--json", '{"key": "telegram:42"}', sessions))
    assert (made["key"], made["version"]) == ("telegram:42", 1)
    assert json.loads(curl("-X", "POST", f"{sessions}/telegram:42/touch"))["version"] == 2
    assert json.loads(curl(f"{sessions}/telegram:42"))["version"] == 2
    assert json.loads(curl("--json", '{"keys": ["telegram:42"]}', f"{served.address}/v1/touches"))["results"]
    assert curl("-X", "DELETE", "-w", "%{http_code}", f"{sessions}/telegram:42") == "204"
    assert json.loads(curl(f"{sessions}/telegram:42"))["ended"]["reason"] == "deleted"


def test_the_stream(served: Served, engine: Engine) -> None:
    engine.open("telegram:42")
    engine.close("telegram:42", reason="logout")
    command = [
        curl_program.choose(),
        "--silent",
        "--no-buffer",
        "--max-time",
        "20",
        f"{served.address}/v1/events/stream?last_event_id=0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        received = [line for line in (listening.stdout.readline() for _ in range(9)) if line.startswith("data: ")]
        listening.kill()
    kinds = [json.loads(line.removeprefix("data: "))["data"]["kind"] for line in received]
    assert kinds == ["created", "ended"]
