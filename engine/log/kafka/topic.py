"""The topics of a Kafka log: making them, describing them, and what makes one unfit.

A log needs all of its records, in one order, each with the time at which the broker took it, and none lost by choosing
a leader that lacks some. Beside the log's own topic stand `<topic>.facts`, for services that follow what took effect,
and `<topic>.state`, compacted, with each session's latest state.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from lastseen.engine.errors import InvalidSetting, LogMismatch, LogUnavailable
from lastseen.engine.log.kafka.client import absent, log_error, open_admin
from lastseen.engine.log.kafka.records import BATCH_OVERHEAD_BYTES, MAX_BATCH_BYTES
from lastseen.engine.log.kafka.url import FACTS, STATE, KafkaUrl

KNOWN_AFTER_S = 15.0
"""By then every broker of a cluster that is well knows of a topic that was made."""
LOOK_AGAIN_S = 0.05

DEFAULT_REPLICATION = 3
DEFAULT_FACTS_RETENTION_MS = 7 * 24 * 60 * 60 * 1000
FOREVER = -1
_SETTINGS = (
    "cleanup.policy", "max.message.bytes", "message.timestamp.type", "min.insync.replicas", "retention.bytes",
    "retention.ms", "unclean.leader.election.enable",
)  # fmt: skip


class Topic(NamedTuple):
    """A topic as the cluster describes it."""

    name: str
    identity: str
    """The cluster's id for it, as its own tools write it: a recreated topic has another."""
    partitions: int
    replication: int
    """Replicas of the partition that has fewest."""
    in_sync: int
    """Replicas in sync, of the partition that has fewest."""
    settings: Mapping[str, str]

    @property
    def max_message_bytes(self) -> int:
        """The largest batch that the broker takes."""
        return int(self.settings.get("max.message.bytes", 1_048_588))

    @property
    def max_batch_bytes(self) -> int:
        """The most that the records of a batch of ours may take there."""
        return min(MAX_BATCH_BYTES, self.max_message_bytes - BATCH_OVERHEAD_BYTES)


def describe(admin: KafkaAdminClient, url: KafkaUrl, name: str) -> Topic | None:
    """The topic `name`, or `None` if there is none. Raises `LogError`."""
    return _with_settings(url, _look_up(admin, url, name))


def _with_settings(url: KafkaUrl, topic: Topic | None) -> Topic | None:
    # The client passes over the error that comes instead of the settings.
    if topic is not None and not topic.settings:
        raise LogUnavailable(
            f"log {url}: a broker does not return the settings of topic {topic.name}: it may not know the topic yet, or"
            " this user may not read them. Try again, or allow the user DescribeConfigs on the topic"
        )
    return topic


def _look_up(admin: KafkaAdminClient, url: KafkaUrl, name: str) -> Topic | None:
    """The same, without settings where the broker that was requested them does not tell them."""
    try:
        (found,) = admin.describe_topics([name])
        if errors.for_code(found["error_code"]) is errors.UnknownTopicOrPartitionError:
            return None
        if found["error_code"]:
            raise errors.for_code(found["error_code"])(name)
        resource = ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_SETTINGS))
        answer = admin.describe_configs([resource], config_filter="all")["topic"][name]
    except errors.KafkaError as error:
        raise log_error(url, "cannot be described", error) from None
    parts = found["partitions"]
    return Topic(
        name, written_id(found["topic_id"]), len(parts), min(len(part["replica_nodes"]) for part in parts),
        min(len(part["isr_nodes"]) for part in parts), {key: str(each["value"]) for key, each in answer.items()},
    )  # fmt: skip


def describe_new(admin: KafkaAdminClient, url: KafkaUrl, name: str, patience_s: float) -> Topic | None:
    """The same, for a topic that may have been made a moment ago: not every broker knows of it at once."""
    give_up_s = time.monotonic() + patience_s
    while True:
        topic = _look_up(admin, url, name)
        # Two brokers are asked, one for the topic and one for its settings.
        if (topic is not None and topic.settings) or time.monotonic() >= give_up_s:
            return _with_settings(url, topic)
        time.sleep(LOOK_AGAIN_S)


