"""`lastseen topics`: what it makes is fit for a log, and what is not fit is named."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka_fixtures import SharedBroker
from typer.testing import CliRunner, Result

from lastseen.cli.program import app
from lastseen.engine import errors
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log

YEAR_MS = 365 * 24 * 3_600_000
FIT = {
    "cleanup.policy": "delete", "max.message.bytes": "1048588", "message.timestamp.type": "LogAppendTime",
    "min.insync.replicas": "1", "retention.bytes": "-1", "retention.ms": "-1",
    "unclean.leader.election.enable": "false",
}  # fmt: skip


def run(*arguments: str) -> Result:
    """Run `lastseen topics …`."""
    return CliRunner().invoke(app, ["topics", *arguments])


def data_of(*arguments: str, exit_code: int = 0) -> Any:
    """What it prints with `-o json`."""
    result = run(*arguments, "-o", "json")
    assert result.exit_code == exit_code, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    return f"kafka://{kafka_broker.address}/cli-{uuid.uuid4().hex}"


def topic_of(url: str) -> str:
    """The topic's name."""
    return url.rpartition("/")[2]


def make(kafka_broker: SharedBroker, name: str, partitions: int = 6, **settings: str) -> None:
    """A topic that another program has made."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.address)
    plan = {"num_partitions": partitions, "replication_factor": 1, "configs": settings}
    admin.create_topics({name: plan}, wait_for_metadata=True)
    admin.close()


def test_what_is_made_is_fit_and_can_be_opened(url: str) -> None:
    made = data_of("create", "--log", url)["topics"]
    name = topic_of(url)
    assert [(each["name"], each["partitions"], each["replication"], each["made"]) for each in made] == [
        (name, 6, 1, True), (f"{name}.facts", 6, 1, True), (f"{name}.state", 6, 1, True),
    ]  # fmt: skip
    assert made[0]["settings"] == FIT
    assert made[1]["settings"] == FIT | {"retention.ms": str(7 * 24 * 3_600_000)}
    assert made[2]["settings"]["cleanup.policy"] == "compact"
    assert data_of("check", "--log", url) == {
        "ok": True,
        "found": [],
        "topics": data_of("describe", "--log", url)["topics"],
    }
    log = open_log(url, SystemClock())
    assert (log.identity, log.partitions) == (made[0]["identity"], 6)
    log.close()


def test_it_may_be_said_how(url: str) -> None:
    made = data_of(
        "create", "--log", url, "--partitions", "2", "--replication", "1", "--retention", "365d", "--facts-retention",
        "1h", "--max-message-bytes", "2000000",
    )["topics"]  # fmt: skip
    assert [each["partitions"] for each in made] == [2, 2, 2]
    assert made[0]["settings"]["retention.ms"] == str(YEAR_MS)
    assert made[1]["settings"]["retention.ms"] == "3600000"
    assert {each["settings"]["max.message.bytes"] for each in made} == {"2000000"}
    checked = data_of("check", "--log", url, exit_code=1)
    assert len(checked["found"]) == 1
    assert "retention.ms" in checked["found"][0]


def test_making_again_changes_nothing_and_another_way_is_refused(url: str) -> None:
    first = data_of("create", "--log", url, "--partitions", "2")["topics"]
    again = data_of("create", "--log", url, "--partitions", "2")["topics"]
    assert [each["made"] for each in again] == [False] * 3
    assert [each["identity"] for each in again] == [each["identity"] for each in first]
    for options, says in (
        (["--partitions", "3"], "2 partitions, not 3"),
        (["--partitions", "2", "--retention", "30d"], "retention.ms is -1"),
    ):
        result = run("create", "--log", url, *options)
        assert (result.exit_code, result.stdout) == (4, "")
        assert says in result.stderr


def test_an_import_target_is_left_without_genesis_records(url: str) -> None:
    data_of("create", "--log", url, "--partitions", "2", "--for-import")
    log = open_log(url, SystemClock())
    assert log.end_offsets() == [0, 0]
    data_of("create", "--log", url, "--partitions", "2")
    assert log.end_offsets() == [1, 1], "run again without the option, it completes the log"
    log.close()


def test_every_fault_is_found(url: str, kafka_broker: SharedBroker) -> None:
    name = topic_of(url)
    make(
        kafka_broker, name,
        **{"cleanup.policy": "compact", "retention.ms": "60000", "unclean.leader.election.enable": "true"},
    )  # fmt: skip
    make(kafka_broker, f"{name}.facts", 3, **{"cleanup.policy": "compact"})
    found = data_of("check", "--log", f"{url}?partitions=4", exit_code=1)["found"]
    for fault in (
        "message.timestamp.type is CreateTime", "compaction leaves gaps", "retention.ms is 60000", "unclean.leader",
        "it has 6 partitions, and 4 were requested", f"{name}.facts: it has 3 partitions, and the log has 6",
        f"{name}.facts: cleanup.policy is compact", f"{name}.state: the topic does not exist",
    ):  # fmt: skip
        assert sum(fault in each for each in found) == 1, fault
    assert len(found) == 8
    table = run("check", "--log", url)
    assert table.exit_code == 1
    assert "CreateTime" in table.stdout


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "message.timestamp.type is CreateTime"),
        ({"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact"}, "compaction leaves gaps"),
        ({"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact,delete"}, "compaction leaves gaps"),
    ],
)
def test_a_topic_that_is_unfit_is_not_opened(
    url: str, kafka_broker: SharedBroker, settings: dict[str, str], says: str
) -> None:
    make(kafka_broker, topic_of(url), **settings)
    with pytest.raises(errors.LogMismatch, match=says):
        open_log(url, SystemClock())
    assert run("create", "--log", url).exit_code == 4


def test_another_number_of_partitions_is_not_opened(url: str) -> None:
    run("create", "--log", url, "--partitions", "2")
    with pytest.raises(errors.LogMismatch, match="has 2 partitions, and 3"):
        open_log(url, SystemClock(), partitions=3)
    log = open_log(f"{url}?partitions=2", SystemClock())
    log.close()


def test_a_topic_that_is_not_there_is_not_made_by_asking_for_it(url: str, kafka_broker: SharedBroker) -> None:
    with pytest.raises(errors.LogUnavailable, match=r"the topic does not exist.*lastseen topics create --log kafka://"):
        open_log(url, SystemClock())
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.address)
    assert topic_of(url) not in admin.list_topics()
    admin.close()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--log", "sqlite:///lastseen.db"], 2, "topics are for logs on Kafka"),
        (["--log", "kafka://127.0.0.1:1/topic"], 4, "broker is up"),
        (["--log", "{}", "--replication", "9"], 2, "replication factor"),
        (["--log", "{}", "--retention", "soon"], 2, "--retention"),
        (["--log", "{}?partitions=3"], 2, "--partitions"),
        (["--log", "{}", "--max-message-bytes", "7"], 2, "--max-message-bytes"),
    ],
)
def test_what_cannot_be_done_is_said(url: str, arguments: list[str], code: int, says: str) -> None:
    result = run("create", *(each.format(url) for each in arguments))
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert says in result.stderr
    assert "Traceback" not in result.stderr
