"""kafka-python's private parts: each that is used may be missing, and then there is another way or a clear refusal."""

from __future__ import annotations

import ast
import logging
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.base import BaseCoordinator
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka_fixtures import SharedBroker
from kafka_topics import Open, message, new_topic, values

import lastseen
from lastseen.engine import errors
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.kafka import SUPPORTED_LIBRARY, fetch, library_internals, producer
from lastseen.engine.log.kafka.group import Membership
from lastseen.engine.log.kafka.net_client import NetClient
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.shared_log import Held, MemberSettings

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "kafka://127.0.0.1:1/topic"

METHODS = {
    KafkaConnectionManager: ("_build_transport", "_connect"),
    KafkaTCPTransport: ("_read_from_sock", "_sock_recv"),
    KafkaSSLTransport: ("_sock_recv",),
}
"""Of the network; without one of them no client is opened."""
TRANSPORT_FIELDS = ("_sock", "_net")
PRODUCER = {
    "": ("_accumulator", "_sender", "_transaction_manager"),
    "_accumulator": ("_appends_in_progress", "_batches", "_closed", "_incomplete", "_tp_lock", "_tp_locks"),
    "_sender": ("_can_retry", "_can_split", "wakeup"),
    "_transaction_manager": ("has_producer_id", "last_error"),
}
"""Of a producer, and of what it holds; without one of them records are sent singly."""
BUILDER = {
    MemoryRecordsBuilder: ("_builder", "_next_offset"),
    DefaultRecordBatchBuilder: ("_buffer", "_first_timestamp", "_last_offset", "_max_timestamp", "_num_records"),
}
"""Of what encodes a batch; the same."""
FETCHED = (
    "_buffer", "_pos", "compression_type", "records_count", "validate_crc", "is_control_batch",
    "is_transactional", "next_offset",
)  # fmt: skip
"""Of a batch that was fetched; without one of them no log is opened."""
FETCHER = ("_fetcher", "_parse_fetched_data", "_unpack_records")
ENDING = ("_sender", "_unregister_cleanup")
GROUP = ("_coordinator",)
HELD_BY_OTHERS = {"_topics"}
"""A part that saves time where it is there (`test_a_client_without_a_list_of_topics_is_as_good`)."""


class Without:
    """Something that lacks one of its attributes."""

    def __init__(self, whole: Any, missing: str) -> None:
        self.__dict__["whole"], self.__dict__["missing"] = whole, missing

    def __getattr__(self, name: str) -> Any:
        if name == self.missing:
            raise AttributeError(name)
        return getattr(self.whole, name)


@pytest.fixture
def unconnected() -> Iterator[KafkaProducer]:
    """A producer of kafka-python whose broker is not there."""
    made = KafkaProducer(
        bootstrap_servers="127.0.0.1:1",
        api_version=(3, 9),
        enable_idempotence=True,
        # Its own network client would leave the sockets of refused connections open.
        kafka_client=lambda **config: NetClient(None, **config),
    )
    yield made
    library_internals.end_producer(made, 10)


def refused() -> pytest.RaisesExc[errors.UnsupportedLibrary]:
    """The typed refusal, with the versions to install."""
    return pytest.raises(errors.UnsupportedLibrary, match=r"kafka-python>=3\.0\.11,<3\.1")


def test_the_supported_versions_are_those_that_are_installed_with_lastseen() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SUPPORTED_LIBRARY in project["dependencies"]


