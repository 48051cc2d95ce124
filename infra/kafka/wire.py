"""Asks a broker two questions in Kafka's own protocol, by hand, so that no client library is needed to know it is up.

A port that accepts connections proves nothing: a broker opens it long before it can serve.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_API_VERSIONS, _METADATA = 18, 3
_CORRELATION = 7


class Broker(NamedTuple):
    """One broker of a cluster, as the broker that was asked knows it."""

    node_id: int
    host: str
    port: int


def brokers(address: str, timeout_s: float = 2.0) -> list[Broker]:
    """The brokers that are up, according to the one at `host:port`. Raises OSError when it does not answer."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
        try:
            (error,) = struct.unpack_from(">h", _ask(connection, _API_VERSIONS, version=0))
            if error:
                raise OSError(f"{address} answered ApiVersions with error {error}")
            return _read_brokers(_ask(connection, _METADATA, version=1, body=struct.pack(">i", 0)))
        except struct.error:
            raise OSError("an answer that is too short: what listens there is not a Kafka broker") from None


def _ask(connection: socket.socket, api: int, version: int, body: bytes = b"") -> bytes:
    request = struct.pack(">hhih", api, version, _CORRELATION, -1) + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    (length,) = struct.unpack(">i", _receive(connection, 4))
    if not 4 < length <= 1 << 20:
        raise OSError(f"an answer of {length} bytes: what listens there is not a Kafka broker")
    answer = _receive(connection, length)
    if struct.unpack_from(">i", answer) != (_CORRELATION,):
        raise OSError("an answer to another question: what listens there is not a Kafka broker")
    return answer[4:]


def _receive(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            raise ConnectionError("the connection was closed before the answer was complete")
        received += piece
    return received


def _read_brokers(answer: bytes) -> list[Broker]:
    (count,), at = struct.unpack_from(">i", answer), 4
    found = []
    for _ in range(count):
        node_id, length = struct.unpack_from(">ih", answer, at)
        at += 6
        host = answer[at : at + length].decode()
        at += length
        port, rack_length = struct.unpack_from(">ih", answer, at)
        at += 6 + max(0, rack_length)
        found.append(Broker(node_id, host, port))
    return found
