"""Logs, and how to open one by its URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote

from lastseen.engine.clock import Clock
from lastseen.engine.errors import InvalidSetting, UnsupportedLibrary, shown
from lastseen.engine.log.port import MAX_PARTITIONS, Log
from lastseen.engine.log.urls import split_url, unknown_scheme

_NOT_HERE = {"postgresql": "PostgreSQL"}


def open_log(
    url: str,
    clock: Clock,
    *,
    partitions: int | None = None,
    genesis: bool = True,
    write_only: bool = False,
    read_only: bool = False,
) -> Log:
    """The log at `url`: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db` or `kafka://host:9092/topic`.

    A file is made if need be, a topic is not (`lastseen topics create`). A file or memory without a record gets its
    genesis records, unless `genesis` is false: an import writes its own. With `write_only`, a log that lacks one is
    refused without anything being opened for reading: an event must not take its place. With `read_only`, a file is
    opened without any right to write, and appends to it are refused; it must exist.

    `?partitions=N`, or `partitions`, is the number of partitions of a log that is made (1), and is checked against that
    of one that exists. Raises `InvalidSetting` for a URL that names no log, and the log's own errors.
    """
    if isinstance(url, str) and url.startswith("kafka:"):
        # First, and by itself: what is wrong with it is said without showing what may be a secret.
        from lastseen.engine.log.kafka import SUPPORTED_LIBRARY
        from lastseen.engine.log.kafka.url import parse_kafka_url

        kafka_url = parse_kafka_url(url, partitions)
        try:
            from lastseen.engine.log.kafka.facts_and_states import KafkaFactPublisher
            from lastseen.engine.log.kafka.log import KafkaLog
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "kafka":
                raise
            raise UnsupportedLibrary(
                f"log {kafka_url} needs kafka-python: {error}. Install a supported version with: pip install"
                f" '{SUPPORTED_LIBRARY}'"
            ) from error
        return KafkaLog(kafka_url, fact_publisher=KafkaFactPublisher, write_only=write_only)
    from lastseen.engine.genesis import check_begun

    log = _open_here(url, clock, partitions, genesis, read_only)
    try:
        if write_only:
            check_begun(log.end_offsets())
    except BaseException:
        log.close()
        raise
    return log


def _open_here(url: str, clock: Clock, partitions: int | None, genesis: bool, read_only: bool) -> Log:
    """The log of this machine at `url`."""
    if not isinstance(url, str) or "://" not in url:
        raise InvalidSetting(
            f"log URL {shown(url)}: give memory://, sqlite:///path/to/file.db or kafka://host:9092/topic"
        )
    parts = split_url(url)
    if parts.fragment:
        raise InvalidSetting(
            f"log URL {shown(url)}: a URL of a log has no fragment; for a `#` in the file's name write %23"
        )
    chosen = _options(url, parts.query).get("partitions", partitions)
    if chosen is not None and (type(chosen) is not int or not 1 <= chosen <= MAX_PARTITIONS):
        raise InvalidSetting(f"partitions: {shown(chosen)} is not a whole number from 1 to {MAX_PARTITIONS}")
    if parts.scheme == "memory":
        from lastseen.engine.log.memory import MemoryLog

        if parts.netloc or parts.path:
            raise InvalidSetting(f"log URL {shown(url)}: memory:// takes no path")
        return MemoryLog(clock, partitions=chosen or 1, genesis=genesis)
    if parts.scheme == "sqlite":
        path = unquote(parts.path[1:])
        if parts.netloc or not path:
            raise InvalidSetting(f"log URL {shown(url)}: give sqlite:///relative.db or sqlite:////absolute.db")
        if read_only:
            from lastseen.engine.log.sqlite.reader import SqliteLogReader

            return SqliteLogReader(path)
        # Importing eventsourcing takes a moment and patches `dataclasses`: only those who use it pay.
        from lastseen.engine.log.sqlite.log import SqliteLog

        return SqliteLog(path, clock, partitions=chosen, genesis=genesis)
    if parts.scheme in _NOT_HERE:
        raise InvalidSetting(
            f"log URL {shown(url)}: logs on {_NOT_HERE[parts.scheme]} are not supported by this version"
        )
    raise InvalidSetting(f"log URL: {unknown_scheme(parts)}")


def _options(url: str, query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "partitions":
            raise InvalidSetting(f"log URL {shown(url)}: unknown option {shown(name)}; the options are: partitions")
        if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= MAX_PARTITIONS:
            raise InvalidSetting(f"log URL {shown(url)}: partitions is a number from 1 to {MAX_PARTITIONS}")
        options[name] = int(value)
    return options
