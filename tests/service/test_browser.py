"""A browser's own `EventSource` on the service's stream: across a restart it comes back without a gap or a repeat."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Running, wait_until

from tests.patience import PATIENCE_S
from tests.service.browser import choose

PAGE = """<!doctype html><title>watching</title><script>
const source = new EventSource("STREAM");
let place = 0;
const tell = (what) => { what.place = place++; fetch("/heard", {method: "POST", body: JSON.stringify(what)}); };
source.onopen = () => tell({opened: true});
source.onmessage = (event) => tell({id: event.lastEventId, fact: JSON.parse(event.data).id});
source.onerror = () => tell({state: source.readyState});
</script>"""
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


class Page:
    """A page of our own that watches a stream, and tells us all that it hears."""

    def __init__(self, stream: str) -> None:
        heard: dict[int, dict[str, Any]] = {}
        self._heard = heard

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == "/"
                content = PAGE.replace("STREAM", stream).encode() if found else b""
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                received = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                heard[received.pop("place")] = received
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Page:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def heard(self, name: str) -> list[Any]:
        """What it has heard of one kind, in the order in which the browser did."""
        return [received[name] for _, received in sorted(self._heard.items()) if name in received]


@pytest.fixture
def port() -> int:
    """A port that is free, and stays the service's across its restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def watching(port: int, tmp_path: Path) -> Iterator[Page]:
    """A browser that shows the page."""
    with Page(f"http://127.0.0.1:{port}/v1/events/stream") as page:
        yield page


def test_an_event_source_comes_back_without_a_gap_or_a_repeat(watching: Page, port: int, tmp_path: Path) -> None:
    arguments = ("--port", str(port), "--set", f"allowed_origins={watching.origin}")
    browser = [choose(), *OPTIONS, f"--user-data-dir={tmp_path / 'browser'}", watching.origin]
    touched = 0

    def touch(service: Running, times: int) -> None:
        nonlocal touched
        with httpx.Client(base_url=service.address(), timeout=PATIENCE_S) as client:
            for _ in range(times):
                assert client.post("/v1/sessions/ana/touch").status_code == 200
        touched += times

    with Running(tmp_path, *arguments) as service:
        assert (
            httpx.post(f"{service.address()}/v1/sessions", json={"key": "ana"}, timeout=PATIENCE_S).status_code == 201
        )
        silence: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(browser, start_new_session=True, **silence) as running:
            try:
                wait_until(lambda: watching.heard("opened"), "the browser opens the stream", 60)
                touch(service, 20)
                wait_until(lambda: len(watching.heard("fact")) == 20, "the browser hears of the touches")
                service.tell()
                assert service.exit_code() == 0
                with Running(tmp_path, *arguments) as again:
                    # Most likely before the browser is back: it must receive what it missed.
                    touch(again, 20)
                    wait_until(lambda: len(watching.heard("opened")) == 2, "the browser comes back", 60)
                    touch(again, 20)
                    wait_until(lambda: len(watching.heard("fact")) >= touched, "the browser hears of all")
                    again.tell()
                    assert again.exit_code() == 0
            finally:
                os.killpg(running.pid, signal.SIGKILL)  # a browser is many processes
    facts = watching.heard("fact")
    assert facts == [f"0-{offset}-0" for offset in range(2, touched + 2)], "each once, in order"
    assert len(set(watching.heard("id"))) == touched
