"""Strangers on the topic of facts: what stands last there and is no fact of the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from lastseen.doctor.findings import Finding, warning
from lastseen.engine.errors import LogError
from lastseen.engine.log.kafka.facts_and_states import KafkaFactPublisher
from lastseen.engine.log.kafka.url import FACTS, KafkaUrl
from lastseen.projections.facts import published_fact_id

PAGES = 4
"""Pages of the newest facts that are looked at, about 1,000 records of each partition."""


def strangers(kafka_url: KafkaUrl, identity: str, partitions: int) -> Iterator[Finding]:
    """A finding if there are any. Where the topics beside the log cannot be opened, another check says so."""
    seen, strange, newest = 0, 0, ""
    try:
        with closing(KafkaFactPublisher(kafka_url, partitions)) as topics:
            for number in range(partitions):
                for page in islice(topics.newest_facts(number), PAGES):
                    for record in page:
                        seen += 1
                        fact_id = published_fact_id(record, f"/lastseen/{identity}")
                        if fact_id is None or fact_id.partition != number:
                            strange += 1
                            newest = newest or f"{number}:{record.offset}"
    except LogError:
        return
    if strange:
        yield warning(
            "facts", f"{strange:,} of the newest {seen:,} records in {kafka_url.topic}{FACTS} are no facts of this log,"
            f" one at {newest}: engines skip them, readers of the topic may not",
            "allow Write on the topics of facts and states to the engines alone (ACLs), and stop what writes there",
        )  # fmt: skip
