"""The cursor of a listing: the place where a page ended, and the listing that it belongs to.

A cursor that is used with another order or other filters would skip sessions without a word, so it is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import NamedTuple

from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.session import Status


class Place(NamedTuple):
    """A place in an order: what it is sorted by, the partition, and an offset that breaks ties."""

    at: int
    partition: int
    tie: int


class Cursor(NamedTuple):
    """Where a page ends, and the listing that it is of, if that is still kept."""

    place: Place
    listing: str


def terms_of(sort: str, status: Status | None, prefix: str, owner: str | None) -> str:
    """What a cursor says of the listing that it belongs to: its order and its filters, not the size of its pages."""
    terms = json.dumps([sort, None if status is None else status.value, prefix, owner])
    return hashlib.sha256(terms.encode()).hexdigest()[:16]


def encode_cursor(cursor: Cursor, terms: str) -> str:
    """The text that callers send for the next page."""
    return base64.urlsafe_b64encode(json.dumps([*cursor.place, terms, cursor.listing]).encode()).decode("ascii")


def decode_cursor(text: str | None, terms: str) -> Cursor | None:
    """The cursor in a text. Raises `InvalidSetting`, also for a cursor of another listing."""
    if text is None:
        return None
    try:
        at, partition, tie, made_for, listing = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
        cursor = Cursor(Place(_in_range(at), _in_range(partition), _in_range(tie)), str(listing))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InvalidSetting(f"cursor = {shown(text)}: give the cursor of an earlier page") from None
    if made_for != terms:
        raise InvalidSetting(
            f"cursor = {shown(text)} continues a listing with another sort, status, prefix or owner: repeat those of"
            " the first page, or leave the cursor out"
        )
    return cursor


def _in_range(number: object) -> int:
    if type(number) is not int or not -(2**63) <= number < 2**63:
        raise ValueError(number)
    return number
