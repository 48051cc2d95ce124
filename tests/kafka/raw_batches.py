"""Record batches made by hand, and sent to a broker as they are: what no client library would send."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from crc32c import crc32c

from lastseen.engine.log.kafka.records import encode, encoded_headers
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Message
from tests.patience import PATIENCE_S

AT_MS = 1_700_000_000_000
MAGIC = 2
PRODUCE, PRODUCE_VERSION = 0, 7


def body_of(sent: Sequence[tuple[str, bytes]]) -> bytes:
    """The records of a batch, not compressed."""
    return encode([Message(0, key, value) for key, value in sent], encoded_headers([]))


def batch_of(body: bytes, count: int, codec: int) -> bytes:
    """A batch around a body that claims to be compressed by a codec; its checksum is right."""
    checked = struct.pack(">hiqqqhii", codec, count - 1, AT_MS, AT_MS, -1, -1, -1, count) + body
    return struct.pack(">qiibI", 0, len(checked) + 9, -1, MAGIC, crc32c(checked)) + checked


def produce(url: str, batch: bytes, partition: int = 0) -> tuple[int, int]:
    """Send a batch as it is: the broker's error code, and the offset of its first record."""
    kafka_url = parse_kafka_url(url)
    host, _, port = kafka_url.servers[0].rpartition(":")
    topic = kafka_url.topic.encode()
    request = struct.pack(">hhihhhi", PRODUCE, PRODUCE_VERSION, 1, -1, -1, -1, round(PATIENCE_S * 1000))
    request += struct.pack(">ih", 1, len(topic)) + topic + struct.pack(">iii", 1, partition, len(batch)) + batch
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answers.read(4))
        answer = answers.read(size)
    _, _, name_size = struct.unpack_from(">iih", answer)
    _, _, error, offset = struct.unpack_from(">iihq", answer, 10 + name_size)
    return error, offset
