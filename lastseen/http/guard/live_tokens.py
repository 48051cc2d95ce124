"""The tokens of a running service: what the file says, within a second or two of its saying it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from lastseen.api.problems import Problem
from lastseen.auth.caller import Caller
from lastseen.auth.token_file import TokenFile
from lastseen.auth.tokens import Keyring
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import InvalidSetting

_logger = logging.getLogger("lastseen.tokens")
CHECK_INTERVAL_S = 1.0


class LiveTokens:
    """Authenticates callers by the tokens in a file. Raises `InvalidSetting` if the file is invalid at the start.

    If it becomes invalid later, every request is refused until it is fixed: which tokens it would revoke is unknown.
    """

    def __init__(
        self, file: TokenFile, *, clock: Clock | None = None, steady_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._clock: Clock = SystemClock() if clock is None else clock
        self._steady_s = steady_s
        # The version is looked at before the content: a change in between is found at the next look.
        self._version = file.version()
        self._keyring: Keyring | None = Keyring(file.read())
        self._next_check_s = steady_s() + CHECK_INTERVAL_S

    def caller(self, secret: bytes) -> Caller | None:
        """The caller of a token; `None` for an invalid one. Raises `Problem` 503 while the file is invalid."""
        return self._current().find(secret, self._clock.now_ms())

    def named(self, name: str) -> Caller | None:
        """The caller whose token has a name; `None` without a valid one. Raises `Problem` 503 as `caller` does."""
        return self._current().named(name, self._clock.now_ms())

    def now_ms(self) -> int:
        """The time by which tokens expire."""
        return self._clock.now_ms()

    def _current(self) -> Keyring:
        now_s = self._steady_s()
        if now_s >= self._next_check_s:
            self._next_check_s = now_s + CHECK_INTERVAL_S
            self._reload()
        if self._keyring is None:
            raise Problem(
                503,
                "tokens-unreadable",
                "the service cannot read its tokens and refuses every request: see its log",
                headers={"Retry-After": "5"},
            )
        return self._keyring

    def _reload(self) -> None:
        version = self._file.version()
        if version == self._version and self._keyring is not None:
            return
        try:
            self._keyring = Keyring(self._file.read())
        except InvalidSetting as error:
            if self._keyring is not None or version != self._version:
                # Logged once, and again if the file has changed and is still invalid.
                _logger.error("every request is refused: %s", error)
            self._keyring = None
        else:
            _logger.info("the tokens have changed and were read again")
        self._version = version
