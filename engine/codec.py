"""Bytes ⇄ events: CloudEvents structured JSON in, CloudEvents structured JSON out, and old versions brought up to date.

`decode` never raises: it returns the event, or the verdict (`MALFORMED`, `UNKNOWN_TYPE`) that the record deserves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import Field, TypeAdapter, ValidationError

from lastseen.engine import plain_touch
from lastseen.engine.clock import ms_from_iso
from lastseen.engine.errors import InvalidEvent, InvalidInput, InvalidKey, InvalidPolicy, shown
from lastseen.engine.events import MAX_KEY_CHARACTERS, MAX_RECORD_BYTES, STORED_EVENTS, StoredEvent
from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict

CONTENT_TYPE = "application/cloudevents+json"

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the JSON of an old type and returns the JSON of a newer one: its `type` differs, all else is its business."""

UPCASTERS: Mapping[str, Upcaster] = {}
"""Old type → what brings it one version up. Empty so far: `v1` is the first version."""

_MAX_UPCASTS = 16
E = TypeVar("E", bound=StoredEvent)
_stored: TypeAdapter[StoredEvent] = TypeAdapter(Annotated[StoredEvent, Field(discriminator="type")])
_validate = _stored.validator.validate_json


class _Stated(msgspec.Struct):
    """What the models fill in for constructors, and a record must say."""

    specversion: Literal["1.0"]


_states_version = msgspec.json.Decoder(_Stated).decode
_encoder = msgspec.json.Encoder()
_known_types = frozenset(kind.__dataclass_fields__["type"].default for kind in STORED_EVENTS)


_remembered: dict[bytes, plain_touch.OwnTouch | tuple[StoredEvent, int]] = {}
MAX_REMEMBERED = 16_384
"""Events that were written and did not come back: another process folds them, or the log never took them."""


def remember(value: bytes, event: StoredEvent, sent_at_ms: int) -> None:
    """Save `decode` the work on bytes that this process has made itself; `engine.own_events` says which."""
    if len(_remembered) >= MAX_REMEMBERED:
        _remembered.clear()
    _remembered[value] = event, sent_at_ms


def remember_touch(value: bytes, touch: plain_touch.OwnTouch) -> None:
    """The same for a plain touch, whose event is made only if it is needed."""
    if len(_remembered) >= MAX_REMEMBERED:
        _remembered.clear()
    _remembered[value] = touch


def remembered() -> dict[bytes, plain_touch.OwnTouch | tuple[StoredEvent, int]]:
    """What is remembered, by its bytes: the fold takes touches from here that it need not decode."""
    return _remembered


def decode(
    key: str | None, value: bytes | None, upcasters: Mapping[str, Upcaster] = UPCASTERS
) -> tuple[StoredEvent, int] | Verdict:
    """The event of a record and when it was sent, in milliseconds; or the verdict on a record that holds none."""
    if value is None or len(value) > MAX_RECORD_BYTES:
        return Verdict.MALFORMED
    # To look for bytes they must be hashed, which is not worth it where nothing is remembered, as in a refold.
    plain: tuple[StoredEvent, int] | None
    own = _remembered.pop(value, None) if _remembered else None
    if own is None:
        plain = plain_touch.read(value)
    else:
        plain = (own.event(), own.sent_at_ms) if isinstance(own, plain_touch.OwnTouch) else own
    if plain is not None:
        return plain if plain[0].subject == key else Verdict.MALFORMED
    return decode_by_model(key, value, upcasters)


def decode_by_model(
    key: str | None, value: bytes, upcasters: Mapping[str, Upcaster] = UPCASTERS
) -> tuple[StoredEvent, int] | Verdict:
    """`decode` without its shortcut for plain touches: what that must agree with."""
    try:
        event = _by_model(value)
    except (ValidationError, msgspec.DecodeError, ValueError, RecursionError):
        other = _decode_other(value, upcasters)
        if isinstance(other, Verdict):
            return other
        event = other
    if event.subject != key:
        return Verdict.MALFORMED
    try:
        return event, ms_from_iso(event.time)
    except InvalidInput:  # the 31st of February: right in form, no time
        return Verdict.MALFORMED


def _by_model(value: bytes) -> StoredEvent:
    event: StoredEvent = _validate(value)
    _states_version(value)
    return event


