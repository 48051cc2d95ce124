"""Where a request says it is for, and from which web page: the defence against pages that reach for local services.

A page may name any host and let its name point to 127.0.0.1 (DNS rebinding), or send a form straight there. The first
shows in `Host`, the second in `Origin`; both are refused before anything else is looked at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from lastseen.api.problems import Problem
from lastseen.engine.errors import InvalidSetting, shown

LOOPBACK_NAMES = frozenset(["localhost", "127.0.0.1", "::1"])

Fields = list[tuple[bytes, bytes]]
_PREFLIGHT: Fields = [
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, if-match, if-none-match, idempotency-key, last-event-id",
    ),
    (b"access-control-max-age", b"600"),
]
_EXPOSED = (
    b"access-control-expose-headers",
    b"ETag, Location, Partitions, Position, Retry-After, RateLimit, RateLimit-Policy",
)


def is_loopback(host: str) -> bool:
    """Whether what listens there can be reached from this machine only. Names but `localhost` are not looked up."""
    bare = host.strip().removeprefix("[").removesuffix("]").lower()
    if bare in ("localhost", "localhost."):
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def check_exposure(host: str, has_tokens: bool) -> None:
    """Raise `InvalidSetting` for a service that other machines could use without a token."""
    if not has_tokens and not is_loopback(host):
        raise InvalidSetting(
            f"host = {shown(host)} can be reached from other machines, and the service has no tokens: make one with"
            " `lastseen token create` and name its file with --token-file, or listen on 127.0.0.1"
        )


def allowed_hosts(listens_on: str, configured: Iterable[str] = ()) -> frozenset[str] | None:
    """The names by which the service may be called; `None`: any.

    On the loopback they are its own names and those that are configured; elsewhere those that are configured, if any:
    without a token a page gets nowhere there, and no page has one.
    """
    named = frozenset(host_of(name.encode("utf-8")) for name in configured)
    if is_loopback(listens_on):
        return LOOPBACK_NAMES | named | {host_of(listens_on.encode("utf-8"))}
    return named or None


@lru_cache(maxsize=256)
def is_address(host: bytes | None) -> bool:
    """Whether a `Host` field is an IP address. A name can be pointed at another machine (DNS rebinding), an address
    cannot: what a browser loads from it comes from the machine that has the address."""
    if host is None:
        return False
    try:
        ipaddress.ip_address(host_of(host))
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def host_of(field: bytes) -> str:
    """The host of a `Host` field, without its port, in lower case."""
    text = field.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") > 1:
        return text  # an address of IPv6, from the configuration
    return text.partition(":")[0].removesuffix(".")


class Origins:
    """Which hosts and web pages are answered."""

    def __init__(self, hosts: frozenset[str] | None, origins: Iterable[str] = ()) -> None:
        self._hosts = hosts
        self._origins = frozenset(origin.rstrip("/").lower().encode("latin-1") for origin in origins)

    def knows(self, host: bytes | None) -> bool:
        """Whether a `Host` field is a name of the service."""
        return host is not None and (self._hosts is None or host_of(host) in self._hosts)

    def check(self, host: bytes | None, origin: bytes | None, *, any_host: bool = False) -> Fields:
        """The header fields that let an allowed page of another origin read the response. Raises `Problem`.

        With `any_host`, `Host` may be any: that of a probe is the address of a pod, or absent (HTTP/1.0).
        """
        if not any_host and not self.knows(host):
            raise Problem(
                400,
                "unknown-host",
                "the Host field is not a name of the service: configure the name, or use another",
            )
        if origin is None:
            return []
        if origin.lower() in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"Origin"), _EXPOSED]
        if host is None or not self.knows(host) or origin.lower().partition(b"://")[2] != host.lower():
            raise Problem(403, "foreign-origin", "web pages of other origins may not use the service")
        return []

    @staticmethod
    def preflight() -> Fields:
        """The further header fields of a preflight response."""
        return _PREFLIGHT
