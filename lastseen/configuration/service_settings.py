"""Settings of a service that runs an engine: where it listens, what it does, what it logs, how it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lastseen.embedded.setting_checks import (
    Check,
    check_bool,
    check_settings,
    each_matching,
    matching,
    nearest,
    one_of,
    optional,
    path,
    whole,
)
from lastseen.embedded.settings import duration_ms
from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.log.urls import SCHEMES, split_url, unknown_scheme

ROLES = ("api", "view", "snapshot", "pruner", "facts")
"""The duties that a process may have: serve HTTP, hold live sessions, keep them on disk, announce due sessions of the
partitions it owns, and publish facts and states in the other two topics of a log on Kafka."""
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("json", "lines")
TOKEN_PREFIX = "ls_"
"""The beginning of every token: a token that is passed instead of a file is not shown."""
_host_name = re.compile(r"[A-Za-z0-9._:\[\]%-]{1,253}")
_origin = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,253}/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """How a service runs. Durations are whole milliseconds or text such as `30m`."""

    log: str = "sqlite:///lastseen.db"
    """The log: `sqlite:///relative.db`, `sqlite:////absolute.db`, `kafka://host:9092/topic`, or `memory://`."""
    host: str = "127.0.0.1"
    """The address to listen on; one that other machines can reach needs a token file."""
    port: int = 8321
    """The port to listen on; 0 picks a free one."""
    roles: tuple[str, ...] = ROLES
    """What this process does: `api` serves HTTP, `view` holds the live sessions (all other roles need it), `snapshot`
    keeps them on disk, `pruner` announces expiries, `facts` publishes to the other two topics of a log on Kafka."""
    token_file: str | None = None
    """The file of tokens that callers must present; it holds only their hashes."""
    tls_cert_file: str | None = None
    """The PEM file of a certificate and its chain: with it the service itself serves TLS."""
    tls_key_file: str | None = None
    """The PEM file of its key, without a password; not needed if the key is in the same file."""
    allowed_hosts: tuple[str, ...] = ()
    """The names by which callers may address this service, in addition to those of the loopback."""
    allowed_origins: tuple[str, ...] = ()
    """The origins of other web pages that may use this service, such as `https://console.example.org`."""
    max_request_bytes: int = 8 << 20
    """The largest body of a request."""
    max_requests: int = 256
    """The most requests in progress at once; others get 503 and may try again."""
    max_streams: int = 256
    """The most event streams open at once."""
    request_timeout: int | str = "30s"
    """How long a response may take; event streams are not limited."""
    requests_per_s: int | None = None
    """The sustained rate of requests per second for each token; others get 429."""
    burst: int = 200
    """The most requests that a token may make at once after an idle period."""
    access_log: bool = False
    """Whether each request is logged, with its route, status, duration and the name of its token."""
    open_metrics: bool = False
    """Whether `/metrics` needs no token."""
    strict_readiness: bool = False
    """Whether `/readyz` returns 503 while this instance cannot serve one of its partitions. Otherwise it returns
    200 with `degraded` while it serves any."""
    drain_time: int | str | None = None
    """How long the service still accepts requests after the signal to stop, while `/readyz` reports the shutdown."""
    shutdown_timeout: int | str = "20s"
    """How long requests in flight may take after that; the engine has the same time again for its shutdown if the log
    does not respond."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level of log lines that is written."""
    log_format: Literal["json", "lines"] = "json"
    """How log lines are written: JSON for programs, or lines for people."""
    statistics_interval: int | str | None = "1m"
    """How often statistics are logged."""

    @classmethod
    def of(cls, **given: Any) -> ServiceSettings:
        """Settings from keyword arguments; raises `InvalidSetting` for those that do not exist or are out of range."""
        check_settings(_CHECKS, given)
        for name in {"roles", "allowed_hosts", "allowed_origins"} & set(given):
            given[name] = tuple(given[name])
        return cls(**given)


def _check_log(name: str, value: object) -> None:
    if isinstance(value, str) and value.startswith("kafka:"):
        from lastseen.engine.log.kafka.url import parse_kafka_url

        parse_kafka_url(value)
        return
    parts = split_url(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in SCHEMES or (parts.scheme == "sqlite" and len(parts.path) < 2):
        if parts is not None and parts.scheme and parts.scheme not in SCHEMES:
            raise InvalidSetting(f"{name}: {unknown_scheme(parts)}")
        raise InvalidSetting(f"{name}: give memory://, sqlite:///path/to/file.db or kafka://host:9092/topic")


def _check_roles(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or not value:
        raise InvalidSetting(f"{name} = {shown(value)}: give one or more of {', '.join(ROLES)}")
    for role in value:
        if role not in ROLES:
            hint = nearest(role, ROLES) if isinstance(role, str) else ""
            raise InvalidSetting(f"{name}: {shown(role)} is not a role: give some of {', '.join(ROLES)}{hint}")
    if len(set(value)) < len(value):
        raise InvalidSetting(f"{name} = {shown(','.join(value))}: give each role once")


def _check_token_file(name: str, value: object) -> None:
    if isinstance(value, str) and value.startswith(TOKEN_PREFIX):
        raise InvalidSetting(
            f"{name}: this is a token, not a file: give the path that `lastseen token create` wrote to"
        )
    path()(name, value)


_CHECKS: Mapping[str, Check] = {
    "log": _check_log,
    "host": matching(_host_name, "an address such as 127.0.0.1, ::1 or 0.0.0.0, or a host's name"),
    "port": whole(0, 65_535),
    "roles": _check_roles,
    "token_file": optional(_check_token_file),
    "tls_cert_file": optional(path()),
    "tls_key_file": optional(path()),
    "allowed_hosts": each_matching(_host_name, "names of hosts, such as sessions.example.org"),
    "allowed_origins": each_matching(_origin, "origins, such as https://console.example.org"),
    "max_request_bytes": whole(1024, 1 << 30),
    "max_requests": whole(1, 100_000),
    "max_streams": whole(1, 100_000),
    "request_timeout": duration_ms,
    "requests_per_s": optional(whole(1, 1_000_000)),
    "burst": whole(1, 1_000_000),
    "access_log": check_bool,
    "open_metrics": check_bool,
    "strict_readiness": check_bool,
    "drain_time": optional(duration_ms),
    "shutdown_timeout": duration_ms,
    "log_level": one_of(*LEVELS),
    "log_format": one_of(*FORMATS),
    "statistics_interval": optional(duration_ms),
}
"""The check of every setting."""