def identity_of(admin: KafkaAdminClient, url: KafkaUrl) -> tuple[str, int] | None:
    """The identity and the partition count of a log's topic now, or `None` if it is gone. Raises `LogError`."""
    try:
        (found,) = admin.describe_topics([url.topic])
    except errors.KafkaError as error:
        raise log_error(url, "cannot be described", error) from None
    if errors.for_code(found["error_code"]) is errors.UnknownTopicOrPartitionError:
        return None
    if found["error_code"]:
        raise log_error(url, "cannot be described", errors.for_code(found["error_code"])(url.topic))
    return written_id(found["topic_id"]), len(found["partitions"])


def end_offsets_of(admin: KafkaAdminClient, url: KafkaUrl, topic: Topic) -> list[int]:
    """The offset that the next record of each partition will have, without a client that reads. Raises `LogError`."""
    wanted = {TopicPartition(topic.name, number): OffsetSpec.LATEST for number in range(topic.partitions)}
    try:
        found = admin.list_partition_offsets(wanted)
    except errors.KafkaError as error:
        raise log_error(url, "cannot be described", error) from None
    return [found[partition].offset for partition in wanted]


def written_id(topic_id: Any) -> str:
    """A topic's id as Kafka's own tools write it: 22 characters."""
    return base64.urlsafe_b64encode(uuid.UUID(str(topic_id)).bytes).decode().rstrip("=")


def unfit_reasons(topic: Topic) -> list[str]:
    """Why a topic cannot be a log."""
    found = []
    if topic.settings.get("message.timestamp.type") != "LogAppendTime":
        found.append(
            f"message.timestamp.type is {topic.settings.get('message.timestamp.type')}, and deadlines are exact only in"
            " the broker's time: it must be LogAppendTime"
        )
    if topic.settings.get("cleanup.policy") != "delete":
        found.append(
            f"cleanup.policy is {topic.settings.get('cleanup.policy')}, and compaction leaves gaps in the log: it must"
            " be delete"
        )
    return found


def check_fit(url: KafkaUrl, topic: Topic | None) -> Topic:
    """The topic, if it can be this log. Raises `LogUnavailable` if there is none, `LogMismatch` if it is unfit."""
    if topic is None:
        raise LogUnavailable(absent(url))
    reasons = unfit_reasons(topic)
    if reasons:
        raise LogMismatch(
            f"log {url}: this topic cannot hold a log: {'; '.join(reasons)}. Make another with: lastseen topics create"
        )
    if url.partitions is not None and url.partitions != topic.partitions:
        raise LogMismatch(
            f"log {url} has {topic.partitions} partitions, and {url.partitions} were requested: the number is fixed"
            " when a topic is made. Leave it out, or copy the log into a new topic"
        )
    return topic


def weaknesses(topic: Topic, brokers: int) -> list[str]:
    """What a log's topic can live with, and its owner should know."""
    found = []
    settings = topic.settings
    if settings.get("retention.ms") != str(FOREVER) or settings.get("retention.bytes", "-1") != "-1":
        found.append(
            f"retention.ms is {settings.get('retention.ms')} and retention.bytes {settings.get('retention.bytes')}: the"
            " broker deletes old records, and then the log cannot be folded from its beginning (-1 keeps all)"
        )
    if settings.get("unclean.leader.election.enable") != "false":
        found.append(
            "unclean.leader.election.enable is true: a broker that lacks acknowledged records may become leader"
        )
    if topic.replication >= 2 and int(settings.get("min.insync.replicas", "1")) < 2:
        found.append(
            "min.insync.replicas is 1: a record that only one broker has is acknowledged, and lost with that broker"
        )
    if topic.replication < min(DEFAULT_REPLICATION, brokers):
        found.append(f"replication is {topic.replication}, and the cluster has {brokers} brokers: use 3")
    if topic.in_sync < topic.replication:
        found.append(f"a partition has {topic.in_sync} of {topic.replication} replicas in sync")
    return found


class NewTopics(NamedTuple):
    """How topics are to be made."""

    partitions: int
    replication: int | None = None
    """None: 3 where the cluster has the brokers, else as many as there are."""
    retention_ms: int = FOREVER
    facts_retention_ms: int = DEFAULT_FACTS_RETENTION_MS
    max_message_bytes: int = 1_048_588


