"""One line for each request: method, route, caller and status. No raw text of a caller is in it.

The route's template stands there instead of the path, since a path holds session keys; there is no query, no address.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

_logger = logging.getLogger("lastseen.access")
UNKNOWN_ROUTE = "(none)"

Write = Callable[[Mapping[str, Any]], None]
"""What is done with a line: a mapping from names to text and numbers."""


def access_line(scope: Mapping[str, Any], status: int, seconds: float, caller: str | None) -> dict[str, Any]:
    """The line: method, route, status, duration, and the name of the caller's token (`None`: it had none that fits)."""
    return {
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", UNKNOWN_ROUTE),
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
        "caller": caller,
    }


def write_json(line: Mapping[str, Any]) -> None:
    """Log a line as one JSON value, in ASCII without control characters: no content of a request can forge a line."""
    if _logger.isEnabledFor(logging.INFO):
        _logger.info("%s", json.dumps(line))
