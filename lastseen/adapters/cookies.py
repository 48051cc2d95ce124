"""The cookie that carries a token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lastseen.engine.errors import InvalidSetting, shown

_name = re.compile(r"[A-Za-z0-9_-]{1,64}")
SAME_SITE = ("lax", "strict", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """How the cookie is set: `Secure; HttpOnly; SameSite`, for this host alone."""

    name: str = "__Host-session"
    """With `__Host-`, browsers take it over TLS only, from this very host, for all paths (RFC 6265bis, 4.1.3.2)."""
    same_site: Literal["lax", "strict", "none"] = "lax"
    secure: bool = True
    """Without it the cookie travels over plain HTTP too: for development, under a name without `__Host-`."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _name.fullmatch(self.name):
            raise InvalidSetting(f"cookie name = {shown(self.name)}: give 1 to 64 of the characters A-Z a-z 0-9 _ -")
        if self.same_site not in SAME_SITE:
            raise InvalidSetting(f"same_site = {shown(self.same_site)}: give one of {', '.join(SAME_SITE)}")
        if not self.secure and (self.name.startswith("__") or self.same_site == "none"):
            raise InvalidSetting(
                f"cookie {self.name} without secure: browsers refuse that with a name that begins with __, and with"
                " same_site = none; give another name, or leave secure on"
            )

    def read(self, header: str) -> str | None:
        """The token in a `Cookie` header, if there is one; the first, as it is of the most specific path."""
        for part in header.split(";"):
            name, equals, value = part.strip().partition("=")
            if equals and name == self.name:
                return value
        return None

    def written(self, token: str, age_s: int | None = None) -> str:
        """The `Set-Cookie` header that gives a visitor the token: for `age_s` seconds, or until the browser closes."""
        age = "" if age_s is None else f"; Max-Age={age_s}"
        return f"{self.name}={token}{age}{self._terms()}"

    def removed(self) -> str:
        """The `Set-Cookie` header that takes it away."""
        return f"{self.name}=; Max-Age=0{self._terms()}"

    def _terms(self) -> str:
        secure = "; Secure" if self.secure else ""
        return f"; Path=/; HttpOnly; SameSite={self.same_site.capitalize()}{secure}"