def _decode_other(value: bytes, upcasters: Mapping[str, Upcaster]) -> StoredEvent | Verdict:
    """The slow path of `decode`: an old type, a foreign type, or rubbish."""
    try:
        raw = msgspec.json.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Verdict.MALFORMED
    if not isinstance(raw, dict) or raw.get("specversion") != "1.0":
        return Verdict.MALFORMED
    kind = raw.get("type")
    if not isinstance(kind, str) or not kind:
        return Verdict.MALFORMED
    if kind in _known_types:
        return Verdict.MALFORMED
    if kind not in upcasters:
        return Verdict.UNKNOWN_TYPE
    try:
        for _ in range(_MAX_UPCASTS):
            if kind not in upcasters:
                break
            raw = upcasters[kind](raw)
            kind = raw["type"]
        return _by_model(msgspec.json.encode(raw))
    except Exception:  # An upcaster may fail in any way; the fold must not.
        return Verdict.MALFORMED


def why_malformed(key: str | None, value: bytes | None) -> str:
    """What is wrong with a record that `decode` calls malformed: the first fault, for people."""
    if value is None:
        return "it has no value"
    if len(value) > MAX_RECORD_BYTES:
        return f"its value has {len(value)} bytes, and the limit is {MAX_RECORD_BYTES}"
    try:
        raw = msgspec.json.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "its value is no JSON"
    if not isinstance(raw, dict) or raw.get("specversion") != "1.0":
        return "its value is no CloudEvent in structured mode: it has no specversion 1.0"
    try:
        event = _by_model(value)
    except ValidationError as error:
        return str(_typed(error))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return str(error)
    if key is None:
        return "it has no key, or one that is not UTF-8; the key must be the event's subject"
    if event.subject != key:
        return f"its key is {shown(key)}, and the event's subject {shown(event.subject)}: they must be the same"
    return f"its time {shown(event.time)} is none"


def encode(event: StoredEvent) -> bytes:
    """The event as it is stored. Fields that are `None` are left out."""
    if plain_touch.is_plain(event):
        return plain_touch.write(event)
    fields = {name: value for name in _data_fields(event) if (value := getattr(event.data, name)) is not None}
    return envelope(event.type, event.id, event.source, event.subject, event.time, fields)


def envelope(kind: str, event_id: str, source: str, subject: str, time: str, fields: Mapping[str, Any]) -> bytes:
    """The bytes of an event of type `kind` with these data, of parts that are known to be valid: nothing is checked."""
    return _encoder.encode(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": kind,
            "subject": subject,
            "time": time,
            "datacontenttype": "application/json",
            "data": fields,
        }
    )


_fields_of: dict[type[Any], tuple[str, ...]] = {}


def _data_fields(event: StoredEvent) -> tuple[str, ...]:
    kind = type(event.data)
    names = _fields_of.get(kind)
    if names is None:
        names = _fields_of[kind] = tuple(kind.__dataclass_fields__)
    return names


_key_form = re.compile(f"[^\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]{{1,{MAX_KEY_CHARACTERS}}}")


def check_key(key: object) -> None:
    """Raise `InvalidKey` unless `key` can be the key of a session."""
    # Printable is narrower than "no control characters", and seen in a fifth of the time.
    if type(key) is str and key.isprintable() and 0 < len(key) <= MAX_KEY_CHARACTERS:
        return
    if not isinstance(key, str) or not _key_form.fullmatch(key):
        raise InvalidKey(
            f"session key {shown(key)}: give text of 1 to {MAX_KEY_CHARACTERS} characters without control characters"
        )


def checked(make: Callable[[], E]) -> E:
    """What `make` builds; where pydantic refuses it, the typed error that names the first field at fault."""
    try:
        return make()
    except ValidationError as error:
        raise _typed(error) from None


def _typed(error: ValidationError) -> InvalidInput:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"] if part != "data")
    kind: type[InvalidInput] = InvalidEvent
    if first["loc"][0] == "subject":
        return InvalidKey(
            f"session key {shown(first['input'])}: give text of 1 to {MAX_KEY_CHARACTERS} characters without control"
            " characters"
        )
    if "policy" in first["loc"] or first["loc"][0] in Policy.__dataclass_fields__:
        kind = InvalidPolicy
    return kind(f"{place} = {shown(first['input'])}: {first['msg']}")
