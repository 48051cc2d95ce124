"""Log URLs are read the same by every Python: `urlsplit` refuses a list with an IPv6 address in newer ones."""

from __future__ import annotations

import pytest

from lastseen.engine.errors import InvalidSetting
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.urls import split_url


@pytest.mark.parametrize(
    ("servers", "read"),
    [
        ("one", ["one:9092"]),
        ("One.Example:1,two:65535", ["one.example:1", "two:65535"]),
        ("one,two:9093,[::1]:9094", ["one:9092", "two:9093", "[::1]:9094"]),
        ("[::1],[2001:DB8::2]:9093,three", ["[::1]:9092", "[2001:db8::2]:9093", "three:9092"]),
        ("[fe80::1%eth0]:9092,127.0.0.1:", ["[fe80::1%eth0]:9092", "127.0.0.1:9092"]),
        ("bücher.example", ["bücher.example:9092"]),
    ],
)
def test_a_list_of_servers_is_read(servers: str, read: list[str]) -> None:
    assert list(parse_kafka_url(f"kafka://{servers}/topic").servers) == read


@pytest.mark.parametrize(
    "servers",
    [
        "one,", ",one", "one,,two", "one:x", "one:65536", "one:0", "one:-1", "one:²", "one:9092:9093", ":9092",
        "[]", "[::1", "::1]", "[one]:9092", "[127.0.0.1]:9092", "[::1]x:9092", "x[::1]:9092", "::1:9092",
        "on e", "one\ttwo", "one\n", "a／b",
    ],
)  # fmt: skip
def test_what_is_no_server_is_refused(servers: str) -> None:
    with pytest.raises(InvalidSetting, match="is not host:port"):
        parse_kafka_url(f"kafka://good:9092,{servers}/topic")


def test_only_what_stands_before_the_path_is_the_list() -> None:
    parts = split_url("kafka://one,[::1]:9094?partitions=3#part")
    assert (parts.scheme, parts.netloc, parts.path) == ("kafka", "one,[::1]:9094", "")
    assert (parts.query, parts.fragment) == ("partitions=3", "part")


def test_the_log_on_loopback_may_have_a_password_without_tls() -> None:
    options = "security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN&username=ana"
    assert parse_kafka_url(f"kafka://localhost,[::1]:9094/topic?{options}").sasl_mechanism == "PLAIN"
    with pytest.raises(InvalidSetting, match="without TLS"):
        parse_kafka_url(f"kafka://localhost,[::2]:9094/topic?{options}")
