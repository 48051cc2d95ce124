"""The shortcut of `engine.plain_touch` accepts a strict subset of what the models accept, with the same event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.engine import codec, events, plain_touch
from lastseen.engine.verdicts import Verdict

SESSION_ID = "AAAAAAAAAAAAAAAAAAAAAA"
TIME = "2026-01-31T12:00:05.678Z"


def touch(**changes: Any) -> dict[str, Any]:
    plain = {
        "specversion": "1.0",
        "id": "0190-e",
        "source": "/gateway",
        "type": "lastseen.session.touched.v1",
        "subject": "irc:#ubuntu:ana",
        "time": TIME,
        "datacontenttype": "application/json",
        "data": {"session_id": SESSION_ID},
    }
    return plain | changes


def as_bytes(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")


def assert_agrees(value: bytes) -> bool:
    """Whether the shortcut took `value`; fails where the models would have decided otherwise."""
    shortcut = plain_touch.read(value)
    if shortcut is None:
        return False
    event, sent_at_ms = shortcut
    by_model = codec.decode_by_model(event.subject, value)
    assert not isinstance(by_model, Verdict), (by_model, value)
    assert by_model == (event, sent_at_ms), value
    assert type(by_model[0]) is type(event) is events.Touched
    assert type(by_model[0].data) is type(event.data) is events.TouchedData
    for name in event.__dataclass_fields__:
        assert type(getattr(event, name)) is type(getattr(by_model[0], name)), name
    return True


PLAIN = as_bytes(touch())

TAKEN = {
    "as encode writes it": PLAIN,
    "other text than ASCII": as_bytes(touch(subject="Zoë·雪")),
    "raw UTF-8": json.dumps(touch(subject="Zoë·雪"), ensure_ascii=False, separators=(",", ":")).encode(),
    "whitespace between tokens": b" \n" + PLAIN.replace(b'",', b'"\t,\r\n '),
    "surrogate pair": PLAIN.replace(b"irc:", b"\\ud83d\\ude00"),
    "escaped quote": as_bytes(touch(subject='a"b\\c/d')),
    "key of 512 characters": as_bytes(touch(subject="k" * 512)),
    "same key twice": PLAIN.replace(b'"id":"0190-e"', b'"id":"first","id":"second"'),
    "data twice": PLAIN.replace(b'"data":', b'"data":{"session_id":"BBBBBBBBBBBBBBBBBBBBBB"},"data":'),
}

LEFT_TO_THE_MODELS = {
    "whitespace between tokens": json.dumps(touch(), indent=2).encode(),
    "if_version null": as_bytes(touch(data={"session_id": SESSION_ID, "if_version": None})),
    "at a version": as_bytes(touch(data={"session_id": SESSION_ID, "if_version": 7})),
    "key of 513 characters": as_bytes(touch(subject="k" * 513)),
    "empty key": as_bytes(touch(subject="")),
    "control character": as_bytes(touch(subject="a\u0007b")),
    "C1 control character": as_bytes(touch(subject="a\u0085b")),
    "no-break space": as_bytes(touch(subject="a\u00a0b")),
    "empty id": as_bytes(touch(id="")),
    "id of 129 characters": as_bytes(touch(id="i" * 129)),
    "source of 257 characters": as_bytes(touch(source="s" * 257)),
    "session id of 21 characters": as_bytes(touch(data={"session_id": "A" * 21})),
    "session id of 23 characters": as_bytes(touch(data={"session_id": "A" * 23})),
    "session id with an escape": PLAIN.replace(b"AAAAAAA", b"A\\u0041", 1),
    "touched in data's place": b'{"x":[' + PLAIN[1:-2] + b"}]}",
    "session id of 129 characters": as_bytes(touch(data={"session_id": "A" * 129})),
    "session id with a newline": as_bytes(touch(data={"session_id": SESSION_ID + "\n"})),
    "session id of other letters": as_bytes(touch(data={"session_id": "é" * 22})),
    "unknown field": as_bytes(touch(traceparent="00-1")),
    "unknown field of data": as_bytes(touch(data={"session_id": SESSION_ID, "x": 1})),
    "message": as_bytes(touch(data={"session_id": SESSION_ID, "message": "hello"})),
    "attributes": as_bytes(touch(data={"session_id": SESSION_ID, "attributes": {}})),
    "policy": as_bytes(touch(data={"session_id": SESSION_ID, "policy": {}})),
    "negative version": as_bytes(touch(data={"session_id": SESSION_ID, "if_version": -1})),
    "version beyond 2^53": as_bytes(touch(data={"session_id": SESSION_ID, "if_version": 2**53})),
    "version of 400 digits": PLAIN.replace(b'"}}', b'","if_version":' + b"9" * 400 + b"}}"),
    "version as float": as_bytes(touch(data={"session_id": SESSION_ID, "if_version": 1.0})),
    "version as bool": as_bytes(touch(data={"session_id": SESSION_ID, "if_version": True})),
    "version as text": as_bytes(touch(data={"session_id": SESSION_ID, "if_version": "1"})),
    "no datacontenttype": as_bytes({k: v for k, v in touch().items() if k != "datacontenttype"}),
    "no type": as_bytes({k: v for k, v in touch().items() if k != "type"} | {"x": ".touched.v1"}),
    "type within an unknown field": as_bytes(touch(type=None, x="lastseen.session.touched.v1")),
    "another type twice": PLAIN.replace(b'"type":', b'"type":"lastseen.session.closed.v1","type":'),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "UTF-16": PLAIN.decode().encode("utf-16"),
    "lone surrogate": PLAIN.replace(b"irc:", b"\\ud83d"),
    "raw lone surrogate": PLAIN.replace(b"irc:", b"\xed\xa0\x80"),
    "overlong UTF-8": PLAIN.replace(b"irc:", b"\xc0\xaf"),
    "trailing comma": PLAIN.replace(b'"}}', b'",}}'),
    "trailing rubbish": PLAIN + b"x",
    "two events": PLAIN + PLAIN,
    "NUL at the end": PLAIN + b"\0",
    "list": b"[" + PLAIN + b"]",
    "cut short": PLAIN[:-1],
    "raw newline in text": PLAIN.replace(b"irc:", b"a\n"),
    "week date": as_bytes(touch(time="2024-W01-1T12:00:05.678Z")),
    "lower case z": as_bytes(touch(time=TIME.replace("Z", "z"))),
    "lower case t": as_bytes(touch(time=TIME.replace("T", "t"))),
    "24:00": as_bytes(touch(time="2026-01-31T24:00:00.000Z")),
    "leap second": as_bytes(touch(time="2026-01-31T23:59:60.000Z")),
    "31st of February": as_bytes(touch(time="2026-02-31T12:00:00.000Z")),
    "year 0": as_bytes(touch(time="0000-01-01T12:00:00.000Z")),
    "seconds only": as_bytes(touch(time="2026-01-31T12:00:05Z")),
    "microseconds": as_bytes(touch(time="2026-01-31T12:00:05.678901Z")),
    "offset": as_bytes(touch(time="2026-01-31T12:00:05.678+00:00")),
    "no offset": as_bytes(touch(time="2026-01-31T12:00:05.678")),
    "comma for a point": as_bytes(touch(time="2026-01-31T12:00:05,678Z")),
    "digits of another script": as_bytes(touch(time="2026-01-31T12:00:0٥.678Z")),
    "fraction of another script": as_bytes(touch(time="2026-01-31T12:00:05.67٨Z")),
    "time as number": as_bytes(touch(time=1_700_000_000_000)),
}


@pytest.mark.parametrize("value", TAKEN.values(), ids=TAKEN)
def test_the_shortcut_takes_a_plain_touch_as_the_models_would(value: bytes) -> None:
    assert assert_agrees(value)


@pytest.mark.parametrize("value", LEFT_TO_THE_MODELS.values(), ids=LEFT_TO_THE_MODELS)
def test_the_shortcut_leaves_everything_unusual_to_the_models(value: bytes) -> None:
    assert plain_touch.read(value) is None


def test_what_the_shortcut_leaves_is_decoded_all_the_same() -> None:
    value = LEFT_TO_THE_MODELS["no-break space"]
    decoded = codec.decode("a\u00a0b", value)
    assert not isinstance(decoded, Verdict)
    assert decoded[0].subject == "a\u00a0b"


def test_the_shortcut_checks_the_record_key_too() -> None:
    assert codec.decode("irc:#ubuntu:ana", PLAIN) != Verdict.MALFORMED
    assert codec.decode("irc:#ubuntu:bob", PLAIN) is Verdict.MALFORMED
    assert codec.decode(None, PLAIN) is Verdict.MALFORMED


def test_the_memory_of_seconds_is_bounded_and_right_beyond_its_bound() -> None:
    for second in range(10_000):
        time = (
            f"2026-03-{1 + second // 3600:02d}T{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}.042Z"
        )
        assert assert_agrees(as_bytes(touch(time=time)))
        assert len(plain_touch._second_ms) <= plain_touch._REMEMBERED_SECONDS


ODD_CHARACTERS = st.sampled_from('"\\\x00\x1f \x7f\x80\x9f\u00a0\u00ad\u2028\ufeff\U0001f600é{}')
TEXT = st.text(st.characters(codec="utf-8") | ODD_CHARACTERS, max_size=40)
TIMES = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
    st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{2,4}[Zz+]", fullmatch=True),
    st.sampled_from([TIME, "2024-W01-1T12:00:00.000Z", "2024-01-01 12:00:00.000Z"]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(0, 9), st.integers(2**53 - 2, 2**53 + 2), st.floats(), TEXT
)
DATA = st.fixed_dictionaries(
    {"session_id": st.from_regex(r"[A-Za-z0-9_-]{21,24}\n?", fullmatch=True)},
    optional={"if_version": SCALARS, "attributes": st.none(), "extra": SCALARS},
)
# What ends as a plain touch ends, so that more than the first look is tried.
PLAIN_DATA = st.fixed_dictionaries({"session_id": st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True)})
ENVELOPES = st.fixed_dictionaries(
    {
        "specversion": st.just("1.0"),
        "id": TEXT,
        "source": TEXT,
        "type": st.just("lastseen.session.touched.v1"),
        "subject": TEXT,
        "time": TIMES,
        "datacontenttype": st.just("application/json") | st.none(),
        "data": PLAIN_DATA | DATA,
    }
)


@given(ENVELOPES, st.booleans())
@settings(max_examples=400)
def test_they_agree_on_touches_of_every_content(envelope: dict[str, Any], ascii_only: bool) -> None:
    assert_agrees(json.dumps(envelope, ensure_ascii=ascii_only, separators=(",", ":")).encode("utf-8", "surrogatepass"))


PIECES = st.sampled_from(
    [
        b'"id":"x",',
        b'"id":null,',
        b'"data":{},',
        b'"type":"t",',
        b"\\u0000",
        b"\\ud800",
        b"\xff",
        b" ",
        b"\n",
        b"1e5",
        b",",
    ]
)


@given(
    st.sampled_from([*TAKEN.values()]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), PIECES | st.binary(max_size=3)), max_size=3),
)
@settings(max_examples=500)
def test_they_agree_on_mutilated_touches(value: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for start, length, piece in cuts:
        start %= len(value)
        value = value[:start] + piece + value[start + length :]
    assert_agrees(value)


@given(st.data())
@settings(max_examples=200)
def test_they_agree_on_fields_repeated_in_any_order(data: st.DataObject) -> None:
    members = [(name, json.dumps(value)) for name, value in touch().items()]
    members += data.draw(
        st.lists(st.tuples(st.sampled_from([name for name, _ in members]), SCALARS.map(json.dumps)), max_size=2)
    )
    plain_end = ("data", as_bytes(touch()["data"]).decode())
    members = [*data.draw(st.permutations(members)), plain_end]
    value = "{" + ",".join(f'"{name}":{text}' for name, text in members) + "}"
    assert_agrees(value.encode("utf-8", "surrogatepass"))