# ── the network ──


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in METHODS.items() for name in names])
def test_without_a_part_of_the_network_no_client_is_opened(
    kind: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library_internals.check_network()
    monkeypatch.delattr(kind, name)
    with refused() as refusal:
        lastseen.open_engine(NOWHERE)
    assert kind.__name__ in str(refusal.value)


@pytest.mark.parametrize("name", TRANSPORT_FIELDS)
def test_without_a_field_of_a_transport_no_client_is_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = KafkaTCPTransport.__init__

    def make_without(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        delattr(self, name)

    monkeypatch.setattr(KafkaTCPTransport, "__init__", make_without)
    with refused() as refusal:
        lastseen.open_engine(NOWHERE)
    assert name in str(refusal.value)


def test_transports_that_drop_the_last_message_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KafkaTCPTransport, "_sock_recv", lambda _: (b"", None))
    with refused():
        library_internals.check_network()


def test_connections_that_are_made_elsewhere_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: Any) -> None:
        """Makes a transport without a connection."""

    monkeypatch.setattr(KafkaConnectionManager, "_connect", connect)
    with refused():
        library_internals.check_network()


def test_a_client_without_a_list_of_topics_is_as_good() -> None:
    cluster = SimpleNamespace()
    library_internals.follow_topic(cluster, "topic")
    assert vars(cluster) == {}
    cluster._topics = set()
    library_internals.follow_topic(cluster, "topic")
    assert cluster._topics == {"topic"}


def test_a_kafka_python_without_a_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [each for each in sys.modules if each.startswith("lastseen.engine.log.kafka.")]:
        if not name.endswith(".url"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kafka.net.manager", None)
    with refused() as refusal:
        lastseen.open_engine(NOWHERE)
    assert "kafka.net.manager" in str(refusal.value)


# ── the group ──


def join() -> None:
    """Join the group of owners, as an engine does when it starts."""
    url = parse_kafka_url(NOWHERE)
    held = Held(frozenset(), frozenset())
    Membership(url, 1, MemberSettings(), lambda: held, lambda: None, DutyHealth()).close()


def test_without_a_way_to_join_again_no_group_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    library_internals.check_group()
    monkeypatch.delattr(BaseCoordinator, "request_rejoin")
    with refused() as refusal:
        join()
    assert "BaseCoordinator.request_rejoin" in str(refusal.value)


@pytest.mark.parametrize(("kind", "name"), [(KafkaConsumer, "_coordinator"), (BaseCoordinator, "rejoining")])
def test_without_a_field_of_the_coordinator_no_group_is_joined(
    kind: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_without(self: Any) -> None:
        self.something_else = None

    monkeypatch.setattr(kind, "__init__", make_without)
    with refused() as refusal:
        join()
    assert f"{kind.__name__}.{name}" in str(refusal.value)


# ── whole batches out ──


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PRODUCER.items() for name in names])
def test_without_a_part_of_the_producer_whole_batches_are_not_sent(
    owner: str, name: str, unconnected: KafkaProducer
) -> None:
    assert library_internals.takes_whole_batches(unconnected)
    changed: Any = Without(unconnected, name)
    if owner:
        changed = SimpleNamespace(**{each: getattr(unconnected, each) for each in PRODUCER[""]})
        setattr(changed, owner, Without(getattr(unconnected, owner), name))
    assert not library_internals.takes_whole_batches(changed)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in BUILDER.items() for name in names])
