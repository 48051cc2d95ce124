"""`lastseen topics create`, `check` and `describe`: the topics of a log on Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastseen.cli.exit_codes import FINDINGS
from lastseen.cli.options import Output, OutputFormat
from lastseen.cli.printing import put_json, put_listing, put_rows, say

if TYPE_CHECKING:
    from lastseen.engine.log.kafka.url import KafkaUrl

app = typer.Typer(
    help="Make, check and describe the topics of a log on Kafka.", no_args_is_help=True, rich_markup_mode=None
)
_KafkaUrl = Annotated[
    str, typer.Option("--log", envvar="LASTSEEN_LOG", metavar="URL", help="The log: kafka://host:9092/topic.")
]
_COLUMNS = {
    "name": "topic", "partitions": "partitions", "replication": "replicas", "in_sync": "in sync", "identity": "id",
}  # fmt: skip


@app.command()
def create(
    log: _KafkaUrl,
    partitions: Annotated[
        int,
        typer.Option(
            "--partitions", metavar="N", min=1, max=10_000,
            help="How many partitions the topics get. The number is fixed: choose it for your highest load.",
        ),
    ] = 6,
    replication: Annotated[
        int | None,
        typer.Option(
            "--replication", metavar="N", min=1,
            help="The number of brokers that store each record. Not given: 3, or all brokers of a smaller cluster.",
        ),
    ] = None,
    retention: Annotated[
        str, typer.Option("--retention", metavar="DURATION", help="How long the log keeps records: forever, or 90d.")
    ] = "forever",
    facts_retention: Annotated[
        str, typer.Option("--facts-retention", metavar="DURATION", help="How long the facts are kept.")
    ] = "7d",
    max_message_bytes: Annotated[
        int,
        typer.Option("--max-message-bytes", metavar="N", min=4096, help="The largest batch that the topics accept."),
    ] = 1_048_588,
    for_import: Annotated[
        bool,
        typer.Option(
            "--for-import",
            help="Leave the log's topic empty, for lastseen import or lastseen log copy: an import writes the first"
            " records itself.",
        ),
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:  # fmt: skip
    """Create the topics of a log, of its facts and of its latest states.

    All have the same number of partitions. The broker sets log times, nothing is compacted or deleted by default, and
    with 3 replicas a record is acknowledged when 2 have it. An existing topic is left unchanged if its settings are
    right, and refused otherwise. Each partition of the log gets its genesis record, without which no engine opens it;
    run again, the command completes what an interruption left undone.
    """
    from lastseen.engine.log.kafka.new_log import create_log
    from lastseen.engine.log.kafka.topic import NewTopics

    wanted = NewTopics(
        partitions, replication, _retention_ms("--retention", retention),
        _retention_ms("--facts-retention", facts_retention), max_message_bytes,
    )  # fmt: skip
    kafka_url = _kafka_url(log)
    if kafka_url.partitions not in (None, partitions):
        raise typer.BadParameter(f"the URL says {kafka_url.partitions}", param_hint="--partitions")
    made = create_log(kafka_url, wanted, for_import=for_import)
    _put([topic._asdict() | {"made": is_new} for topic, is_new in made], output, {"made": "made"})


@app.command()
def check(log: _KafkaUrl, output: Output = OutputFormat.TABLE) -> None:
    """Check that the topics exist and can hold a log. Lists each fault; changes nothing."""
    from lastseen.engine.log.kafka.topic import check as check_topics

    topics, found = check_topics(_kafka_url(log))
    if output is OutputFormat.JSON:
        put_json({"ok": not found, "found": found, "topics": [topic._asdict() for topic in topics]})
    elif found or output is OutputFormat.JSONL:
        put_rows([{"found": each} for each in found], output, {"found": "found"})
    if found:
        say("lastseen: the findings above need attention")
        raise typer.Exit(FINDINGS)
    say(f"lastseen: {', '.join(topic.name for topic in topics)} can hold a log")


@app.command()
def describe(log: _KafkaUrl, output: Output = OutputFormat.TABLE) -> None:
    """Show partitions, replicas, settings and ids of a log's topics."""
    from lastseen.engine.log.kafka.topic import check as check_topics

    topics, _ = check_topics(_kafka_url(log))
    names = sorted({name for topic in topics for name in topic.settings})
    _put([topic._asdict() for topic in topics], output, {name: name for name in names})


def _put(topics: list[dict[str, Any]], output: OutputFormat, more: dict[str, str]) -> None:
    if output is not OutputFormat.TABLE:
        put_listing("topics", topics, output, {})
        return
    put_rows([topic | topic["settings"] for topic in topics], output, _COLUMNS | more)


def _kafka_url(log: str) -> KafkaUrl:
    from lastseen.engine.errors import InvalidSetting
    from lastseen.engine.log.kafka.url import parse_kafka_url

    if not log.startswith("kafka:"):
        raise InvalidSetting("--log: topics are for logs on Kafka; give kafka://host:9092/topic")
    return parse_kafka_url(log)


def _retention_ms(name: str, text: str) -> int:
    from lastseen.embedded.settings import duration_ms
    from lastseen.engine.log.kafka.topic import FOREVER

    return FOREVER if text in ("forever", "-1") else duration_ms(name, text)
