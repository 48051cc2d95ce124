"""Addresses of a service: what a client takes, and where it lets itself be sent."""

from __future__ import annotations

import re
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


def owner_address(current: Address, text: str) -> Address | None:
    """Where an owner is, as the instance at `current` says; `None` where the token must not follow it there.

    An owner is reached as its neighbour is: by HTTPS where that one is.
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
