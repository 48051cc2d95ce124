"""The paths of the service. A session key is one segment of a path, percent-encoded: `/` in it is `%2F`."""

from __future__ import annotations

from urllib.parse import quote

SESSIONS = "/v1/sessions"
TOUCHES = "/v1/touches"
EVENT_STREAM = "/v1/events/stream"
EVENT_TICKETS = "/v1/events/tickets"
ENDED = "/v1/ended"
STATISTICS = "/v1/statistics"
PRUNE = "/v1/prune"
BULK = "/v1/bulk"


def segment_of(key: str) -> str:
    """A key as a segment of a path. `.` and `..` are escaped, so that no client takes them for steps in the path."""
    return key.replace(".", "%2E") if key in (".", "..") else quote(key, safe="")


def path_of(key: str, verb: str | None = None) -> str:
    """The path of the session under a key, or of one of its operations."""
    path = f"{SESSIONS}/{segment_of(key)}"
    return path if verb is None else f"{path}/{verb}"
