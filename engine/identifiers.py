"""Identifiers: UUIDv7 for events, server-made random ids for sessions.

Randomness is drawn from the operating system in blocks, since one system call an id costs as much as the rest of it.
"""

from __future__ import annotations

import base64
import os
import threading

_BLOCK_BYTES = 16_384
_MOST_TAKEN_BYTES = 4_096
"""What is taken of a block at most. A system call gives other threads the interpreter's lock, and may wait for it."""


class _Random:
    """Bytes from `os.urandom`, bought wholesale. Each process and each thread has its own block."""

    def __init__(self) -> None:
        self._local = threading.local()

    def take(self, count: int) -> bytes:
        local = self._local
        start: int = getattr(local, "used", _BLOCK_BYTES)
        if start + count > _BLOCK_BYTES:
            local.block, start = os.urandom(_BLOCK_BYTES), 0
        local.used = start + count
        block: bytes = local.block
        return block[start : start + count]

    def forget(self) -> None:
        """Hand out none of what is left: a forked child must not repeat its parent's bytes."""
        self._local = threading.local()


_random = _Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.forget)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_event_id(now_ms: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    time = f"{now_ms & 0xFFFF_FFFF_FFFF:012x}"
    random = _random.take(10).hex()
    return f"{time[:8]}-{time[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}"


def new_event_ids(now_ms: int, count: int) -> list[str]:
    """So many of them at once, which costs half as much."""
    if count <= 1:
        return [new_event_id(now_ms)] if count else []
    time = f"{now_ms & 0xFFFF_FFFF_FFFF:012x}"
    before, variant = f"{time[:8]}-{time[8:]}-7", _VARIANT
    size = 10 * count
    random = (_random.take(size) if size <= _MOST_TAKEN_BYTES else os.urandom(size)).hex()
    return [
        f"{before}{random[at : at + 3]}-{variant[random[at + 3]]}{random[at + 4 : at + 7]}-{random[at + 7 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]


def new_session_id() -> str:
    """128 random bits as 22 characters of URL-safe base64 (OWASP ASVS asks for 64 bits or more)."""
    return base64.urlsafe_b64encode(_random.take(16))[:22].decode("ascii")
