"""A log in a topic of Kafka: questions to the cluster and a look at records, without a producer and without a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lastseen.doctor.findings import Finding, error, ok, warning
from lastseen.doctor.strangers import strangers
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.kafka.client import absent, open_admin
from lastseen.engine.log.kafka.fetch import OffsetGone
from lastseen.engine.log.kafka.lookup import Lookup
from lastseen.engine.log.kafka.stream import gone_error
from lastseen.engine.log.kafka.topic import check, unfit_reasons
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.port import Record

MAX_SHOWN = 4
"""Partitions that a finding names."""


class KafkaTopicLog:
    """A log's topic (`findings.ReadOnlyLog`)."""

    def __init__(self, url: KafkaUrl, identity: str, lookup: Lookup) -> None:
        """Ask where the log begins and ends. Raises `LogError`."""
        self.identity = identity
        self._url, self._lookup = url, lookup
        self.ends = lookup.end_offsets()
        self.starts = [lookup.first_offset(number) for number in range(len(self.ends))]

    def read(self, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Records from an offset on (`findings.ReadOnlyLog`). Raises `LogMismatch` where they were deleted."""
        if from_offset >= self.ends[partition]:
            return []
        try:
            return self._lookup.page(partition, from_offset, limit)
        except OffsetGone:
            raise gone_error(self._url, self._lookup, partition, from_offset) from None


@contextmanager
def opened_topic(kafka_url: KafkaUrl) -> Iterator[tuple[KafkaTopicLog, list[Finding]]]:
    """The log at `kafka_url`, and what is to be said of its topics. Raises `LogError`."""
    topics, found = check(kafka_url)
    log = next((each for each in topics if each.name == kafka_url.topic), None)
    if log is None:
        raise LogUnavailable(absent(kafka_url))
    lookup = Lookup(kafka_url, log.identity, log.partitions, open_admin(kafka_url))
    try:
        seen = KafkaTopicLog(kafka_url, log.identity, lookup)
        says = f"{kafka_url} responds, and holds {sum(seen.ends):,} records in {log.partitions} partitions"
        fatal = {f"{log.name}: {each}" for each in unfit_reasons(log)}
        findings = [ok("log", says)]
        for each in found:
            how, step = (
                (
                    error,
                    "no engine opens such a log: make another with `lastseen topics create`, and copy the records",
                )
                if each in fatal
                else (warning, "change the topic's settings, or make it with `lastseen topics create`")
            )
            findings.append(how("topics", each, step))
        if not found:
            findings.append(ok("topics", f"{', '.join(topic.name for topic in topics)} can hold a log"))
        findings.append(_beginning(seen))
        findings += strangers(kafka_url, log.identity, log.partitions)
        yield seen, findings
    finally:
        lookup.close()


def _beginning(log: KafkaTopicLog) -> Finding:
    gone = [(number, start) for number, start in enumerate(log.starts) if start]
    if gone:
        where = ", ".join(f"{number} before offset {start}" for number, start in gone[:MAX_SHOWN])
        where += f" and {len(gone) - MAX_SHOWN} more" if len(gone) > MAX_SHOWN else ""
        total = sum(log.starts)
        return error(
            "beginning",
            f"the broker has deleted the first {total:,} records (partition {where}): an engine starts only"
            " from a snapshot that was taken after that",
            "keep the snapshot and its archives; set retention.ms and retention.bytes to -1, and deny DeleteRecords"
            " (the ACL operation Delete on the topic), before more records are deleted",
        )  # fmt: skip
    return ok("beginning", "the topic has all records from the first")
