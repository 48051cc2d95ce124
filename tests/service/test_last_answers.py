"""A service that stops resets no request: each that was sent is answered, and its answer closes the connection."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx

from tests.patience import PATIENCE_S
from tests.service.running import Running, wait_until

CALLERS = 12
CALLS_EACH = 20
CYCLES = 3


class Caller(threading.Thread):
    """Calls on one connection as long as it lasts, and then on another, until none is accepted."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self.answers = 0
        self.closed = 0
        """Answers that said that they were the last on their connection."""
        self.broken: list[str] = []
        """What became of requests that were sent and not answered."""
        self.start()

    def run(self) -> None:
        with httpx.Client(base_url=self._address, timeout=PATIENCE_S) as client:
            while True:
                try:
                    answer = client.get("/v1/sessions/ana")
                except httpx.ConnectError:
                    return  # nothing was sent
                except httpx.HTTPError as error:
                    self.broken.append(repr(error))
                    return
                self.answers += 1
                self.closed += answer.headers.get("connection") == "close"


def test_no_request_is_reset_while_the_service_stops(tmp_path: Path) -> None:
    for _ in range(CYCLES):
        with Running(tmp_path, "--log", "sqlite:///log.db", "--port", "0") as service:
            callers = [Caller(service.address()) for _ in range(CALLERS)]
            wait_until(lambda callers=callers: all(each.answers >= CALLS_EACH for each in callers), "all are at it")  # type: ignore[misc]
            service.tell()
            assert service.exit_code() == 0
            for caller in callers:
                caller.join(PATIENCE_S)
            assert [each for caller in callers for each in caller.broken] == []
            assert all(caller.closed for caller in callers)
