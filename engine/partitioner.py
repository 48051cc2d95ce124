"""Which partition a session key belongs to: Kafka's default rule, so that every client in every language agrees.

murmur2 with Kafka's seed over the key's UTF-8, sign bit cleared, modulo the number of partitions (the rule of
`org.apache.kafka.clients.producer.internals.BuiltInPartitioner`; murmur2 is Austin Appleby's, public domain).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=1_024)
def _words(count: int) -> Callable[[bytes], tuple[int, ...]]:
    """What takes so many words from the beginning of some bytes."""
    return struct.Struct(f"<{count}I").unpack_from


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of `data`, unsigned."""
    length = len(data)
    state = _SEED ^ length
    for word in _words(length // 4)(data):
        word = word * _MULTIPLIER & _MASK
        state = (state * _MULTIPLIER ^ (word ^ word >> 24) * _MULTIPLIER) & _MASK
    whole = length & ~3
    if whole != length:
        state ^= int.from_bytes(data[whole:], "little")
        state = state * _MULTIPLIER & _MASK
    state ^= state >> 13
    state = state * _MULTIPLIER & _MASK
    return state ^ state >> 15


def partition_of(key: str, partitions: int) -> int:
    """The partition of `key` among `partitions`."""
    return 0 if partitions == 1 else _partition_of(key, partitions)


@lru_cache(maxsize=65_536)
def _partition_of(key: str, partitions: int) -> int:
    return (murmur2(key.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF) % partitions
