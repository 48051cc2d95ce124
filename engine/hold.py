"""A hold: a lease on a session that is renewed while a block of code runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from lastseen.engine.errors import LastseenError, Refused
from lastseen.engine.lease_renewer import Lease, LeaseRenewer
from lastseen.engine.session import SessionView

_logger = logging.getLogger("lastseen")


class Hold:
    """Keeps a session held while its block runs. Made by `Commands.hold`.

    The lease is renewed when a third of it is over, by one thread for all holds. If a renewal is refused, because the
    session ended say, the block continues, and `lost` holds the reason.
    """

    def __init__(
        self,
        take: Callable[[], SessionView],
        release: Callable[[], object],
        renewer: LeaseRenewer,
        holder: str,
        lease_ms: int,
    ) -> None:
        self._take = take
        self._release = release
        self._renewer = renewer
        self._lease_ms = lease_ms
        self._renewing: Lease | None = None
        self.holder = holder
        self.session: SessionView | None = None
        """The session as it was when the lease was last taken."""
        self.lost: LastseenError | None = None
        """Why the lease could not be renewed, if so."""

    def __enter__(self) -> Self:
        self.session = self._take()
        try:
            self._renewing = self._renewer.add(self._renew, self._lease_ms // 3)
        except BaseException:
            self._give_up()
            raise
        return self

    def _renew(self) -> bool:
        try:
            self.session = self._take()
        except LastseenError as error:
            self.lost = error
            _logger.warning("hold %s was not renewed: %s", self.holder, error)
            return False
        return True

    def _give_up(self) -> None:
        # Where the lease has lapsed, or the session has ended, there is nothing to give up.
        with suppress(Refused):
            self._release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewer.drop(self._renewing)
        self._give_up()
