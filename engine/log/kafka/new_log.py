"""A new log in a topic: its topics, and the genesis record of each partition.

Theory of operation. Making topics and writing to each partition are many steps, and any of them may be the last. So
what is found is completed: topics that are there stay, and a partition gets a genesis record if it is empty. The id of
the log is that of the topic, so two programs that make it at the same moment write the same; the later record is void.
"""

from __future__ import annotations

from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LogCorrupt, LogMismatch, NoGenesis
from lastseen.engine.genesis import check_genesis, genesis_of, genesis_records
from lastseen.engine.log.kafka.log import KafkaLog
from lastseen.engine.log.kafka.topic import NewTopics, Topic, create
from lastseen.engine.log.kafka.url import KafkaUrl


def create_log(url: KafkaUrl, wanted: NewTopics, *, for_import: bool = False) -> list[tuple[Topic, bool]]:
    """Make the topics of a log, or complete them; each topic with whether it was made.

    With `for_import` the log's topic is left without genesis records: an import writes its own. Raises what
    `topic.create` does, `NoGenesis` where a partition begins with another record, and `LogMismatch` where an import has
    begun to fill the topic.
    """
    made = create(url, wanted)
    if not for_import:
        write_genesis(url)
    return made


def write_genesis(url: KafkaUrl) -> int:
    """Write the genesis record of each partition that is empty; returns how many. Raises like `create_log`."""
    log = KafkaLog(url)
    try:
        ends = log.end_offsets()
        log_id = _log_id(url, log, ends)
        records = genesis_records(log_id, log.partitions, SystemClock().now_ms())
        missing = [message for message in records if not ends[message.partition]]
        log.append(missing)
        check_genesis(log)  # another program may have been faster, with another record
        return len(missing)
    finally:
        log.close()


def _log_id(url: KafkaUrl, log: KafkaLog, ends: list[int]) -> str:
    """The id that the partitions with records name; that of the topic where all are empty."""
    log_id = log.identity
    for number in (number for number, end in enumerate(ends) if end):
        try:
            (first,) = log.read(number, 0, 1)
        except (LogMismatch, LogCorrupt):
            continue  # its beginning was deleted: it is no new partition
        says = genesis_of(first)
        if says is None:
            raise NoGenesis(
                f"log {url}: partition {number} holds records and does not begin with a genesis record, so"
                " no log can be made of it. Delete the topic and make it again, or give another name"
            )
        if says.partitions != log.partitions:
            raise LogMismatch(
                f"log {url} has {log.partitions} partitions, and the genesis record of partition {number} says"
                f" {says.partitions}: partitions cannot be added to a log, since keys would move. Copy it into a new"
                " topic with lastseen log copy"
            )
        if says.imports and not all(ends):
            raise LogMismatch(
                f"log {url}: an import has begun to fill it, by the genesis record of partition {number}."
                " Start the import again: it continues"
            )
        log_id = says.log_id
    return log_id
