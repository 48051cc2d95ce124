"""A record in the wrong partition for its key is void, whatever else it is, and changes nothing."""

from __future__ import annotations

import pytest
from given import EPOCH_MS, KEY, MIN, B, sid

from lastseen.engine import codec, events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.genesis import SUBJECT, genesis, genesis_records
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition

PARTITIONS = 3
HOME = partition_of(KEY, PARTITIONS)
AWAY = (HOME + 1) % PARTITIONS


def partition(number: int, partitions: int = PARTITIONS) -> Partition:
    """A partition of a log that has just been made."""
    made = Partition(number)
    first = genesis_records("log", partitions, EPOCH_MS)[number]
    assert made.fold(Record(number, 0, EPOCH_MS, first.key, first.value)).verdict is Verdict.APPLIED
    return made


def fold(to: Partition, value: bytes | None, key: str | None = KEY, *, at_ms: int = EPOCH_MS, mark: Mark | None = None
) -> Outcome:  # fmt: skip
    return to.fold(Record(to.number, to.checkpoint, at_ms, key, value, mark))


def created(session_id: str = B, *, sent_ms: int = EPOCH_MS, key: str = KEY) -> bytes:
    data = events.CreatedData(session_id=session_id, policy=Policy(idle_ttl_ms=MIN))
    time = iso_from_ms(sent_ms)
    return codec.encode(events.Created(id=f"created-{session_id}", source="/test", subject=key, time=time, data=data))


def touched(session_id: str = B) -> bytes:
    time = iso_from_ms(EPOCH_MS)
    return envelope("lastseen.session.touched.v1", "touch", "/test", KEY, time, {"session_id": session_id})


FOREIGN_TYPE = envelope("com.example.order.v1", "order", "/test", KEY, iso_from_ms(EPOCH_MS), {})


def test_it_is_void_and_changes_nothing() -> None:
    home, away = partition(HOME), partition(AWAY)
    assert fold(home, created()).verdict is Verdict.APPLIED
    for value in (created(sid(7)), touched(), touched(sid(9))):
        outcome = fold(away, value, at_ms=EPOCH_MS + MIN // 2)
        assert outcome.verdict is Verdict.WRONG_PARTITION
        assert outcome[4:] == (None, None, None)
    assert (len(home), len(away)) == (1, 0)
    assert not away.is_known(sid(7)), "its id may still be used"
    assert away.log_time_ms == 0, "its time counts for nothing"
    assert away.checkpoint == 4


@pytest.mark.parametrize(
    ("value", "mark", "verdict"),
    [
        (None, Mark.CONTROL, Verdict.CONTROL),
        (created(), Mark.TRANSACTIONAL, Verdict.TRANSACTIONAL),
        (b"rubbish", None, Verdict.MALFORMED),
        (FOREIGN_TYPE, None, Verdict.WRONG_PARTITION),
        (created(sent_ms=EPOCH_MS - 60 * MIN), None, Verdict.WRONG_PARTITION),
        (created(), None, Verdict.WRONG_PARTITION),
    ],
)
def test_it_is_the_fourth_check(value: bytes | None, mark: Mark | None, verdict: Verdict) -> None:
    assert fold(partition(AWAY), value, mark=mark).verdict is verdict
    if verdict is Verdict.WRONG_PARTITION:
        assert fold(partition(HOME), value).verdict is not verdict


def test_records_about_the_log_belong_to_every_partition() -> None:
    again = genesis("log", AWAY, PARTITIONS, EPOCH_MS, source="/test", event_id="again")
    later = envelope("lastseen.log.later.v1", "later", "/test", SUBJECT, iso_from_ms(EPOCH_MS), {})
    for number in range(PARTITIONS):
        to = partition(number)
        assert fold(to, again.value, SUBJECT).verdict is Verdict.ALREADY
        assert fold(to, later, SUBJECT).verdict is Verdict.UNKNOWN_TYPE


def test_one_partition_holds_every_key_and_so_does_a_log_of_format_1() -> None:
    assert fold(partition(0, 1), created()).verdict is Verdict.APPLIED
    assert fold(Partition(AWAY), created()).verdict is Verdict.APPLIED


def test_a_key_of_any_characters_is_judged() -> None:
    value = envelope("com.example.order.v1", "order", "/test", "x", iso_from_ms(EPOCH_MS), {})
    found = {fold(partition(number), value, "\ud800").verdict for number in range(PARTITIONS)}
    assert found == {Verdict.WRONG_PARTITION, Verdict.UNKNOWN_TYPE}
