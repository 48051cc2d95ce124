"""Any program may write anything to the topic: each record gets its verdict, and nothing stops."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

import lastseen
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.genesis import SOURCE
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome
from tests.kafka.kafka_topics import eventually, new_url, write_foreign
from tests.kafka.published import checkpoints_of, facts_due, facts_in, live_in, names, refold, states_in
from tests.kafka_fixtures import SharedBroker

PARTITIONS = 3
MAX_MESSAGE_BYTES = 1_048_588
SEED = 20_261_121


class Poison(NamedTuple):
    """A record that has no effect, and what is to be said of it."""

    name: str
    key: bytes | None
    value: bytes | None
    verdict: Verdict


def event(kind: str = "touched", subject: Any = "poison", age_ms: int = 0, published: Any = None, **more: Any) -> bytes:
    """A well-formed event, but for what is said otherwise."""
    envelope = {
        "specversion": "1.0", "id": "poison-1", "source": "/elsewhere", "type": f"lastseen.session.{kind}.v1",
        "subject": subject, "time": iso_from_ms(SystemClock().now_ms() - age_ms),
        "data": {"session_id": "s" * 22} if published is None else published,
    }  # fmt: skip
    return json.dumps(envelope | more).encode()


def malformed() -> Iterator[tuple[str, bytes | None, bytes | None]]:
    """What is no event of ours."""
    chance = random.Random(SEED)
    for number in range(200):
        yield f"random bytes {number}", b"poison", chance.randbytes(chance.randrange(1, 400))
        yield f"random key {number}", b"\xff" + chance.randbytes(8), event()
    for text in (b"", b"{", b"[]", b'"text"', b"null", b"12", b"{}", b"[" * 5_000, b'{"a":' * 5_000, b"\xef\xbb\xbf{}"):
        yield f"wrong JSON {text[:8]!r}", b"poison", text
    cut = event()
    for length in range(1, len(cut), 7):
        yield f"cut at {length}", b"poison", cut[:length]
    for wrong in (None, 7, [], {}, "x" * 513, "", "new\nline", "other"):
        yield f"subject {str(wrong)[:8]!r}", b"poison", event(subject=wrong)
    for wrong in (None, 7, "", "yesterday", "2026-02-31T00:00:00Z", "2026-01-01T00:00:00"):
        yield f"time {wrong!r}", b"poison", event(time=wrong)
    for published in (
        [],
        "x",
        7,
        {},
        {"session_id": 7},
        {"session_id": "short"},
        {"session_id": "s" * 22, "if_version": "1"},
    ):
        yield f"data {published!r}", b"poison", event(published=published)
    for wrong in ("30m", 0, -1, 2**70, 1.5, True):
        limits = {"session_id": "s" * 22, "policy": {"idle_ttl_ms": wrong}}
        yield f"limit {wrong!r}", b"poison", event("created", published=limits)
    for specversion in (None, 1, "0.3", "2.0"):
        yield f"specversion {specversion!r}", b"poison", event(specversion=specversion)
    for size in (130 * 1024, 512 * 1024, MAX_MESSAGE_BYTES - 200):
        yield f"{size} bytes of rubbish", b"poison", b"x" * size
        padded = event()
        yield f"an event of {size} bytes", b"poison", padded + b" " * (size - len(padded))
    yield "no value", b"poison", None
    yield "no key", None, event()
    yield "neither", None, None
    yield "a key that is no UTF-8", "poison".encode("utf-16"), event()
    yield "an empty key", b"", event()
    yield "a surrogate as key", b"\xed\xa0\x80", event(subject="\ud800")
    yield "a key of a megabyte", b"k" * 1_000_000, event()


OPENS = {"log_id": "another", "partition": 0, "partitions": 1, "imports": True}


def poisons() -> list[Poison]:
    """Everything that others might write."""
    found = [Poison(*each, Verdict.MALFORMED) for each in malformed()]
    hour_ms = 3_600_000
    found += [
        Poison("a foreign type", b"poison", event(type="com.example.order.v1"), Verdict.UNKNOWN_TYPE),
        Poison("a newer version", b"poison", event(type="lastseen.session.touched.v2"), Verdict.UNKNOWN_TYPE),
        Poison("long ago", b"poison", event(age_ms=hour_ms), Verdict.CLOCK_SKEW),
        Poison("in the future", b"poison", event(age_ms=-hour_ms), Verdict.CLOCK_SKEW),
        Poison("no session there", b"poison", event(), Verdict.NO_SESSION),
        Poison("an import", b"$import", event(type="lastseen.log.opened.v1", subject="$import", published=OPENS),
               Verdict.ALREADY),
    ]  # fmt: skip
    return found


def use(engine: lastseen.Engine, turn: int) -> None:
    """Some life between the poison."""
    engine.open("ana")
    engine.touch("ana", message=turn)
    engine.open(f"key-{turn}", policy=lastseen.policy(idle_ttl="1s"))
    engine.open("ben")
    engine.close("ben")


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4"])
def test_poison_is_counted_and_nothing_stops(kafka_broker: SharedBroker, compression: str) -> None:
    url = new_url(kafka_broker.address, PARTITIONS, max_message_bytes=MAX_MESSAGE_BYTES)
    with ExitStack() as opened:
        engines = [opened.enter_context(lastseen.open_engine(url)) for _ in range(2)]
        use(engines[0], 0)
        engines[0].touch_many(["ana"])
        number = engines[0]._views.partition_of("poison").number
        sent = poisons()
        for turn in range(0, len(sent), 50):
            some = [(each.key, each.value) for each in sent[turn : turn + 50]]
            settings = {"message.max.bytes": 2 * MAX_MESSAGE_BYTES, "compression.type": compression}
            write_foreign(url, some, number, **settings)
            use(engines[1], turn + 1)
        late = lastseen.open_engine(url, facts=False, prune=False)
        opened.enter_context(late)
        assert eventually(lambda: all(engine.count() == 1 for engine in engines)), "what is due is announced"
        check(url, number, sent, [*engines, late])


def check(url: str, number: int, sent: list[Poison], engines: list[lastseen.Engine]) -> None:
    """Every record has its verdict, all engines agree, and what took effect was published."""
    verdicts: list[Verdict] = []
    other: Counter[Verdict] = Counter()

    def see(outcome: Outcome) -> None:
        event = outcome.event
        is_ours = event is not None and event.source in ("/lastseen", SOURCE)
        if is_ours or outcome.record.partition != number:
            other[outcome.verdict] += 1
        else:
            verdicts.append(outcome.verdict)

    partitions = refold(url, see)
    assert [(p.name, v) for p, v in zip(sent, verdicts, strict=True) if p.verdict is not v] == []
    wanted = Counter(verdict.label for verdict in verdicts) + Counter({v.label: n for v, n in other.items() if v})
    for engine in engines:
        assert eventually(lambda engine=engine: engine.checkpoints() == checkpoints_of(partitions))
        assert engine.statistics()["void"] == wanted
        assert engine.health() == {}
        assert set(live_in(engine)) == {"ana"}
    expected = facts_due(url)
    assert eventually(lambda: names(facts_in(url)) == expected)
    assert eventually(lambda: states_in(url) == live_in(engines[0]))
