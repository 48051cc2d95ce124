"""What a partition remembers of the ended, what the digest takes in, and records that are none of ours."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest

from lastseen.engine import codec
from lastseen.engine.lifecycle import REMEMBERED_ENDINGS
from lastseen.engine.log.port import Record
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import EMPTY_DIGEST, Endings, Partition
from tests.specs.given import KEY, A, B, given, sid


def test_the_last_65536_endings_are_remembered_and_no_more() -> None:
    assert REMEMBERED_ENDINGS == 65_536
    history = given().created(A).closed()
    for number in range(65_535):
        history.partition.endings.add(sid(1000 + number))
    history.touched().then(Verdict.ENDED).created(A).then(Verdict.ID_REUSED)
    history.created(B).closed().then()
    history.of(A).touched().then(Verdict.NO_SESSION)
    history.of(B).touched().then(Verdict.ENDED)
    assert history.partition.endings.total == 65_537


def test_endings_stand_in_their_order_and_survive_a_copy() -> None:
    endings = Endings()
    for number in range(5):
        endings.add(sid(number))
    assert endings.newest(2) == [sid(3), sid(4)]
    assert endings.newest(99) == [sid(number) for number in range(5)]
    copy = Endings(endings.newest(99))
    assert sid(0) in copy
    assert sid(9) not in copy


# ── the digest ──


def record(**changes: object) -> Record:
    value = given().created(A).outcome.record
    return value._replace(**changes)


def digest_of(*records: Record) -> bytes:
    partition = Partition(0)
    for each in records:
        partition.fold(each)
    return partition.digest


def test_the_same_records_give_the_same_digest() -> None:
    assert digest_of(record()) == digest_of(record())
    assert digest_of() == EMPTY_DIGEST


def test_the_digest_is_a_chain_of_hashes_over_place_time_verdict_and_bytes() -> None:
    """Snapshots hold digests, so this is a format like any other."""
    history = given().created(A).recorded(b"rubbish").at(10).touched(if_version=9).touched(sent_ms=10**7)
    digest = bytes(32)
    for outcome in history.outcomes:
        place = struct.pack(">QqB", outcome.record.offset, outcome.at_ms, outcome.verdict.value)
        digest = hashlib.sha256(digest + place + (outcome.record.value or b"")).digest()
    assert [outcome.verdict.value for outcome in history.outcomes] == [0, 3, 10, 6]
    assert history.partition.digest == digest


def test_the_digest_feels_the_offset_the_bytes_the_time_and_the_verdict() -> None:
    original = record()
    assert original.value is not None
    others = [
        original._replace(offset=1),
        original._replace(value=original.value + b" "),
        original._replace(timestamp_ms=original.timestamp_ms + 1),
        original._replace(key="other"),  # void, so another verdict
    ]
    digests = {digest_of(each) for each in (original, *others)}
    assert len(digests) == 5


def test_the_digest_feels_the_order_and_a_record_left_out() -> None:
    first, second = (outcome.record for outcome in given().created(A).touched().outcomes)
    assert len({digest_of(first, second), digest_of(second, first), digest_of(first), digest_of(second)}) == 4


def test_the_digest_of_a_void_record_differs_from_none() -> None:
    assert given().recorded(b"rubbish").partition.digest != EMPTY_DIGEST


# ── records that are none of ours ──


def poison() -> dict[str, bytes | None]:
    touch = json.loads(given().of(A).touched().outcome.record.value or b"")

    def changed(**changes: object) -> bytes:
        return json.dumps({k: v for k, v in (touch | changes).items() if v is not ...}).encode()

    return {
        "null": None,
        "empty": b"",
        "text": b"hello",
        "NUL": b"\0" * 100,
        "cut": changed()[:-1],
        "list": b"[]",
        "number": b"7",
        "no specversion": changed(specversion=...),
        "specversion of another": changed(specversion="0.3"),
        "specversion is null": changed(specversion=None),
        "NaN in an unknown field": changed(traceparent=float("nan")),
        "no type": changed(type=...),
        "empty type": changed(type=""),
        "type is a list": changed(type=["lastseen.session.touched.v1"]),
        "no id": changed(id=...),
        "no source": changed(source=...),
        "no subject": changed(subject=...),
        "another subject": changed(subject="bob"),
        "no time": changed(time=...),
        "31st of February": changed(time="2026-02-31T00:00:00.000Z"),
        "no data": changed(data=...),
        "data is null": changed(data=None),
        "data of another type": changed(data=[]),
        "XML": changed(datacontenttype="application/xml"),
        "short session id": changed(data={"session_id": "x"}),
        "session id is a number": changed(data={"session_id": 10**22}),
        "version is text": changed(data={"session_id": A, "if_version": "1"}),
        "version is true": changed(data={"session_id": A, "if_version": True}),
        "negative version": changed(data={"session_id": A, "if_version": -1}),
        "deep": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        "large": b" " * (128 * 1024) + changed(),
        "NaN": changed(data={"session_id": A, "message": float("nan")}),
        "infinite": changed(data={"session_id": A, "attributes": {"x": float("inf")}}),
        "large attributes": changed(data={"session_id": A, "attributes": {"x": "y" * 16_384}}),
        "large message": changed(data={"session_id": A, "message": "y" * 65_536}),
        "policy of zero": changed(data={"session_id": A, "policy": {"idle_ttl_ms": 0}}),
        "negative policy": changed(data={"session_id": A, "policy": {"max_age_ms": -1}}),
    }


@pytest.mark.parametrize("name", poison())
def test_poison_is_malformed_and_harmless(name: str) -> None:
    history = given().created(A).when.recorded(poison()[name]).then(Verdict.MALFORMED).nothing_changed()
    assert history.outcome.event is None
    history.of(A).touched().then().is_live(A, version=2)


def test_a_record_without_a_key_is_malformed() -> None:
    given().recorded(record().value, key=None).then(Verdict.MALFORMED)


@pytest.mark.parametrize("kind", ["lastseen.session.touched.v2", "com.example.other", "lastseen.session.renamed.v1"])
def test_a_foreign_type_is_unknown_and_harmless(kind: str) -> None:
    value = (record().value or b"").replace(b"lastseen.session.created.v1", kind.encode())
    given().created(A).when.recorded(value).then(Verdict.UNKNOWN_TYPE).nothing_changed()


def test_just_within_the_bounds() -> None:
    given().created(A, attributes={"x": "y" * (16_384 - len('{"x":""}'))}).then()
    given().created(A).touched(message="y" * (65_536 - 2)).then()
    nested: object = 1
    for _ in range(16):
        nested = [nested]
    given().created(A).touched(message=nested).then()
    value = codec.encode(given().created(A).touched(message=nested).outcome.event)  # type: ignore[arg-type]
    deeper = value.replace(b"[1]", b"[[1]]")
    given().created(A).recorded(deeper, KEY).then(Verdict.MALFORMED)
