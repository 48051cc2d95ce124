"""Taking a log's URL apart.

`urlsplit` knows one host, and a URL of Kafka lists several. Newer Pythons refuse brackets that do not begin the whole
list (`one:9092,[::1]:9094`), so what stands between `kafka://` and the path is taken out before `urlsplit` sees it.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from lastseen.engine.errors import InvalidSetting, shown

SCHEMES = ("memory", "sqlite", "kafka")
_kafka = re.compile(r"kafka://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def split_url(url: str) -> SplitResult:
    """The parts of a URL. Raises `InvalidSetting`, with nothing of the URL in it: there may be a password.

    `netloc` of a Kafka URL is what it says, unchecked: `kafka.url` reads the list of servers.
    """
    found = _kafka.fullmatch(url)
    try:
        return urlsplit(f"kafka://{found[2]}")._replace(netloc=found[1]) if found else urlsplit(url)
    except ValueError:
        raise InvalidSetting(
            "log URL: its host is invalid; give memory://, sqlite:///path/to/file.db or"
            " kafka://host:9092/topic, and an IPv6 address in brackets"
        ) from None


def unknown_scheme(parts: SplitResult) -> str:
    """What is wrong with a URL of another kind, and what to give. Nothing else of it: there may be a password."""
    found = f"unknown scheme {shown(parts.scheme)}; " if parts.scheme else ""
    return f"{found}give memory://, sqlite:///path/to/file.db or kafka://host:9092/topic"
