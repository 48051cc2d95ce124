"""Where a Kafka log is, from its URL: `kafka://host:port[,host:port]/topic?options`. Never with a secret in it."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.log.port import MAX_PARTITIONS
from lastseen.engine.log.urls import split_url

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT")
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "PLAIN")
COMPRESSIONS = ("none", "lz4")
DEFAULT_PORT = 9092
DEFAULT_DELIVERY_TIMEOUT_MS = 30_000
FACTS, STATE = ".facts", ".state"
"""What the names of the topics beside the log's own end in."""
_topic = re.compile(r"[A-Za-z0-9._-]{1,243}")
_name = re.compile(r"[^\s\x00-\x1f\x7f/?#@:,\[\]]+")
_server_form = re.compile(rf"(?P<host>\[(?P<address>[^\]]*)\]|(?P<name>{_name.pattern}))(?::(?P<port>[0-9]{{0,5}}))?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaUrl:
    """A topic, and how to reach it. What is secret is named here (a file, a variable), but never held."""

    servers: tuple[str, ...]
    topic: str
    partitions: int | None = None
    """Checked against the topic's, if given."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    """For SCRAM and PLAIN; with OAUTHBEARER, the client id at the token endpoint."""
    password_file: str | None = None
    """Holds the password, or the client's secret; without it, LASTSEEN_KAFKA_PASSWORD does."""
    token_file: str | None = None
    """Holds a token for OAUTHBEARER; read again for each connection, so that it may be replaced."""
    token_url: str | None = None
    """Where OAUTHBEARER gets its tokens, for a client's credentials."""
    token_scope: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    compression: str = "none"
    delivery_timeout_ms: int = DEFAULT_DELIVERY_TIMEOUT_MS
    """By then an append has succeeded or failed."""

    def __str__(self) -> str:
        return f"kafka://{','.join(self.servers)}/{self.topic}"


OPTIONS = tuple(name for name in KafkaUrl.__dataclass_fields__ if name not in ("servers", "topic"))
"""What may be said in a URL beside the servers and the topic."""
_NUMBERS = {"partitions": (1, MAX_PARTITIONS), "delivery_timeout_ms": (1_000, 3_600_000)}
_CHOICES = {"security_protocol": PROTOCOLS, "sasl_mechanism": MECHANISMS, "compression": COMPRESSIONS}


def parse_kafka_url(url: str, partitions: int | None = None) -> KafkaUrl:
    """The topic that a URL names, and how to reach it. Raises `InvalidSetting`, whose text never has a secret in it."""
    parts = split_url(url)
    if "@" in url.partition("?")[0]:
        raise InvalidSetting(
            "log URL kafka://…: the URL must not contain a user or password; give username= as an option, and the"
            " password in the environment as LASTSEEN_KAFKA_PASSWORD, or in a file named by password_file="
        )
    servers = tuple(_server(parts.netloc, each) for each in parts.netloc.split(",")) if parts.netloc else ()
    topic = unquote(parts.path[1:])
    if not servers or not _topic.fullmatch(topic) or topic in (".", "..") or parts.fragment:
        raise InvalidSetting(
            f"log URL kafka://{shown(parts.netloc)[1:-1]}/{shown(topic)[1:-1]}: give kafka://host:9092/topic, with"
            " several hosts kafka://one:9092,two:9092/topic; a topic has 1 to 243 of the characters A-Z a-z 0-9 . _ -"
        )
    name = f"kafka://{parts.netloc}/{topic}"
    options = {"partitions": partitions} | _options(name, parts.query)
    parsed = KafkaUrl(servers=servers, topic=topic, **options)  # type: ignore[arg-type]
    _check(name, parsed)
    return parsed


def _server(netloc: str, text: str) -> str:
    """One of the servers, with its port. Names are in lower case, and an address of IPv6 is in brackets."""
    found = _server_form.fullmatch(text)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if found is None or not 0 < port < 65_536 or not _is_host(found["address"], found["name"]):
        raise InvalidSetting(f"log URL kafka://{shown(netloc)[1:-1]}: {shown(text)} is not host:port")
    return f"{found['host'].lower()}:{port}"


def _is_host(address: str | None, name: str | None) -> bool:
    if address is None:
        # A character that stands for one of a URL's own when it is normalised would name another host elsewhere.
        return name is not None and _name.fullmatch(unicodedata.normalize("NFKC", name)) is not None
    try:
        return bool(ipaddress.IPv6Address(address))
    except ValueError:
        return False


def _host(server: str) -> str:
    return server.rpartition(":")[0].strip("[]")


def _options(name: str, query: str) -> dict[str, object]:
    options: dict[str, object] = {}
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option not in OPTIONS:
            # The value is not shown: it may be a password put in the wrong place.
            raise InvalidSetting(
                f"log URL {name}: unknown option {shown(option)}; the options are: {', '.join(OPTIONS)}. Secrets belong"
                " in the environment (LASTSEEN_KAFKA_PASSWORD) or in files"
            )
        if option in _NUMBERS:
            least, most = _NUMBERS[option]
            if not value.isascii() or not value.isdecimal() or not least <= int(value) <= most:
                raise InvalidSetting(f"log URL {name}: {option} is a number from {least} to {most}")
            options[option] = int(value)
        elif option in _CHOICES:
            if value not in _CHOICES[option]:
                raise InvalidSetting(f"log URL {name}: {option} is one of {', '.join(_CHOICES[option])}")
            options[option] = value
        elif not value:
            raise InvalidSetting(f"log URL {name}: {option} is empty: give it a value, or leave it out")
        else:
            options[option] = value
    return options


def _check(name: str, url: KafkaUrl) -> None:
    """Refuse what contradicts itself, or would show a secret to the network."""
    is_sasl, is_tls = url.security_protocol.startswith("SASL"), url.security_protocol.endswith("SSL")
    mechanism = url.sasl_mechanism
    faults = {
        "sasl_mechanism goes with security_protocol=SASL_SSL": (mechanism is not None) != is_sasl,
        "SCRAM and PLAIN need username=": mechanism not in (None, "OAUTHBEARER") and url.username is None,
        "OAUTHBEARER needs token_file=, or token_url= and username= (the client's id)": mechanism == "OAUTHBEARER"
        and url.token_file is None
        and (url.token_url is None or url.username is None),
        "token_file, token_url and token_scope go with sasl_mechanism=OAUTHBEARER": mechanism != "OAUTHBEARER"
        and (url.token_file or url.token_url or url.token_scope) is not None,
        "username and password_file go with a sasl_mechanism": mechanism is None
        and (url.username or url.password_file) is not None,
        "ssl_cafile, ssl_certfile and ssl_keyfile go with security_protocol=SSL or SASL_SSL": not is_tls
        and (url.ssl_cafile or url.ssl_certfile or url.ssl_keyfile) is not None,
        "token_url= must be https://": url.token_url is not None and not _is_private(url.token_url),
        f"{mechanism} without TLS exposes the password or token to the network: use security_protocol=SASL_SSL": (
            mechanism in ("PLAIN", "OAUTHBEARER")
            and not is_tls
            and not all(_host(server) in _LOOPBACK for server in url.servers)
        ),
    }
    for fault, is_so in faults.items():
        if is_so:
            raise InvalidSetting(f"log URL {name}: {fault}")


def _is_private(url: str) -> bool:
    parts = urlsplit(url)
    return "@" not in parts.netloc and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )
