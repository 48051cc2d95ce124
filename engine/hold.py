"""A hold: a lease on a session that is renewed while a block of code runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from lastseen.engine.clock import Clock
from lastseen.engine.errors import LastseenError, Refused
from lastseen.engine.session import SessionView

_logger = logging.getLogger("lastseen")
_LONGEST_SLEEP_MS = 3_600_000


class Hold:
    """Keeps a session held while its block runs. Made by `Commands.hold`.

    A thread renews the lease when a third of it is over. If a renewal is refused, because the session ended say, the
    block continues, and `lost` holds the reason.
    """

    def __init__(
        self,
        take: Callable[[], SessionView],
        release: Callable[[], object],
        clock: Clock,
        holder: str,
        lease_ms: int,
    ) -> None:
        self._take = take
        self._release = release
        self._clock = clock
        self._lease_ms = lease_ms
        self._done = threading.Event()
        self._renewing: threading.Thread | None = None
        self.holder = holder
        self.session: SessionView | None = None
        """The session as it was when the lease was last taken."""
        self.lost: LastseenError | None = None
        """Why the lease could not be renewed, if so."""

    def __enter__(self) -> Self:
        self.session = self._take()
        self._renewing = threading.Thread(target=self._renew, name=f"lastseen-hold-{self.holder}", daemon=True)
        self._renewing.start()
        return self

    def _renew(self) -> None:
        while True:
            wake_ms = self._clock.now_ms() + max(self._lease_ms // 3, 1)
            while self._clock.now_ms() < wake_ms:
                self._clock.sleep_until(wake_ms, self._done, _LONGEST_SLEEP_MS)
                if self._done.is_set():
                    return
            try:
                self.session = self._take()
            except LastseenError as error:
                self.lost = error
                _logger.warning("hold %s was not renewed: %s", self.holder, error)
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        if self._renewing is not None:
            self._renewing.join()
        # Where the lease has lapsed, or the session has ended, there is nothing to give up.
        with suppress(Refused):
            self._release()
