"""Session keys and ids in log lines: distinguishable, but not readable."""

from __future__ import annotations

import hashlib
import os

SHOWN_CHARACTERS = 8


class Mask:
    """Hides keys and ids behind the first characters of a keyed hash: the same one reads the same, in all lines.

    Without a `secret` each process draws its own, and lines of two processes cannot be matched. A plain hash would not
    do: keys are made of names and numbers, which can be tried.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = os.urandom(32) if secret is None else hashlib.sha256(secret).digest()

    def __call__(self, text: str) -> str:
        """What a log line says instead of a session's key or id."""
        hashed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=16)
        return f"#{hashed.hexdigest()[:SHOWN_CHARACTERS]}"


masked = Mask()
"""This process's own."""
