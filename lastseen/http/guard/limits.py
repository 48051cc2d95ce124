"""How much of the service one request, one caller, and all of them together may take."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from lastseen.engine.errors import InvalidSetting, shown

MIB = 1 << 20
MAX_STREAMS = 256
"""How many event streams may be open at once, unless a setting says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits on requests. Raises `InvalidSetting` for what is no positive number; `None` means no limit."""

    max_body_bytes: int = 8 * MIB
    """The largest body of a request: 10,000 touches of the longest keys take less."""
    max_waiting_body_bytes: int = 64 * MIB
    """All bodies together that are being received or worked on."""
    max_json_depth: int = 24
    """How deep a body may be nested: the 16 levels of attributes, and what stands around them."""
    max_head_bytes: int = 32_768
    """Request line and header fields together. The longest key takes 6 KiB of it, percent-encoded."""
    max_head_fields: int = 100
    """How many header fields a request may have."""
    head_s: float = 10.0
    """How long a request's head may take to arrive, in seconds."""
    upload_s: float = 20.0
    """How long its body may take to arrive."""
    request_s: float = 30.0
    """How long an answer may take, to begin and to be taken by the caller. Event streams last as long as they like."""
    max_connections: int = 896
    """The most connections open at once, and three quarters of them for one address; a new one takes the place of one
    whose request has not arrived."""
    max_requests: int = 256
    """The most requests in progress at once; others are refused, since queueing would only slow down all of them."""
    max_streams: int = MAX_STREAMS
    """The most event streams open at once."""
    requests_per_s: float | None = None
    """How many requests a second each token may make in the long run; each 16 KiB of body count as one more."""
    burst: int = 200
    """How many it may make at once, after it was quiet."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "requests_per_s":
                continue
            is_whole = str(field.type) == "int"
            is_number = isinstance(value, int if is_whole else (int, float)) and not isinstance(value, bool)
            if not (is_number and math.isfinite(value) and value > 0):
                number = "whole number" if is_whole else "number"
                raise InvalidSetting(f"{field.name} = {shown(value)}: give a {number} greater than zero")
