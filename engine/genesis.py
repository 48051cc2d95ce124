"""The genesis record: the first of each partition, which says what log it is and whether a history is imported into it.

An import writes it to the log that it fills. A log that nothing was imported into may lack it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.events import Opened
from lastseen.engine.log.port import Message

SUBJECT = "lastseen:log"
"""The key of records about the log itself. CloudEvents allows no empty subject."""
_TYPE = Opened.__dataclass_fields__["type"].default


def genesis(
    log_id: str,
    partition: int,
    partitions: int,
    at_ms: int,
    *,
    source: str,
    event_id: str,
    imports: bool = False,
    more: Mapping[str, Any] | None = None,
) -> Message:
    """The first record of a partition. An import says in `more` what it imports, so that it can be continued."""
    fields = {
        "log_id": log_id, "partition": partition, "partitions": partitions, "imports": imports, **(more or {}),
    }  # fmt: skip
    return Message(partition, SUBJECT, envelope(_TYPE, event_id, source, SUBJECT, iso_from_ms(at_ms), fields))
