"""The service as people run it: `lastseen serve` in a process of its own, with its log lines read as they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.patience import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "import sys; from lastseen.cli import main; sys.exit(main())"


wait_until = eventually


class Running:
    """One process. Leaving it kills what still runs."""

    def __init__(self, folder: Path, *arguments: str, command: str = "serve", **environment: str) -> None:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("LASTSEEN_")}
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ENTRY, command, *arguments], cwd=folder, text=True,
            env={**clean, "PYTHONPATH": str(ROOT), **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.errors: list[str] = []
        """What it has written to stderr."""
        self.output: list[str] = []
        """What it has written to stdout."""
        self._readers = [
            threading.Thread(target=lambda: self.errors.extend(iter(self.process.stderr.readline, ""))),  # type: ignore[union-attr,arg-type]
            threading.Thread(target=lambda: self.output.extend(iter(self.process.stdout.readline, ""))),  # type: ignore[union-attr,arg-type]
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines so far; what is no JSON is none of them."""
        return [json.loads(line) for line in list(self.errors) if line.startswith("{")]

    def line(self, event: str) -> dict[str, Any]:
        """The log line of an event, once it is there."""

        found: dict[str, Any] = self.until(
            lambda: next((line for line in self.lines() if line["event"] == event), None), f"a log line {event}"
        )
        return found

    def until(self, is_so: Callable[[], object], what: str) -> Any:
        """Wait until something is so; returns it. Fails at once if the process ends before."""

        def looked() -> object:
            found = is_so()
            assert found or self.process.poll() is None or is_so(), f"it ended: {''.join(self.errors)}"
            return found

        return wait_until(looked, what)

    def address(self) -> str:
        """Where it listens, once it does."""
        address: str = self.line("listening")["address"]
        return address

    def tell(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def exit_code(self, deadline_s: float = PATIENCE_S) -> int:
        """How it ended, once it has."""
        code = self.process.wait(deadline_s)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code
