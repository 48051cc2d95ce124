"""Identifiers: UUIDv7 for events, server-made random ids for sessions.

Randomness is drawn from the operating system in blocks, since one system call an id costs as much as the rest of it.
"""

from __future__ import annotations

import base64
import os
import threading

_BLOCK_BYTES = 4096


class _Random:
    """Bytes from `os.urandom`, bought wholesale. Each process and each thread has its own block."""

    def __init__(self) -> None:
        self._local = threading.local()

    def take(self, count: int) -> bytes:
        local = self._local
        pid = os.getpid()
        # A forked child must not hand out its parent's bytes again.
        if getattr(local, "pid", None) != pid or local.used + count > _BLOCK_BYTES:
            local.pid, local.block, local.used = pid, os.urandom(_BLOCK_BYTES), 0
        start = local.used
        local.used = start + count
        block: bytes = local.block
        return block[start : start + count]


_random = _Random()


def new_event_id(now_ms: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    random = int.from_bytes(_random.take(10), "big")
    value = (now_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62
    value |= random & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_session_id() -> str:
    """128 random bits as 22 characters of URL-safe base64 (OWASP ASVS asks for 64 bits or more)."""
    return base64.urlsafe_b64encode(_random.take(16))[:22].decode("ascii")
