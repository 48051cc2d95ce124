"""The rows of a snapshot, and how each is sealed against damage: a CRC-32 of itself and of its place."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from lastseen.engine.session import Policy

PARTITION_BITS = 48
CRC_MASK = 0xFFFF_FFFF


class Damaged(Exception):
    """What a snapshot file says cannot be right. Caught where another file, or the log, can take its place."""


class SessionRow(msgspec.Struct, array_like=True, gc=False):
    """A session as it is stored. Fields are only ever added, at the end."""

    key: str
    session_id: str
    policy: int
    created_at_ms: int
    last_active_at_ms: int
    last_active_offset: int
    version: int
    suspended_at_ms: int | None
    suspended_ms: int
    leases: dict[str, int] | None
    owner: str | None


class PartitionRow(msgspec.Struct, array_like=True):
    """A partition as it is stored. Fields are only ever added, at the end."""

    checkpoint: int
    digest: bytes
    importing: bool
    log_time_ms: int
    endings_total: int
    sessions: int
    counts: dict[str, Any]
    outbox_floor: int = 0
    """The outbox holds what is not published yet, from this offset on."""
    log_id: str | None = None
    """Of the log's genesis record."""
    log_partitions: int = 0
    published: int | None = 0
    """Before this offset every effect was published; `None` where the engine does not publish, and does not know."""


decode_session = msgspec.msgpack.Decoder(SessionRow).decode
decode_partition = msgspec.msgpack.Decoder(PartitionRow).decode
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode


def sealed(value: Any, *beside: Any) -> bytes:
    """`value` packed, with a checksum before it, of itself and of what stands beside it in its row."""
    packed = pack(value)
    return zlib.crc32(packed, zlib.crc32(pack(beside))).to_bytes(4, "big") + packed


def unsealed(state: Any, *beside: Any) -> bytes:
    """What `sealed` packed. Raises `Damaged` where the checksum is another."""
    if not isinstance(state, bytes) or zlib.crc32(state[4:], zlib.crc32(pack(beside))).to_bytes(4, "big") != state[:4]:
        raise Damaged("a row's checksum is wrong")
    return state[4:]


def session_row(row: int, state: bytes) -> tuple[int, bytes, int]:
    """A packed session's row. There are many, so the checksum has a column of its own: reading it costs least so."""
    return row, state, zlib.crc32(state, row & CRC_MASK)


def ending_row(row: int, session_id: str) -> tuple[int, str, int]:
    """The row of a session that has ended."""
    return row, session_id, zlib.crc32(session_id.encode("utf-8"), row & CRC_MASK)


def policy_number(policy: Policy) -> int:
    """The number of a policy in the snapshot: 63 bits of its SHA-256, so that all engines give it the same."""
    return int.from_bytes(hashlib.sha256(pack(policy)).digest()[:8], "big") >> 1


def row_of(partition: int, offset: int) -> int:
    """The integer that names a session, or an ending, in the snapshot."""
    return partition << PARTITION_BITS | offset


def packed(values: Iterable[tuple[int, Any]]) -> list[tuple[int, bytes]]:
    """Numbered values, each sealed."""
    return [(number, sealed(value)) for number, value in values]
