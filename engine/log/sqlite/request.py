"""Messages on their way into an SQLite log, and the outcome for the callers that wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from lastseen.engine.errors import EngineClosed, LogError
from lastseen.engine.log.port import Message, Position


class Request:
    """One call's messages. Its latch is a bare lock: a future costs 2 to 3 µs, and each append would pay them."""

    __slots__ = ("_done", "_latch", "error", "messages", "positions", "size")

    def __init__(self, messages: Sequence[Message], size: int, done: Callable[[Request], None] | None) -> None:
        self.messages = messages
        self.size = size
        self.positions: list[Position] = []
        self.error: LogError | EngineClosed | None = None
        self._done = done
        self._latch = threading.Lock()
        self._latch.acquire()

    def finish(self) -> None:
        """Wake the caller that waits."""
        self._latch.release()
        if self._done is not None:
            self._done(self)

    def result(self) -> list[Position]:
        """Wait; the positions, or the error."""
        self._latch.acquire()
        if self.error is not None:
            raise self.error
        return self.positions


def resolve(future: Future[list[Position]], request: Request) -> None:
    """Give a future the outcome of a request."""
    if request.error is not None:
        future.set_exception(request.error)
    else:
        future.set_result(request.positions)
