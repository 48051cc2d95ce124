"""Addresses of a service: what a client takes, and where it lets itself be sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from lastseen.engine.errors import InvalidSetting, shown

_SCHEMES = {"http": 80, "https": 443}
_token = re.compile(r"[!-~]{1,4096}")
_host = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_path = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*/?")


class Address(NamedTuple):
    """A service: scheme, host and port, and the path that all of its paths begin with."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def address_of(text: object, scheme: str | None = None) -> Address:
    """The address that a text names; without a scheme it gets `scheme`, if there is one. Raises `InvalidSetting`."""
    try:
        if not isinstance(text, str) or not text.isprintable():
            raise ValueError  # the parser below leaves line ends out
        whole = text if "://" in text or scheme is None else f"{scheme}://{text}"
        parts = urlsplit(whole)
        if parts.scheme not in _SCHEMES or not _host.fullmatch(parts.hostname or "") or parts.query or parts.fragment:
            raise ValueError
        if "@" in parts.netloc or not _path.fullmatch(parts.path):
            raise ValueError
        port = _SCHEMES[parts.scheme] if parts.port is None else parts.port
        return Address(parts.scheme, parts.hostname or "", port, parts.path.rstrip("/"))
    except ValueError:
        # The message must not contain a password.
        seen = text if not isinstance(text, str) or "@" not in text else "an address with credentials in it"
        raise InvalidSetting(
            f"address = {shown(seen)}: give http or https, a host and a port, such as http://127.0.0.1:8321; a token"
            " goes into `token`"
        ) from None


def addresses_of(given: object) -> list[Address]:
    """The addresses of a client: one, several with commas between them, or a sequence. Raises `InvalidSetting`."""
    texts = given.split(",") if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not texts:
        texts = [given]
    return list(dict.fromkeys(address_of(text.strip(" ") if isinstance(text, str) else text) for text in texts))


HostRule = Callable[[str], bool]
"""Whether it is about a host."""


def host_rules_of(given: object) -> list[HostRule]:
    """Rules that name hosts: `two.example`, `*.sessions.svc`, `10.1.0.0/16`, `*` for any. Raises `InvalidSetting`."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence):
        raise InvalidSetting(f"owner_hosts = {shown(given)}: give a sequence of host names, *.domains or networks")
    return [_host_rule(text) for text in texts]


def _host_rule(text: object) -> HostRule:
    if isinstance(text, str):
        name = text.lower()
        if name == "*":
            return lambda host: True
        if name.startswith("*.") and _host.fullmatch(name[2:]):
            return lambda host: host.endswith(name[1:])
        if "/" in name:
            with suppress(ValueError):
                network = ip_network(name)
                return lambda host: _is_in(host, network)
        elif _host.fullmatch(name):
            return lambda host: host == name
    raise InvalidSetting(
        f"owner_hosts = {shown(text)}: give a host such as two.example, a domain such as *.sessions.svc, a network such"
        " as 10.1.0.0/16, or * for any host"
    )


def _is_in(host: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        return ip_address(host) in network
    except ValueError:
        return False


def owner_address(current: Address, text: str) -> Address | None:
    """Where an owner is, as the instance at `current` says; `None` if that is no address, or not by HTTPS where
    `current` is.
    """
    try:
        owner = address_of(text, current.scheme)
    except InvalidSetting:
        return None
    if current.scheme == "https" and owner.scheme != "https":
        return None
    return owner._replace(path=owner.path or current.path)


def checked_token(token: object) -> str | None:
    """A token that can stand in a header. Raises `InvalidSetting`, which does not show it."""
    if token is None:
        return None
    if not isinstance(token, str) or not _token.fullmatch(token):
        raise InvalidSetting("token: give the text that `lastseen token create` showed, without blanks or line ends")
    return token
