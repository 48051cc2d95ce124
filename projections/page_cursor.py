"""The cursor of a listing: the place where a page ended, and the listing that it belongs to.

A cursor that is used with another order or other filters would skip sessions without a word, so it is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json

from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.session import Status


def terms_of(sort: str, status: Status | None, prefix: str, owner: str | None) -> str:
    """What a cursor says of the listing that it belongs to: its order and its filters, not the size of its pages."""
    terms = json.dumps([sort, None if status is None else status.value, prefix, owner])
    return hashlib.sha256(terms.encode()).hexdigest()[:16]


def encode_cursor(place: tuple[int, int, int], terms: str) -> str:
    """The cursor of the page after the one that ends at `place`."""
    return base64.urlsafe_b64encode(json.dumps([*place, terms]).encode()).decode("ascii")


def decode_cursor(cursor: str | None, terms: str) -> tuple[int, int, int] | None:
    """The place after which a page begins. Raises `InvalidSetting`, also for a cursor of another listing."""
    if cursor is None:
        return None
    try:
        first, second, third, made_for = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        place = int(first), int(second), int(third)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InvalidSetting(f"cursor = {shown(cursor)}: give the cursor of an earlier page") from None
    if made_for != terms:
        raise InvalidSetting(
            f"cursor = {shown(cursor)} continues a listing with another sort, status, prefix or owner: repeat those of"
            " the first page, or leave the cursor out"
        )
    return place
