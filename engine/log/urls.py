"""Taking a log's URL apart."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from lastseen.engine.errors import InvalidSetting


def split_url(url: str) -> SplitResult:
    """The parts of a URL. Raises `InvalidSetting`, with nothing of the URL in it: there may be a password."""
    try:
        return urlsplit(url)
    except ValueError:
        raise InvalidSetting(
            "log URL: what stands for its host is no host; give memory://, sqlite:///path/to/file.db or"
            " kafka://host:9092/topic, and an IPv6 address in brackets"
        ) from None
