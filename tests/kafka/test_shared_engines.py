"""Several engines on one topic: who owns what, what is published, and that nothing of it is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from kafka_topics import eventually, new_url, read_foreign, write_foreign

import lastseen
from lastseen.engine.log.kafka.url import FACTS, STATE, parse_kafka_url
from lastseen.engine.log.port import Record
from lastseen.projections.facts import FactId, encode, published_fact_id, state_of
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S

PARTITIONS = 4
OpenEngine = Callable[..., lastseen.Engine]


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    """A log of the test's own, with the topics beside it."""
    return new_url(kafka_broker.address, PARTITIONS)


@pytest.fixture
def opened() -> Iterator[OpenEngine]:
    """Opens engines, and shuts them down after the test."""
    engines: list[lastseen.Engine] = []

    def open_one(url: str, **settings: Any) -> lastseen.Engine:
        engines.append(lastseen.open_engine(url, **settings))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.shutdown()


def everything_in(url: str, suffix: str) -> list[list[Any]]:
    """All that librdkafka finds in a topic beside the log, by partition."""
    kafka_url = parse_kafka_url(url)
    consumer = Consumer({"bootstrap.servers": ",".join(kafka_url.servers), "group.id": "unused"})
    ends = [
        consumer.get_watermark_offsets(TopicPartition(kafka_url.topic + suffix, number), timeout=PATIENCE_S)[1]
        for number in range(PARTITIONS)
    ]
    consumer.close()
    return [read_foreign(url + suffix, end, number) if end else [] for number, end in enumerate(ends)]


def facts_in(url: str) -> list[list[dict[str, Any]]]:
    """The facts by partition, in order, duplicates dropped: those whose place is not beyond the last."""
    found: list[list[dict[str, Any]]] = []
    for messages in everything_in(url, FACTS):
        facts: list[dict[str, Any]] = []
        last = (-1, -1)
        for message in messages:
            fact = json.loads(message.value())
            assert message.key().decode() == fact["subject"]
            place = fact["data"]["offset"], fact["data"]["k"]
            assert fact["id"] == f"{message.partition()}-{place[0]}-{place[1]}"
            if place > last:
                facts.append(fact)
                last = place
        found.append(facts)
    return found


def states_in(url: str) -> dict[str, Any]:
    """The newest state of each key: what is left when the topic is compacted, tombstones taken for what they are."""
    states: dict[str, Any] = {}
    for messages in everything_in(url, STATE):
        for message in messages:
            key = message.key().decode()
            if message.value() is None:
                states.pop(key, None)
            else:
                states[key] = json.loads(message.value())["data"]
    return states


