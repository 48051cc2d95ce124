"""How much one read gives: the caller bounds the number of records, and this their bytes, as memory is."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from lastseen.engine.log.port import Record

MAX_READ_BYTES = 1024 * 1024
"""A read ends with the record whose value reaches this. It takes several times as much in memory once it is decoded."""
_value = itemgetter(Record._fields.index("value"))


def values_bytes(records: Sequence[Record]) -> int:
    """What the values of records take."""
    return sum(map(len, filter(None, map(_value, records))))


def page_of(records: list[Record]) -> list[Record]:
    """As many of the first records as one read gives: at least one, if there is one."""
    if values_bytes(records) <= MAX_READ_BYTES:
        return records
    size = 0
    for count, record in enumerate(records, start=1):
        size += len(record[4] or b"")
        if size >= MAX_READ_BYTES:
            return records[:count]
    return records
