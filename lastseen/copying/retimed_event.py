"""The bytes of a copied event: its `time` becomes its log time, and everything else stays as the producer wrote it.

A log that is open for import takes the events' own times for log times. So a copy keeps the times of its source only if
`time` is when the source's log took the event, not when its producer sent it. The producer's time stays with the event
in the extension attribute `senttime`, which no rule reads; an event that has one already keeps it.
"""

from __future__ import annotations

import msgspec

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import decode, encode
from lastseen.engine.events import StoredEvent
from lastseen.engine.verdicts import Verdict

SENT_TIME = "senttime"
"""Lower-case letters and digits only, as CloudEvents requires of attribute names."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def with_log_time(event: StoredEvent, value: bytes, at_ms: int) -> tuple[bytes, StoredEvent, bool]:
    """The bytes of `event`, stored as `value`, with `at_ms` for its time; the event in them; whether anything is lost.

    A log time has milliseconds, and the fold reads no more of a `time`. The values of the JSON's members are not parsed
    but copied, so numbers keep their digits. Attributes other than CloudEvents' and ours are lost only if the record
    would become too large, or was written by a producer of an older type.
    """
    for is_short, stored in enumerate((value, encode(event))):
        try:
            written = _with_time(stored, at_ms)
        except (msgspec.DecodeError, KeyError):
            continue
        copied = decode(event.subject, written)
        # A JSON object may repeat a name, and an old type is upcast: so the result is decoded and compared.
        if not isinstance(copied, Verdict) and copied[1] == at_ms and _is_same(event, copied[0]):
            return written, copied[0], bool(is_short)
    return value, event, False


def _with_time(value: bytes, at_ms: int) -> bytes:
    members = _members(value)
    sent = members["time"]
    members["time"] = msgspec.Raw(f'"{iso_from_ms(at_ms)}"'.encode("ascii"))
    members.setdefault(SENT_TIME, sent)
    return _encode(members)


def _is_same(one: StoredEvent, other: StoredEvent) -> bool:
    return (
        type(one) is type(other)
        and one.data == other.data
        and one.id == other.id
        and one.source == other.source
        and one.subject == other.subject
    )
