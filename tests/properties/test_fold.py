"""The promises of DESIGN section 1 and the consequences at the end of section 4, over random histories."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.engine import lifecycle, plain_touch
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import decode
from lastseen.engine.events import SESSION_EVENTS, TIMED_REASONS, Expired, Held, Opened, Touched, name_of
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.session import Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition
from tests.properties.histories import EPOCH_MS, KEYS, ROTTEN, WrittenRecord, history
from tests.properties.naive import NaiveFold

SEEDS = st.integers(0, 2**48)
LENGTHS = st.integers(1, 80)
MAX_TIMESTAMP_MS = 2**62


def record(written: WrittenRecord, offset: int | None = None) -> Record:
    return Record(
        0, written.offset if offset is None else offset, written.timestamp_ms, written.key, written.value, written.mark
    )


def folded(records: list[Record]) -> tuple[Partition, list[Outcome]]:
    partition = Partition(0)
    return partition, [partition.fold(each) for each in records]


def fields(session: Session) -> dict[str, Any]:
    policy = {name: getattr(session.policy, name) for name in session.policy.__dataclass_fields__}
    return {
        "key": session.key, "id": session.session_id, "policy": policy, "created": session.created_at_ms,
        "born": session.born_offset, "last_active": session.last_active_at_ms,
        "last_offset": session.last_active_offset, "version": session.version,
        "suspended_at": session.suspended_at_ms, "suspended": session.suspended_ms,
        "leases": dict(session.leases or {}), "owner": session.owner, "ended": None,
    }  # fmt: skip


def live(partition: Partition) -> dict[str, dict[str, Any]]:
    return {s.key: fields(s) for s in (*partition.active.values(), *partition.suspended.values())}


def without(state: dict[str, dict[str, Any]], *names: str) -> dict[str, dict[str, Any]]:
    return {key: {n: v for n, v in session.items() if n not in names} for key, session in state.items()}


def assert_same(partition: Partition, naive: NaiveFold) -> None:
    expected = naive.live()
    assert live(partition) == expected
    assert partition.endings.newest(10**6) == naive.endings
    assert partition.importing == naive.importing
    # The indexes say what a scan says.
    active = sorted((s for s in expected.values() if s["suspended_at"] is None), key=lambda s: s["last_offset"])
    assert list(partition.active) == [s["key"] for s in active]
    assert set(partition.suspended) == {key for key, s in expected.items() if s["suspended_at"] is not None}
    assert {i: s.key for i, s in partition.by_id.items()} == {s["id"]: s["key"] for s in expected.values()}
    owners = {(owner, key) for owner, keys in partition.by_owner.items() for key in keys}
    assert owners == {(s["owner"], s["key"]) for s in expected.values() if s["owner"] is not None}
    assert all(partition.by_owner.values())
    for session in partition.by_id.values():
        due = naive.deadline(expected[session.key])
        assert (session.deadline_ms(), session.deadline_reason()) == (due or (None, None))


def run_beside_the_naive_model(histories: list[WrittenRecord]) -> Counter[Verdict]:
    partition, naive = Partition(0), NaiveFold()
    reached: Counter[Verdict] = Counter()
    for written in histories:
        ended_before = len(naive.endings)
        expected = naive.take(written.offset, written.timestamp_ms, written.event)
        outcome = partition.fold(record(written))
        assert outcome.verdict.label == expected, written
        assert_same(partition, naive)
        endings = [s for s in naive.sessions if s["id"] in naive.endings[ended_before:]]
        if endings and outcome.ending is not None and outcome.ended is not None:
            # A record may settle one session only, since it addresses one key, and end only whom it has not settled.
            (ended,) = endings
            reported = {"reason": outcome.ending.reason, "at": outcome.ending.at_ms, "offset": outcome.ending.offset}
            assert (outcome.ended.session_id, outcome.ended.version) == (ended["id"], ended["version"])
            assert reported == ended["ended"]
        else:
            assert (endings, outcome.ending, outcome.ended) == ([], None, None)
        if outcome.verdict is Verdict.APPLIED and isinstance(outcome.event, SESSION_EVENTS):
            assert outcome.session is partition.find(outcome.event.subject)
        reached[outcome.verdict] += 1
    now_ms = max(written.timestamp_ms for written in histories)
    for later_ms in (0, 900, 60_000, 3_600_000, 40 * 86_400_000):
        assert_due_agrees(partition, naive, now_ms + later_ms)
    return reached


def assert_due_agrees(partition: Partition, naive: NaiveFold, now_ms: int) -> None:
    deadlines = {s["id"]: due[0] for s in naive.live().values() if (due := naive.deadline(s)) is not None}
    due = sorted(at_ms for at_ms in deadlines.values() if at_ms <= now_ms)
    next_ms = partition.deadlines.next_ms()
    assert not deadlines or (next_ms is not None and next_ms <= min(deadlines.values()))
    found = partition.deadlines.due(now_ms, 100)
    assert [deadlines[session.session_id] for session in found] == due


# ── one fold, twice written ──


@given(SEEDS, LENGTHS)
@settings(max_examples=400)
def test_the_fold_agrees_with_the_naive_model_after_every_record(seed: int, length: int) -> None:
    run_beside_the_naive_model(history(seed, length))


def test_every_verdict_is_reached() -> None:
    reached: Counter[Verdict] = Counter()
    shortcuts = 0
    for seed in range(250):
        reached += run_beside_the_naive_model(history(seed))
        shortcuts += sum(plain_touch.read(written.value or b"") is not None for written in history(seed))
    assert shortcuts > 1_000, "the shortcut for plain touches is hardly tried"
    # These histories are of logs with one partition: the simulation and a spec have others.
    assert {verdict.label for verdict in Verdict if not reached[verdict]} == {"wrong_partition"}, reached


def test_the_shortcut_for_touches_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plainly, went = lifecycle.touch_plainly, Counter[bool]()

    def counted(session: Session, event: Touched, at_ms: int, offset: int) -> bool:
        short = plainly(session, event, at_ms, offset)
        went[short] += 1
        return short

    for seed in range(150):
        short, long = Partition(0), Partition(0)
        for written in history(seed):
            monkeypatch.setattr(lifecycle, "touch_plainly", counted)
            outcome = short.fold(record(written))
            monkeypatch.setattr(lifecycle, "touch_plainly", lambda *_: False)
            expected = long.fold(record(written))
            assert (outcome[2:4], outcome.ending) == (expected[2:4], expected.ending)
            assert (live(short), list(short.active), short.digest) == (live(long), list(long.active), long.digest)
    assert went[True] > 500, "the shortcut is hardly tried"
    assert went[False] > 200, "the shortcut is hardly refused"


@given(SEEDS, LENGTHS)
def test_what_is_decided_beforehand_is_what_the_fold_says(seed: int, length: int) -> None:
    partition = Partition(0)
    for written in history(seed, length):
        decoded = decode(written.key, written.value)
        decided, at_ms = None, written.timestamp_ms
        if written.mark is None and not isinstance(decoded, Verdict) and isinstance(decoded[0], SESSION_EVENTS):
            at_ms = decoded[1] if partition.importing else written.timestamp_ms
            before = live(partition)
            decided = lifecycle.decide(decoded[0], partition.find(decoded[0].subject), at_ms, partition)
            assert live(partition) == before
        outcome = partition.fold(record(written))
        if decided is not None and outcome.verdict is not Verdict.CLOCK_SKEW:
            assert (decided, at_ms) == (outcome.verdict, outcome.at_ms)


# ── promises ──


@given(SEEDS, LENGTHS)
def test_a_session_ends_at_most_once_and_never_comes_back(seed: int, length: int) -> None:
    partition = Partition(0)
    ended: set[str] = set()
    for written in history(seed, length):
        outcome = partition.fold(record(written))
        if outcome.ended is not None:
            assert outcome.ended.session_id not in ended
            ended.add(outcome.ended.session_id)
        assert outcome.session is None or outcome.session.session_id not in ended
        assert not ended & set(partition.by_id)


@given(SEEDS, LENGTHS)
def test_a_live_session_is_never_ended_early_and_a_due_one_never_seen_alive(seed: int, length: int) -> None:
    partition, naive = Partition(0), NaiveFold()
    for written in history(seed, length):
        before = {key: (s["id"], naive.deadline(s)) for key, s in naive.live().items()}
        naive.take(written.offset, written.timestamp_ms, written.event)
        outcome = partition.fold(record(written))
        if outcome.event is None or outcome.verdict is Verdict.CLOCK_SKEW:
            assert outcome.ended is None
            continue
        session_id, due = before.get(outcome.event.subject, (None, None))
        if due is not None and due[0] <= outcome.at_ms and isinstance(outcome.event, SESSION_EVENTS):
            assert outcome.ended is not None
            assert outcome.ending is not None
            assert (outcome.ended.session_id, outcome.ending.at_ms, outcome.ending.reason) == (session_id, *due)
            assert outcome.session is None or outcome.session.session_id != session_id
        elif outcome.ending is not None:
            assert outcome.ending.reason not in TIMED_REASONS
            assert outcome.verdict is Verdict.APPLIED


@given(SEEDS, LENGTHS)
def test_the_same_prefix_gives_the_same_digest_and_state(seed: int, length: int) -> None:
    one, other = Partition(0), Partition(0)
    seen = {one.digest}
    for written in history(seed, length):
        first, second = one.fold(record(written)), other.fold(record(written))
        assert (first.verdict, first.at_ms, first.ending) == (second.verdict, second.at_ms, second.ending)
        assert (one.digest, one.checkpoint, live(one)) == (other.digest, other.checkpoint, live(other))
        assert one.digest not in seen
        seen.add(one.digest)


@given(SEEDS, st.integers(0, 59), st.integers(0, 3))
def test_one_changed_record_changes_the_digest_permanently(seed: int, place: int, change: int) -> None:
    records = [record(written) for written in history(seed)]
    changed = list(records)
    old = records[place]
    changed[place] = [
        old._replace(value=(old.value or b"") + b" "),
        old._replace(value=b"x"),
        old._replace(timestamp_ms=old.timestamp_ms + 700_000),
        old._replace(key=f"{old.key}!"),
    ][change]
    one, other = Partition(0), Partition(0)
    for a, b in zip(records, changed, strict=True):
        first, second = one.fold(a), other.fold(b)
        if a.offset < place:
            assert one.digest == other.digest
        elif a.offset == place and (a.value or b"") == (b.value or b"") and first[2:4] == second[2:4]:
            return  # it was still void for its form: no reader can tell, and nothing differs
        else:
            assert one.digest != other.digest


# ── consequences ──


def timed(session_id: str, key: str, sent_ms: int, reason: str = "idle", at: int = 0) -> bytes:
    return json.dumps(
        {"specversion": "1.0", "id": f"prune-{at}", "source": "/pruner", "type": "lastseen.session.expired.v1",
         "subject": key, "time": iso_from_ms(sent_ms),
         "data": {"session_id": session_id, "reason": reason, "deadline_ms": sent_ms}}
    ).encode()  # fmt: skip


def settle_all(partition: Partition, records: list[Record], at_ms: int) -> list[Outcome]:
    """Have a stranger knock at every key, so that all who are due end."""
    stranger = "an-unknown-session-id0"
    start = len(records)
    return [partition.fold(Record(0, start + n, at_ms, key, timed(stranger, key, at_ms))) for n, key in enumerate(KEYS)]


def endings_of(outcomes: list[Outcome]) -> set[tuple[str, str, int]]:
    return {
        (outcome.ended.session_id, outcome.ending.reason, outcome.ending.at_ms)
        for outcome in outcomes
        if outcome.ended is not None and outcome.ending is not None
    }


@given(SEEDS, LENGTHS, st.integers(1, 5))
def test_more_pruners_delayed_doubled_or_fast_change_no_outcome(seed: int, length: int, pruners: int) -> None:
    plain = history(seed, length, steady=True)
    draw = random.Random(seed)
    ids = sorted(
        {i for written in plain if isinstance(written.event, dict) and (i := written.event["data"].get("session_id"))}
    )
    pruned: list[Record] = []
    for written in plain:
        for _ in range(draw.randrange(pruners + 1)):
            # Named at random, so mostly stale; sent at any time that the log lets pass, 60 s ahead at most.
            sent_ms = written.timestamp_ms + draw.randrange(-600_000, 60_001)
            value = timed(draw.choice(ids or ["n" * 22]), key := draw.choice(KEYS), sent_ms, at=len(pruned))
            pruned.append(Record(0, len(pruned), written.timestamp_ms, key, value))
        pruned.append(record(written, offset=len(pruned)))
    end_ms = plain[-1].timestamp_ms
    without_pruners, without_outcomes = folded([record(written) for written in plain])
    with_pruners, with_outcomes = folded(pruned)
    without_outcomes += settle_all(without_pruners, [record(written) for written in plain], end_ms)
    with_outcomes += settle_all(with_pruners, pruned, end_ms)
    assert without(live(with_pruners), "born", "last_offset") == without(live(without_pruners), "born", "last_offset")
    assert endings_of(with_outcomes) == endings_of(without_outcomes)


@given(SEEDS, LENGTHS, st.integers(0, 60_000), st.sampled_from(sorted(TIMED_REASONS)))
def test_a_fast_pruner_ends_no_session_early(seed: int, length: int, ahead_ms: int, reason: str) -> None:
    written = history(seed, length, steady=True)
    partition, _ = folded([record(each) for each in written])
    at_ms = written[-1].timestamp_ms
    settle_all(partition, [record(each) for each in written], at_ms)
    before = live(partition)
    for session in list(partition.by_id.values()):
        if session.is_due(at_ms):
            continue
        value = timed(session.session_id, session.key, at_ms + ahead_ms, reason)
        outcome = partition.fold(Record(0, partition.checkpoint, at_ms, session.key, value))
        assert (outcome.verdict, outcome.ended) == (Verdict.NOT_DUE, None)
    assert live(partition) == before


@given(SEEDS, LENGTHS)
def test_a_retry_needs_no_table_of_what_was_seen(seed: int, length: int) -> None:
    partition = Partition(0)
    for written in history(seed, length):
        partition.fold(record(written, offset=partition.checkpoint))
        before, endings = live(partition), partition.endings.total
        retried = partition.fold(record(written, offset=partition.checkpoint))
        if retried.ended is not None:
            # Only where the first made the session due: new limits, or a lease given back.
            assert retried.ending is not None
            assert retried.ending.reason in TIMED_REASONS
            assert retried.ending.at_ms <= retried.at_ms
            assert before[retried.ended.key]["id"] == retried.ended.session_id
            assert retried.verdict is not Verdict.APPLIED or isinstance(retried.event, Expired)
            continue
        assert partition.endings.total == endings
        assert without(live(partition), "version", "last_offset") == without(before, "version", "last_offset")
        if retried.verdict is Verdict.APPLIED:
            # Activity again, the same lease again, and nothing else.
            assert retried.event is not None
            assert isinstance(retried.event, Touched | Held), name_of(retried.event)
        else:
            assert live(partition) == before


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_touches_commute(times: list[int], shuffle: random.Random) -> None:
    def after(order: list[int]) -> dict[str, dict[str, Any]]:
        key, session_id = KEYS[0], "session-of-touches-commute"
        data: dict[str, Any] = {"session_id": session_id, "policy": {"idle_ttl_ms": 60_000}}
        partition = Partition(0)
        for n, at_ms in enumerate([0, *order]):
            kind = "touched" if n else "created"
            event = {"specversion": "1.0", "id": f"e{n}", "source": "/s", "type": f"lastseen.session.{kind}.v1",
                     "subject": key, "time": iso_from_ms(EPOCH_MS + at_ms),
                     "data": {"session_id": session_id} if n else data}  # fmt: skip
            outcome = partition.fold(Record(0, n, EPOCH_MS + at_ms, key, json.dumps(event).encode()))
            assert outcome.verdict is Verdict.APPLIED
        return live(partition)

    shuffled = list(times)
    shuffle.shuffle(shuffled)
    assert after(times) == after(shuffled)
    assert after(times)[KEYS[0]]["last_active"] == EPOCH_MS + max(times)


# ── any bytes ──

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(
        [2**63, -(2**63) - 1, 10**400, 1e308, "", "x" * 600, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
         "2024-W01-1T00:00:00Z", "2026-01-31T24:00:00Z", "lastseen.session.closed.v1", KEYS[0]]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = st.sampled_from(
    ["session_id", "if_version", "policy", "attributes", "message", "replaces", "reason", "holder", "lease_ms",
     "deadline_ms", "idle_ttl_ms", "max_age_ms", "specversion", "id", "source", "type", "subject", "time", "data"]
)  # fmt: skip


def mutate(value: Any, draw: st.DataObject) -> Any:
    """A place in `value` chosen at random holds something else, or a member is gone or new."""
    if isinstance(value, dict) and value and draw.draw(st.integers(0, 4)):
        name = draw.draw(st.sampled_from(sorted(value)))
        what = draw.draw(st.integers(0, 5))
        if what == 0:
            return {k: v for k, v in value.items() if k != name}
        if what == 1:
            return value | {draw.draw(NAMES): draw.draw(JSON)}
        return value | {name: mutate(value[name], draw)}
    return draw.draw(JSON)


@given(SEEDS, st.data())
@settings(max_examples=250)
def test_the_fold_never_raises_on_mutilated_events(seed: int, data: st.DataObject) -> None:
    partition = Partition(0)
    for written in history(seed, 12):
        partition.fold(record(written, offset=partition.checkpoint))
        if isinstance(written.event, dict):
            event = mutate(written.event, data)
            key = event.get("subject") if isinstance(event, dict) else written.key
            value = json.dumps(event, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
            outcome = partition.fold(
                Record(0, partition.checkpoint, written.timestamp_ms, key if isinstance(key, str) else None, value)
            )
            assert isinstance(outcome.verdict, Verdict)
    for session in partition.by_id.values():
        session.deadline_ms()
        session.deadline_reason()


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(max_size=20),
            st.none() | st.binary(max_size=200) | st.sampled_from(ROTTEN),
            st.integers(-1, MAX_TIMESTAMP_MS),
            st.none() | st.sampled_from(Mark),
        ),
        max_size=20,
    )
)
def test_the_fold_never_raises_on_any_bytes(
    records: list[tuple[str | None, bytes | None, int, Mark | None]],
) -> None:
    partition = Partition(0)
    for offset, (key, value, timestamp_ms, mark) in enumerate(records):
        outcome = partition.fold(Record(0, offset, timestamp_ms, key, value, mark))
        assert outcome.verdict.is_untimed
        assert partition.checkpoint == offset + 1
    assert len(partition) == 0


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 1, MAX_TIMESTAMP_MS])
def test_the_fold_never_raises_at_any_log_time(timestamp_ms: int) -> None:
    partition = Partition(0)
    for written in history(3):
        outcome = partition.fold(record(written)._replace(timestamp_ms=timestamp_ms))
        assert partition.checkpoint == outcome.record.offset + 1
        if not partition.importing and not isinstance(outcome.event, Opened):
            assert outcome.verdict.is_untimed
