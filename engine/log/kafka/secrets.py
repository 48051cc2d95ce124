"""What is secret about a Kafka connection: where it is read from, and that it is shown nowhere.

kafka-python writes its configuration and the raw bytes of its requests to the log at level DEBUG, the password and the
token among them. So it is given passwords as `Secret`, which does not print itself, and its loggers carry a filter.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from kafka.net.sasl.oauth import AbstractTokenProvider

from lastseen.engine.errors import InvalidSetting, LogUnavailable, shown
from lastseen.engine.log.kafka import CLIENT_ID
from lastseen.engine.log.kafka.url import KafkaUrl

PASSWORD = "LASTSEEN_KAFKA_PASSWORD"
KEY_PASSWORD = "LASTSEEN_KAFKA_KEY_PASSWORD"
HIDDEN = "***"
TOKEN_TIMEOUT_S = 10
EARLY_S = 30
"""A token is replaced so long before it runs out."""

MAX_KNOWN = 100
_known: dict[str, None] = {}
"""The secrets read last, the newest at the end, in the forms in which they could be printed."""


class Secret(str):
    """Text that is used as it is, and never printed."""

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        for form in {text, repr(text)[1:-1], repr(text.encode())[2:-1]} - {""}:
            _known.pop(form, None)
            _known[form] = None
        while len(_known) > MAX_KNOWN:
            del _known[next(iter(_known))]
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return f"'{HIDDEN}'"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, _: str) -> str:
        return HIDDEN

    def plain(self) -> str:
        """The text itself."""
        return str.__str__(self)


def without_secrets(text: str) -> str:
    """`text` with every secret that this process has read blotted out."""
    for secret in tuple(_known):
        text = text.replace(secret, HIDDEN)
    return text


class _LogFilter(logging.Filter):
    """Redacts secrets in what kafka-python logs, and drops its warnings about the connections of a client that closes.

    The loggers are shared with the host application's own clients, whose warnings pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closing = Counter[int | None]()
        """The threads that close a client, and how many clients each."""

    def filter(self, record: logging.LogRecord) -> bool:
        if self.closing and record.levelno > logging.INFO and self._is_expected(record):
            return False
        if _known:
            message = record.getMessage()
            redacted = without_secrets(message)
            if redacted != message:
                record.msg, record.args = redacted, ()
        return True

    def _is_expected(self, record: logging.LogRecord) -> bool:
        return record.thread in self.closing or (record.threadName or "").startswith(_IO_THREAD)


_IO_THREAD = f"kafka-io-{CLIENT_ID}"
"""How the names of the threads begin in which kafka-python runs the connections of our clients."""
_filter = _LogFilter()
_closing = threading.Lock()


@contextmanager
def closing_quietly() -> Iterator[None]:
    """Close a client inside: connections that it was about to make fail then, which is expected and not logged."""
    with _closing:
        _filter.closing[threading.get_ident()] += 1
    try:
        yield
    finally:
        with _closing:
            _filter.closing -= Counter({threading.get_ident(): 1})  # which forgets a thread that closes none


def guard_loggers() -> None:
    """Put the filter on every logger that kafka-python has made so far; asked before each connection."""
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "kafka"]:
        logging.getLogger(name).addFilter(_filter)


def password_of(url: KafkaUrl) -> Secret:
    """The password, from its file or the environment. Raises `InvalidSetting`."""
    if url.password_file is not None:
        return Secret(_read(url, "password_file", url.password_file))
    password = os.environ.get(PASSWORD)
    if not password:
        raise InvalidSetting(f"{url}: the password is missing; set {PASSWORD}, or name a file with password_file=")
    return Secret(password)


def key_password() -> Secret | None:
    """What the client's TLS key is locked with, if it is."""
    password = os.environ.get(KEY_PASSWORD)
    return Secret(password) if password else None


def _read(url: KafkaUrl, option: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidSetting(f"{url}: {option}={shown(path)} cannot be read: {reason}") from None
    if not text:
        raise InvalidSetting(f"{url}: {option}={shown(path)} is empty")
    return text


class TokenFromFile(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens that another process keeps fresh in a file."""

    def __init__(self, url: KafkaUrl, path: str) -> None:
        super().__init__()
        self._url, self._path = url, path

    def token(self) -> str:
        """The token (kafka-python's interface)."""
        return Secret(_read(self._url, "token_file", self._path)).plain()


class TokenForClient(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens from an OAuth 2.0 endpoint, for a client's credentials (RFC 6749, 4.4); kept until they run out."""

    def __init__(self, url: KafkaUrl) -> None:
        super().__init__()
        self._url = url
        self._lock = threading.Lock()
        self._token: Secret | None = None
        self._until_s = 0.0

    def token(self) -> str:
        """The token (kafka-python's interface). Raises `LogUnavailable`."""
        with self._lock:
            if self._token is None or time.monotonic() >= self._until_s:
                self._token, lasts_s = self._ask()
                self._until_s = time.monotonic() + max(lasts_s - EARLY_S, lasts_s / 2)
            return self._token.plain()

    def _ask(self) -> tuple[Secret, float]:
        url = self._url
        assert url.token_url is not None, "checked when the URL was read"
        credentials = f"{url.username}:{password_of(url).plain()}".encode()
        basic = Secret(base64.b64encode(credentials).decode()).plain()
        form = {"grant_type": "client_credentials"} | ({"scope": url.token_scope} if url.token_scope else {})
        request = urllib.request.Request(
            url.token_url, urlencode(form).encode(), {"Authorization": f"Basic {basic}", "Accept": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TOKEN_TIMEOUT_S) as response:
                answer = json.load(response)
            return Secret(str(answer["access_token"])), float(answer.get("expires_in", 60))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = type(error).__name__
            if isinstance(error, urllib.error.HTTPError):
                reason = f"HTTP {error.code}"
                error.close()
            raise LogUnavailable(
                f"{url}: the token endpoint {shown(url.token_url)} returned no token ({reason}): check that it is up,"
                " and that the client and its secret are registered there"
            ) from None


def token_provider(url: KafkaUrl) -> AbstractTokenProvider:
    """Where the tokens for OAUTHBEARER come from."""
    return TokenForClient(url) if url.token_file is None else TokenFromFile(url, url.token_file)
