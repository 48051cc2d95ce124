"""What must hold of the codec for any bytes: shortcut and models agree, and what it reads it can write again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.engine import codec, plain_touch
from lastseen.engine.verdicts import Verdict

OLD_TYPE = "lastseen.session.touched.v0"


def _from_old(raw: dict[str, Any]) -> dict[str, Any]:
    return raw | {"type": "lastseen.session.touched.v1", "data": {"session_id": raw["data"]["id"]}}


UPCASTERS: Mapping[str, codec.Upcaster] = {OLD_TYPE: _from_old}
"""One old type, so that the way by which old records come in is tried too; it fails on most of what it gets."""


def check(value: bytes) -> bool:
    """Hold the codec to its word on these bytes; whether they hold an event. Raises `AssertionError`."""
    key = key_in(value)
    decoded = codec.decode(key, value, UPCASTERS)
    by_model = codec.decode_by_model(key, value, UPCASTERS)
    assert same(decoded, by_model), ("the shortcut and the models disagree", decoded, by_model)
    elsewhere = codec.decode("another key", value, UPCASTERS)
    no_key = codec.decode(None, value, UPCASTERS)
    if isinstance(decoded, Verdict):
        assert decoded in (Verdict.MALFORMED, Verdict.UNKNOWN_TYPE), decoded
        assert isinstance(no_key, Verdict), no_key
        return False
    event, sent_at_ms = decoded
    assert event.subject == key
    assert no_key is Verdict.MALFORMED
    assert key == "another key" or elsewhere is Verdict.MALFORMED
    event.datacontenttype = "application/json"  # may be left out, and is always written
    again = codec.decode(key, codec.encode(event))
    assert same(again, (event, sent_at_ms)), ("it is another event when it was written", event, again)
    codec.check_key(key)
    return True


def same(one: object, other: object) -> bool:
    """Whether two answers of the codec are the same, also by the types of what is in them."""
    if isinstance(one, Verdict) or isinstance(other, Verdict):
        return one is other
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)
    return one == other and type(one[0]) is type(other[0]) and repr(one) == repr(other)


def key_in(value: bytes) -> str | None:
    """The key under which a record with these bytes would stand: what they name themselves, if they do."""
    shortcut = plain_touch.read(value)
    if shortcut is not None:
        return shortcut[0].subject
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "key"
    subject = found.get("subject") if isinstance(found, dict) else None
    return subject if isinstance(subject, str) else "key"
