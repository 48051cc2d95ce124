"""Kafka's own rule: every client, in every language, must find a key in the same partition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafkas

from lastseen.engine.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829), ("abc", 479470107),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)  # fmt: skip
def test_the_hashes_that_kafka_tests_its_own_by(text: str, signed: int) -> None:
    assert murmur2(text.encode()) == signed & 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_any_bytes_hash_as_in_another_client(data: bytes) -> None:
    assert murmur2(data) == kafkas(data) & 0xFFFFFFFF


@given(st.text(min_size=1), st.integers(1, 100))
def test_a_key_is_in_one_of_its_partitions(key: str, partitions: int) -> None:
    key = key.encode("utf-8", "ignore").decode() or "key"
    expected = (kafkas(key.encode()) & 0x7FFFFFFF) % partitions
    assert partition_of(key, partitions) == expected
