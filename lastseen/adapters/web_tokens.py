"""Tokens of web sessions: `place.secret`, both random, of which the log has only hashes.

The session's key is the SHA-256 of the place, and its attribute `secret` the SHA-256 of the secret: access to the log,
a snapshot or a backup is not enough to make a cookie.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import NamedTuple

PLACE_BYTES, SECRET_BYTES = 16, 32
"""Random bytes of a token's parts. The secret alone is four times what the OWASP asks for (64 bits of entropy)."""
LONGEST_TOKEN = 128


class Token(NamedTuple):
    """The two parts of a token."""

    place: str
    secret: str

    def __str__(self) -> str:
        return f"{self.place}.{self.secret}"


def new_token() -> Token:
    """A token that opens nothing yet."""
    return Token(secrets.token_urlsafe(PLACE_BYTES), new_secret())


def new_secret() -> str:
    """Another secret, or another salt."""
    return secrets.token_urlsafe(SECRET_BYTES)


def parse(text: str | None) -> Token | None:
    """The parts of what a visitor presents; `None` where it can be no token."""
    if text is None or len(text) > LONGEST_TOKEN or not text.isascii():
        return None
    place, _, secret = text.partition(".")
    return Token(place, secret) if place and secret else None


def hashed(text: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_secret(secret: str, stored: object) -> bool:
    """Whether `stored` is the hash of `secret`; takes the same time wherever they differ."""
    return hmac.compare_digest(str(stored), hashed(secret))


def successor(secret: str, salt: str) -> str:
    """The secret that follows `secret` after a rotation with a grace time.

    It is made of the old secret, so that a visitor who presents the old one within the grace time can receive the new
    one again; and of a salt, so that the old one alone leads nowhere afterwards.
    """
    digest = hmac.digest(salt.encode(), secret.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
