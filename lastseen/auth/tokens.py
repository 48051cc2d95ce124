"""Tokens of the HTTP service: created here, stored as digests in one file, and compared in constant time.

A token is 256 random bits, so its SHA-256 needs neither a salt nor a slow hash: they cannot all be tried. The file is
replaced whole, so a reader sees the old or the new one; writers take turns by a lock beside it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lastseen.auth.caller import Caller, Scope
from lastseen.engine.arguments import Anything, wanted_text
from lastseen.engine.codec import check_key
from lastseen.engine.errors import InvalidInput, InvalidSetting, shown

SECRET_PREFIX = "ls_"
"""How every token begins, so that scanners of source code find one that was left there."""
SECRET_BYTES = 32
MAX_TOKENS = 10_000

_name_form = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """The stored record of a token. The token itself is printed once, when it is created."""

    name: str
    sha256: bytes
    scopes: frozenset[Scope]
    prefix: str
    """The caller sees and affects only sessions whose keys begin so; empty: all."""
    created_at_ms: int
    expires_at_ms: int | None

    def is_expired(self, now_ms: int) -> bool:
        """Whether its time is over."""
        return self.expires_at_ms is not None and now_ms >= self.expires_at_ms


def new_token(
    name: str, scopes: Iterable[str], prefix: str | Anything, now_ms: int, expires_in_ms: int | None
) -> tuple[str, Token]:
    """A new token: the secret that its bearer sends, and its record. `prefix` is `ANY` for a token that covers
    all keys; empty text is refused, since a program that computed it did not mean all. Raises `InvalidSetting`."""
    own = wanted_text("prefix", prefix) or ""
    secret = SECRET_PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode("ascii")
    expires_at_ms = None if expires_in_ms is None else now_ms + expires_in_ms
    return secret, checked_token(name, digest(secret), scopes, own, now_ms, expires_at_ms)


def digest(secret: str) -> bytes:
    """The stored digest of a token."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def checked_token(
    name: str, sha256: bytes, scopes: Iterable[str], prefix: str, created_at_ms: int, expires_at_ms: int | None
) -> Token:
    """A token's record, if it keeps the rules. Raises `InvalidSetting` naming the field."""
    if not _name_form.fullmatch(name):
        raise InvalidSetting(f"token name {shown(name)}: give 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    known = []
    for scope in scopes:
        try:
            known.append(Scope(scope))
        except ValueError:
            raise InvalidSetting(
                f"token {name}: scope {shown(scope)} is unknown; give one or more of {', '.join(Scope)}"
            ) from None
    if not known:
        raise InvalidSetting(f"token {name} has no scope: give one or more of {', '.join(Scope)}")
    if prefix:
        _check_prefix(name, prefix)
        if Scope.ADMIN in known:
            raise InvalidSetting(
                f"token {name}: the scope admin covers the whole service, a prefix only one tenant; leave one"
                " of the two out"
            )
    if len(sha256) != 32:
        raise InvalidSetting(f"token {name}: its digest is not a SHA-256")
    return Token(name, sha256, frozenset(known), prefix, created_at_ms, expires_at_ms)


def _check_prefix(name: str, prefix: str) -> None:
    try:
        check_key(prefix)
    except InvalidInput:
        raise InvalidSetting(f"token {name}: prefix {shown(prefix)} cannot begin a valid key") from None


class Keyring:
    """Tokens, to be recognised. Takes as long for a token that is nearly right as for one that is not at all.

    They are found by a hash of their digest under a key that only this process knows: how far a lookup gets says
    nothing about any digest. What was found, or a dummy, is then compared in constant time; so the time depends
    neither on which token it is nor on how many there are.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._key = os.urandom(32)
        self._tokens = {self._lookup_key(token.sha256): (token, _caller(token)) for token in tokens}
        self._by_name = {token.name: (token, _caller(token)) for token in tokens}
        dummy = Token("none", os.urandom(32), frozenset(), "", 0, 0)
        self._dummy = (dummy, _caller(dummy))

    def _lookup_key(self, sha256: bytes) -> bytes:
        return hashlib.blake2b(sha256, key=self._key, digest_size=16).digest()

    def find(self, secret: bytes, now_ms: int) -> Caller | None:
        """Who sends this token; `None` for one that is unknown, revoked, expired or no token."""
        sha256 = hashlib.sha256(secret).digest()
        token, caller = self._tokens.get(self._lookup_key(sha256), self._dummy)
        is_right = hmac.compare_digest(token.sha256, sha256)
        return caller if is_right and not token.is_expired(now_ms) else None

    def named(self, name: str, now_ms: int) -> Caller | None:
        """The caller whose token has a name; `None` for one that is unknown, revoked or expired."""
        token, caller = self._by_name.get(name, self._dummy)
        return caller if token is not self._dummy[0] and not token.is_expired(now_ms) else None


def _caller(token: Token) -> Caller:
    return Caller(token.name, token.scopes, token.prefix, token.sha256)