def run_cli(*arguments: str) -> str:
    """What a command says on stdout."""
    done = subprocess.run(
        [sys.executable, "-c", "from lastseen.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def live_in(engine: lastseen.Engine) -> dict[str, Any]:
    """The live view, as the topic of states should have it."""
    with engine._views.lock:
        return {
            session.key: state_of(session)
            for partition in engine._views.partitions
            for session in partition.by_id.values()
        }


def effects_in(url: str) -> list[list[tuple[int, int, str]]]:
    """What an engine that has nothing to do with the others makes of the log: place and kind of every fact."""
    with lastseen.open_engine(url, background=False, prune=False, facts=False) as engine:
        from lastseen.projections.facts import effect_of, facts_of
        from lastseen.projections.partition import Partition

        found: list[list[tuple[int, int, str]]] = []
        for number, end in enumerate(engine._log.end_offsets()):
            partition, facts = Partition(number), []
            while partition.checkpoint < end:
                for record in engine._log.read(number, partition.checkpoint, 1_000):
                    effect = effect_of(partition.fold(record))
                    facts += [] if effect is None else [(f.id.offset, f.id.k, f.kind) for f in facts_of(number, effect)]
            found.append(facts)
        return found


def names(facts: list[list[dict[str, Any]]]) -> list[list[tuple[int, int, str]]]:
    return [[(f["data"]["offset"], f["data"]["k"], f["data"]["kind"]) for f in each] for each in facts]


def owns_all(*engines: lastseen.Engine) -> bool:
    """Whether they own everything between them, each something, and nothing twice."""
    owned = [number for engine in engines for number in engine.owned()]
    return sorted(owned) == list(range(PARTITIONS)) and all(engine.owned() for engine in engines)


def live(engine: lastseen.Engine, rounds: int) -> None:
    """Some life: sessions begin, are used, end, and begin again."""
    for number in range(rounds):
        key = f"key-{number % 23}"
        engine.open(key, attributes={"n": number})
        engine.touch(key)
        if number % 7 == 0:
            engine.suspend(key)
            engine.resume(key)
        if number % 5 == 0:
            engine.close(key)
        if number % 11 == 0 and number % 5:
            engine.rotate(key)


def test_engines_share_the_duties_and_hand_them_over(url: str, opened: OpenEngine) -> None:
    one = opened(url, address="127.0.0.1:8001")
    assert eventually(lambda: owns_all(one))
    two = opened(url, address="127.0.0.1:8002")
    assert eventually(lambda: owns_all(one, two) and len(two.owned()) == 2)
    for number in range(40):
        key = f"key-{number}"
        owner = "127.0.0.1:8001" if one._views.partition_of(key).number in one.owned() else "127.0.0.1:8002"
        assert eventually(lambda key=key, owner=owner: one.owner_of(key) == two.owner_of(key) == owner)
    two.shutdown()
    assert eventually(lambda: owns_all(one))
    assert two.owned() == frozenset()


def test_what_one_writes_the_other_sees(url: str, opened: OpenEngine) -> None:
    one, two = opened(url), opened(url)
    session = one.open("ana")
    assert eventually(lambda: two.get("ana") is not None)
    assert two.open("ana").session_id == session.session_id
    two.touch("ana")
    assert eventually(lambda: getattr(one.get("ana"), "version", 0) == 2)


def test_facts_and_states_are_complete(url: str, opened: OpenEngine) -> None:
    one, two = opened(url), opened(url)
    assert eventually(lambda: owns_all(one, two))
    live(one, 60)
    live(two, 60)
    expected = effects_in(url)
    assert eventually(lambda: names(facts_in(url)) == expected)
    assert eventually(lambda: states_in(url) == live_in(one))
    assert sum(map(len, expected)) > 200
    for message in [*everything_in(url, FACTS)[0], *everything_in(url, STATE)[0]]:
        assert dict(message.headers())["content-type"] == b"application/cloudevents+json"
    ended = [fact for each in facts_in(url) for fact in each if fact["data"]["kind"] == "ended"]
    assert {fact["data"]["reason"] for fact in ended} == {"deleted", "rotated"}
    sources = {fact["source"] for each in facts_in(url) for fact in each}
    assert sources == {f"/lastseen/{one._log.identity}"}, "every publisher publishes the same fact"


def test_a_due_session_is_announced_by_its_owner(url: str, opened: OpenEngine) -> None:
    one, two = opened(url), opened(url)
    assert eventually(lambda: owns_all(one, two))
    for number in range(30):
        one.open(f"key-{number}", policy=lastseen.policy(idle_ttl="1s"))
    assert eventually(lambda: one.count() == two.count() == 0)

    def announced() -> list[int]:
        return [engine.statistics()["pruner"]["announced"] for engine in (one, two)]

    # A session has ended as soon as that is folded, a moment before its pruner hears that the log has it. It is
    # announced twice where duties moved meanwhile, and that is harmless.
    assert eventually(lambda: sum(announced()) >= 30)
    assert min(announced()) > 0
    assert one.statistics()["ended"] == {"idle": 30}


def test_max_sessions_holds_for_any_owners(url: str, opened: OpenEngine) -> None:
    one, two = opened(url, max_sessions=10), opened(url, max_sessions=10)
    assert eventually(lambda: owns_all(one, two))
    for number in range(40):
        two.open(f"key-{number}")
    assert eventually(lambda: one.count() == two.count() == 10)
    assert {view.key for view in one.list().sessions} == {f"key-{number}" for number in range(30, 40)}


def test_a_new_owner_goes_on_where_the_last_one_stopped(url: str, opened: OpenEngine) -> None:
    one = opened(url)
    assert eventually(lambda: owns_all(one))
    two = opened(url, facts=True)
    live(two, 30)
    # The first falls silent without a word: it publishes nothing, and its share is taken over.
    one._duties._publisher._owned = frozenset  # type: ignore[union-attr]
    live(two, 50)
    one.shutdown()
    assert eventually(lambda: owns_all(two))
    live(two, 10)
    expected = effects_in(url)
    assert eventually(lambda: names(facts_in(url)) == expected)
    assert eventually(lambda: states_in(url) == live_in(two))
    assert two._duties._publisher.refolded == 0, "what was not published was in the outbox"  # type: ignore[union-attr]


def test_an_operator_reads_and_prunes_a_topic(url: str) -> None:
    with lastseen.open_engine(url, prune=False, facts=False) as engine:
        session = engine.open("ana", policy=lastseen.policy(idle_ttl="1ms"))
        engine.open("ben")
    shown = run_cli("show", "ben", "--log", url, "-o", "json")
    assert json.loads(shown)["key"] == "ben"
    assert json.loads(run_cli("stats", "--log", url, "-o", "json"))["created"] == 2
    ended = json.loads(run_cli("prune", "--log", url, "-o", "json"))["ended"]
    assert [each["session_id"] for each in ended] == [session.session_id]
    assert "idle" in run_cli("explain", "ana", "--log", url)


def test_what_was_never_published_is_folded_again(url: str, opened: OpenEngine) -> None:
    with lastseen.open_engine(url, facts=False) as silent:
        live(silent, 40)
    later = opened(url)
    expected = effects_in(url)
    assert sum(map(len, expected)) > 60
    assert eventually(lambda: names(facts_in(url)) == expected)
    assert states_in(url) == live_in(later)


def test_the_outbox_survives_in_the_snapshot(url: str, opened: OpenEngine, tmp_path: Any) -> None:
    snapshot = str(tmp_path / "one.snapshot")
    one = opened(url, snapshot=snapshot)
    assert eventually(lambda: owns_all(one))
    live(one, 10)
    assert eventually(lambda: names(facts_in(url)) == effects_in(url))
    one._duties._publisher._owned = frozenset  # type: ignore[union-attr]
    live(one, 40)
    one.flush()
    published = sum(map(len, facts_in(url)))
    one.shutdown()
    assert sum(map(len, facts_in(url))) == published
    again = opened(url, snapshot=snapshot)
    expected = effects_in(url)
    assert sum(map(len, expected)) > published
    assert eventually(lambda: names(facts_in(url)) == expected)
    assert eventually(lambda: states_in(url) == live_in(again))
    assert again._duties._publisher.refolded == 0  # type: ignore[union-attr]


def test_a_zombies_facts_and_states_do_no_harm(url: str, opened: OpenEngine) -> None:
    one = opened(url)
    assert eventually(lambda: owns_all(one))
    live(one, 40)
    assert eventually(lambda: names(facts_in(url)) == effects_in(url))
    # An owner of old says again what it said first, and leaves an old state on top.
    number = one._views.partition_of("key-1").number
    first = everything_in(url, FACTS)[number][0]
    write_foreign(url + FACTS, [(first.key(), first.value())], number)
    write_foreign(
        url + STATE, [(b"key-1", b'{"data": "an old state"}'), (b"gone", b'{"data": "ended long ago"}')], number
    )
    assert eventually(lambda: states_in(url) == live_in(one))
    live(one, 10)
    assert eventually(lambda: names(facts_in(url)) == effects_in(url))


def test_topics_beside_the_log_must_be_there(kafka_broker: SharedBroker, opened: OpenEngine) -> None:
    from kafka_topics import administering

    url = new_url(kafka_broker.address, PARTITIONS)
    with administering(url) as (admin, kafka_url):
        admin.delete_topics([kafka_url.topic + STATE])
        assert eventually(lambda: kafka_url.topic + STATE not in admin.list_topics())
    with pytest.raises(lastseen.errors.LogUnavailable, match=r"facts=False"):
        lastseen.open_engine(url)
    opened(url, facts=False).open("ana")


def test_a_fact_is_what_it_was_published_as() -> None:
    from lastseen.projections.facts import Fact

    fact = Fact(FactId(3, 1024, 1), "created", "ana", "s" * 22, 1_700_000_000_000, None, {"key": "ana"})
    record = Record(0, 0, 0, "ana", encode(fact, "/lastseen/x"))
    assert published_fact_id(record, "/lastseen/x") == fact.id
    event = json.loads(encode(fact, "/lastseen/x"))
    assert (event["specversion"], event["id"], event["source"]) == ("1.0", "3-1024-1", "/lastseen/x")
    assert event["type"] == "lastseen.fact.created.v1"
