"""Processes that tests start, ask, stop and kill. Each ends by itself when the process that started it is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tests.kafka import chaos_engine, chaos_writer
from tests.patience import PATIENCE_S, paced_s

# They start from a process that has imported everything already, so that a start takes milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([chaos_engine.__name__, chaos_writer.__name__])
ANSWER_WITHIN_S = PATIENCE_S


class Child:
    """A process that runs `target(first, pipe, *more)`, as often as it is started."""

    def __init__(self, target: Callable[..., None], first: object, *more: object) -> None:
        self._target, self._first, self._more = target, first, more
        self._process: Any = None
        self._pipe: Connection
        self._is_open = False
        self.starts = 0

    def start(self) -> None:
        """Start it, without waiting until it is up."""
        self._pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(target=self._target, args=(self._first, theirs, *self._more), daemon=True)
        self._process.start()
        theirs.close()
        self._is_open = False
        self.starts += 1

    def wait_until_open(self) -> None:
        """Wait until it is up."""
        if not self._is_open:
            assert self._hear() == "open"
            self._is_open = True

    def ask(self, question: str = "report") -> Any:
        """What it says of itself."""
        self.wait_until_open()
        self._pipe.send(question)
        return self._hear()

    def _hear(self) -> Any:
        assert self._pipe.poll(ANSWER_WITHIN_S), f"{self._target.__name__} is silent"
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join(ANSWER_WITHIN_S)
            raise AssertionError(f"{self._target.__name__} has ended, exit code {self._process.exitcode}") from None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self._process.pid, number)

    def freeze(self) -> None:
        """Stop it, wherever it is; returns when it has stopped."""
        self.signal(signal.SIGSTOP)
        give_up = paced_s() + ANSWER_WITHIN_S
        while _state_of(self._process.pid) != "T":
            assert paced_s() < give_up

    def thaw(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            if self._process.exitcode is None:
                self.signal(signal.SIGKILL)
            self._process.join(ANSWER_WITHIN_S)
            self._pipe.close()
            self._process = None


def _state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0]