def create(url: KafkaUrl, wanted: NewTopics) -> list[tuple[Topic, bool]]:
    """Make the log's topic and the two beside it; each with whether it was made, for one that is fit is left alone.

    Raises `LogMismatch` where one exists that is not as wanted, `InvalidSetting` where the cluster cannot make them so.
    """
    admin = open_admin(url)
    try:
        brokers = len(admin.describe_cluster()["brokers"])
        replication = wanted.replication or min(DEFAULT_REPLICATION, brokers)
        made = []
        for name, settings in _plan(url, wanted, replication).items():
            is_new = _look_up(admin, url, name) is None
            if is_new:
                _make(admin, url, name, wanted.partitions, replication, settings)
            topic = describe_new(admin, url, name, KNOWN_AFTER_S)
            if topic is None:
                raise LogUnavailable(
                    f"log {url}: the cluster reported that it created the topic {name}, and does not list it"
                    f" {KNOWN_AFTER_S:.0f} s later: check its brokers, and start again"
                )
            _check_as_wanted(topic, wanted, settings)
            made.append((topic, is_new))
        return made
    except errors.KafkaError as error:
        raise log_error(url, "cannot be made", error) from None
    finally:
        admin.close()


def _plan(url: KafkaUrl, wanted: NewTopics, replication: int) -> dict[str, dict[str, str]]:
    safe = {
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "2" if replication >= 3 else "1",
        "unclean.leader.election.enable": "false",
        "max.message.bytes": str(wanted.max_message_bytes),
    }
    log = safe | {"cleanup.policy": "delete", "retention.ms": str(wanted.retention_ms), "retention.bytes": "-1"}
    return {
        url.topic: log,
        url.topic + FACTS: log | {"retention.ms": str(wanted.facts_retention_ms)},
        url.topic + STATE: safe | {"cleanup.policy": "compact"},
    }


def _make(
    admin: KafkaAdminClient, url: KafkaUrl, name: str, partitions: int, replication: int, settings: dict[str, str]
) -> None:
    plan = {name: {"num_partitions": partitions, "replication_factor": replication, "configs": settings}}
    (answer,) = admin.create_topics(plan, raise_errors=False)["topics"]
    error = errors.for_code(answer["error_code"])
    if error in (errors.NoError, errors.TopicAlreadyExistsError):
        admin.wait_for_topics([name])  # another process may have been making it at the same moment
    elif error.retriable or error is errors.ClusterAuthorizationFailedError:
        raise error(answer["error_message"])
    else:
        raise InvalidSetting(
            f"topic {name} of log {url} cannot be created: {answer['error_message']} ({error.__name__})"
        )


def _check_as_wanted(topic: Topic, wanted: NewTopics, settings: Mapping[str, str]) -> None:
    differs = [
        f"{name} is {topic.settings.get(name)}, not {value}"
        for name, value in settings.items()
        if topic.settings.get(name) != value
    ]
    if topic.partitions != wanted.partitions:
        differs.insert(0, f"it has {topic.partitions} partitions, not {wanted.partitions}")
    if differs:
        raise LogMismatch(
            f"topic {topic.name} exists with other settings: {'; '.join(differs)}. Give its settings, or another name"
        )


def check(url: KafkaUrl) -> tuple[list[Topic], list[str]]:
    """The topics of a log that exist, and all that is wrong with them or missing. Raises `LogError`."""
    admin = open_admin(url)
    try:
        brokers = len(admin.describe_cluster()["brokers"])
        topics = {name: describe(admin, url, name) for name in (url.topic, url.topic + FACTS, url.topic + STATE)}
    except errors.KafkaError as error:
        raise log_error(url, "cannot be described", error) from None
    finally:
        admin.close()
    log = topics[url.topic]
    found = [
        f"{name}: the topic does not exist; make it with: lastseen topics create"
        for name, each in topics.items()
        if each is None
    ]
    if log is not None:
        found += [f"{log.name}: {each}" for each in [*unfit_reasons(log), *weaknesses(log, brokers)]]
        if url.partitions not in (None, log.partitions):
            found.append(f"{log.name}: it has {log.partitions} partitions, and {url.partitions} were requested")
        for name, policy in ((FACTS, "delete"), (STATE, "compact")):
            beside = topics[url.topic + name]
            found += [] if beside is None else _beside(beside, log, policy)
    return [each for each in topics.values() if each is not None], found


def _beside(topic: Topic, log: Topic, policy: str) -> Sequence[str]:
    found = []
    if topic.partitions != log.partitions:
        found.append(f"{topic.name}: it has {topic.partitions} partitions, and the log has {log.partitions}")
    if topic.settings.get("cleanup.policy") != policy:
        found.append(f"{topic.name}: cleanup.policy is {topic.settings.get('cleanup.policy')}, not {policy}")
    return found
