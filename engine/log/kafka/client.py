"""Clients of Kafka: one configuration for all of them, the settings that are forced, and their errors as ours.

What kafka-python would do by default and must not: create a topic on the first request for it, start reading elsewhere
when an offset is gone, acknowledge what only one broker has.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, errors

from lastseen.engine.errors import InvalidSetting, LogError, LogUnavailable
from lastseen.engine.log.kafka import CLIENT_ID
from lastseen.engine.log.kafka.net_client import REFUSED, NetClient
from lastseen.engine.log.kafka.records import MAX_BATCH_BYTES
from lastseen.engine.log.kafka.secrets import guard_loggers, key_password, password_of, token_provider, without_secrets
from lastseen.engine.log.kafka.url import KafkaUrl

REQUEST_TIMEOUT_MS = 10_000
BOOTSTRAP_TIMEOUT_MS = 5_000
RECONNECT_MAX_MS = 1_000
"""A broker that was restarted is found again so soon; kafka-python's own limit is half a minute."""
MAX_REQUEST_BYTES = 8 * 1024 * 1024

_GIVE_UP_AT_ONCE = struct.pack("ii", 1, 0)
"""A lingering of 0 s: what has not left this machine when a socket is closed is thrown away (socket(7) of Linux)."""
FORCED_PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "allow_auto_create_topics": False,
    "linger_ms": 0,
    "batch_size": MAX_BATCH_BYTES,
    "max_request_size": MAX_REQUEST_BYTES,
    "metrics_enabled": False,
    # A producer is thrown away with what it has given up; else the kernel would go on sending that, for seconds, and a
    # caller who has learned that the outcome is unknown would look too early.
    "socket_options": [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_LINGER, _GIVE_UP_AT_ONCE),
    ],
}
FORCED_CONSUMER: dict[str, Any] = {
    "auto_offset_reset": "none",
    "enable_auto_commit": False,
    "allow_auto_create_topics": False,
    "group_id": None,
    "isolation_level": "read_uncommitted",
    "check_crcs": True,
    "max_poll_records": 1_000_000,
    "metrics_enabled": False,
}

_FORBIDDEN = (
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailedError,
)
_ABSENT = (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError)


class Unreachable(LogUnavailable):
    """No broker answers, now: worth another try. To callers it is the `LogUnavailable` that it is."""


def configuration(url: KafkaUrl) -> dict[str, Any]:
    """What every client is configured with. Raises `InvalidSetting` where a secret cannot be read."""
    settings: dict[str, Any] = {
        "bootstrap_servers": list(url.servers),
        "security_protocol": url.security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
    }
    if url.security_protocol in ("SSL", "SASL_SSL"):
        settings["ssl_context"] = _tls(url)
    if url.sasl_mechanism is not None:
        settings["sasl_mechanism"] = url.sasl_mechanism
        if url.sasl_mechanism == "OAUTHBEARER":
            provider = settings["sasl_oauth_token_provider"] = token_provider(url)
            # Here its failure is ours to tell; later kafka-python swallows it.
            provider.token()
        else:
            settings |= {"sasl_plain_username": url.username, "sasl_plain_password": password_of(url)}
    return settings


def _tls(url: KafkaUrl) -> ssl.SSLContext:
    """TLS 1.2 or newer; the broker must prove who it is. Raises `InvalidSetting`."""
    try:
        context = ssl.create_default_context(cafile=url.ssl_cafile)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if url.ssl_certfile is not None:
            password = key_password()
            context.load_cert_chain(url.ssl_certfile, url.ssl_keyfile, None if password is None else password.plain())
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            f"log {url}: ssl_cafile, ssl_certfile or ssl_keyfile cannot be used"
            f" ({without_secrets(str(error))}): give PEM files, and the key's password, if it has one, in"
            " LASTSEEN_KAFKA_KEY_PASSWORD"
        ) from None
    return context


def open_consumer(url: KafkaUrl, **settings: Any) -> KafkaConsumer:
    """A consumer that belongs to no group and resets nothing. Raises `LogError`."""
    return _open(KafkaConsumer, url, settings | FORCED_CONSUMER)


def open_member(url: KafkaUrl, group_id: str, **settings: Any) -> KafkaConsumer:
    """A consumer that is a member of a group and commits nothing. Raises `LogError`."""
    return _open(KafkaConsumer, url, settings | FORCED_CONSUMER | {"group_id": group_id})


def open_producer(url: KafkaUrl, **settings: Any) -> KafkaProducer:
    """A producer that loses and doubles nothing. Raises `LogError`."""
    return _open(KafkaProducer, url, settings | FORCED_PRODUCER)


def open_admin(url: KafkaUrl) -> KafkaAdminClient:
    """A client that makes and describes topics. Raises `LogError`."""
    return _open(KafkaAdminClient, url, {})


def _open(kind: Any, url: KafkaUrl, settings: dict[str, Any]) -> Any:
    made: list[NetClient] = []

    def make_net_client(**config: Any) -> NetClient:
        made.append(NetClient(None if kind is KafkaAdminClient else url.topic, **config))
        return made[-1]

    guard_loggers()
    try:
        return kind(**(configuration(url) | {"client_id": CLIENT_ID} | settings), kafka_client=make_net_client)
    except BaseException as error:
        # A client that failed to start leaves its thread behind.
        reason = error
        for client in made:
            reason = client.last_failure or reason
            client.close()
        if isinstance(error, errors.KafkaError | OSError):
            raise log_error(url, "cannot be opened", reason) from None
        raise


def log_error(url: KafkaUrl, doing: str, error: BaseException) -> LogError:
    """The typed error for what kafka-python, or the network, says. Nothing was written, and no secret is in it."""
    says = without_secrets(str(error))[:300]
    if isinstance(error, LogError):
        return error
    if isinstance(error, REFUSED):
        return LogUnavailable(
            f"log {url} {doing}: the broker refuses this client ({says}): check that username, password or token are"
            " right, and that the broker supports this sasl_mechanism"
        )
    if isinstance(error, _FORBIDDEN):
        return LogUnavailable(
            f"log {url} {doing}: this user is not authorised ({says}): give this user the rights READ, WRITE, DESCRIBE"
            " and DESCRIBE_CONFIGS on the topic, and IDEMPOTENT_WRITE on the cluster"
        )
    if isinstance(error, _ABSENT):
        return LogUnavailable(absent(url))
    return Unreachable(
        f"log {url} {doing}: {says}. Check that the broker is up, that the address is right, and that security_protocol"
        " and sasl_mechanism are those that it requires; then try again"
    )


def absent(url: KafkaUrl) -> str:
    """What is said of a topic that is not there."""
    return f"log {url}: the topic does not exist; make it with: lastseen topics create --log {url}"