def test_a_builder_that_keeps_its_records_elsewhere_is_noticed(
    kind: type, name: str, unconnected: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = library_internals.record_batch

    def make_elsewhere(*arguments: Any) -> Any:
        """A batch of which one field stands under a name that we do not know: what we set there says nothing."""
        fresh = MemoryRecordsBuilder(2, 0, 1 << 20)
        made = make(*arguments)
        source, target = (fresh, made) if kind is MemoryRecordsBuilder else (fresh._builder, made._builder)
        setattr(target, name, getattr(source, name))
        return made

    assert library_internals.takes_whole_batches(unconnected)
    monkeypatch.setattr(library_internals, "record_batch", make_elsewhere)
    assert not library_internals.takes_whole_batches(unconnected)


def test_a_different_batch_is_noticed(unconnected: KafkaProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_internals, "encode", lambda *_: b"rubbish")
    assert not library_internals.takes_whole_batches(unconnected)


def test_without_whole_batches_records_are_sent_singly_and_it_is_said_once(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library_internals, "encode", lambda *_: b"rubbish")
    monkeypatch.setattr(producer, "_has_warned", False)
    with caplog.at_level(logging.WARNING, "lastseen"):
        for _ in range(2):
            log = opened(new_topic(kafka_broker.address))
            log.append([message("a"), message("b")])
            assert values(log) == [b"a", b"b"]
            assert type(log.writer._producer) is producer.SingleRecords
    assert len([each for each in caplog.messages if "records are sent one by one" in each]) == 1


# ── the end of a producer ──


@pytest.mark.parametrize("name", [*ENDING, "force_close"])
def test_a_producer_that_cannot_be_ended_at_once_is_closed(name: str, unconnected: KafkaProducer) -> None:
    closed: list[float] = []
    unconnected.close = lambda timeout: closed.append(timeout)
    changed = Without(unconnected, name)
    if name == "force_close":
        changed = SimpleNamespace(_sender=threading.Thread(), _unregister_cleanup=None, close=unconnected.close)
    library_internals.end_producer(changed, 3)
    assert closed == [3]
    del unconnected.close


def test_a_forked_child_marks_a_producer_as_closed_even_so(unconnected: KafkaProducer) -> None:
    stand_in = SimpleNamespace()
    library_internals.abandon_producer(stand_in)
    assert stand_in._closed is True


# ── whole batches in ──


@pytest.mark.parametrize("name", FETCHED)
def test_without_a_part_of_a_fetched_batch_no_log_is_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch.check_library()
    if hasattr(getattr(DefaultRecordBatch, name), "__set__") and name in DefaultRecordBatch.__slots__:
        monkeypatch.setattr(DefaultRecordBatch, name, property(lambda _: 1 / 0, lambda *_: None))
    else:
        monkeypatch.delattr(DefaultRecordBatch, name)
    with refused():
        lastseen.open_engine(NOWHERE)


def test_a_fetcher_that_unpacks_records_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(library_internals.PartitionBatches, "_unpack_records")
    assert not fetch.knows_whole_batches()


@pytest.mark.parametrize("changed", [SimpleNamespace(), SimpleNamespace(_fetcher=SimpleNamespace())])
def test_a_consumer_with_another_fetcher_gives_records(changed: Any) -> None:
    assert not library_internals.give_whole_batches(changed)
    assert not library_internals.watch_fetches(changed, lambda: None)


def test_without_a_fetcher_of_batches_nothing_is_read(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(new_topic(kafka_broker.address))
    log.append([message("a"), message("b")])
    monkeypatch.setattr(fetch, "give_whole_batches", lambda _: False)
    with refused() as refusal:
        log.end_offsets()
    assert "whole batches" in str(refusal.value)
    monkeypatch.undo()
    assert values(log) == [b"a", b"b"]


def test_a_fetch_that_cannot_notice_a_missing_topic_doubts_it_from_the_start(
    kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = parse_kafka_url(new_topic(kafka_broker.address))
    monkeypatch.delattr(Fetcher, "_parse_fetched_data")
    made = fetch.Fetch(url, 10, 1 << 20, 5_000)
    assert made.may_be_another_topic
    made.close()


# ── nothing is left out ──


def test_each_private_part_that_is_named_is_taken_away_here() -> None:
    tree = ast.parse(Path(library_internals.__file__).read_text(encoding="utf-8"))
    named = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    } | {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    private = {name for name in named if name.startswith("_") and name.isidentifier() and not name.startswith("__")}
    taken_away = {name for names in (*METHODS.values(), *PRODUCER.values(), *BUILDER.values()) for name in names}
    taken_away |= {*TRANSPORT_FIELDS, *FETCHED, *FETCHER, *ENDING, *GROUP, *HELD_BY_OTHERS}
    assert private - taken_away == set()
    assert len(private) > 20
