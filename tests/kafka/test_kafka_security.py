"""TLS, SCRAM and tokens against a broker that asks for them; and that no secret is ever shown."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from kafka_fixtures import OwnBroker
from kafka_topics import Open, message, new_topic, values

from infra.kafka.access import Access, Certificate
from infra.kafka.node import Node
from lastseen.engine import errors
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log
from lastseen.engine.log.kafka.secrets import (
    KEY_PASSWORD,
    PASSWORD,
    Secret,
    closing_quietly,
    guard_loggers,
    without_secrets,
)
from lastseen.engine.log.kafka.url import OPTIONS, parse_kafka_url
from lastseen.engine.log.port import Position
from tests.patience import PATIENCE_S, paced_s

SECRET = "correct-horse.battery/staple"
USER = "gateway"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def scram(own_kafka_broker: OwnBroker, certificate: Certificate) -> Node:
    return own_kafka_broker(access=Access("SCRAM-SHA-512", {USER: SECRET}, certificate))


@pytest.fixture
def tokens(own_kafka_broker: OwnBroker, certificate: Certificate) -> Node:
    return own_kafka_broker(access=Access("OAUTHBEARER", {}, certificate))


def secured(node: Node, certificate: Certificate, **options: str) -> str:
    """The URL of a new log by way of the listener that asks who we are."""
    plain = new_topic(node.address)
    settings = {"security_protocol": "SASL_SSL", "ssl_cafile": str(certificate.authority)} | options
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in settings.items() if value)
    return f"kafka://{node.secured_address}/{plain.rpartition('/')[2]}?{query}"


def token(lifetime_s: float = 3600, subject: str = USER) -> str:
    """An unsigned token, which the brokers of tests accept."""

    def coded(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    now_s = time.time()
    return f"{coded({'alg': 'none'})}.{coded({'sub': subject, 'iat': now_s, 'exp': now_s + lifetime_s})}."


def works(log: Any) -> bool:
    """Whether every client of a log gets through."""
    log.append([message("a"), message("b")])
    return bool(log.wait(Position(0, 1), PATIENCE_S)) and values(log) == [b"a", b"b"] and log.end_offsets() == [2]


class TokenEndpoint:
    """An OAuth 2.0 server for the grant of client credentials."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.asked: list[tuple[str | None, dict[str, list[str]]]] = []
        self.lifetime_s, self.status = 3600.0, 200
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                endpoint.asked.append((self.headers["Authorization"], parse_qs(form)))
                self.send_response(endpoint.status)
                self.end_headers()
                if endpoint.status == 200:
                    endpoint.given.append(token(endpoint.lifetime_s))
                    answer = {"access_token": endpoint.given[-1], "expires_in": endpoint.lifetime_s}
                    self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    server = TokenEndpoint()
    yield server
    server.close()


# ── who is let in ──


@pytest.mark.thorough
def test_scram_over_tls(
    opened: Open, scram: Node, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = secured(scram, certificate, sasl_mechanism="SCRAM-SHA-512", username=USER)
    monkeypatch.setenv(PASSWORD, SECRET)
    assert works(opened(url))
    monkeypatch.delenv(PASSWORD)
    with pytest.raises(errors.InvalidSetting, match=PASSWORD):
        opened(url)
    (tmp_path / "password").write_text(f"{SECRET}\n", encoding="utf-8")
    assert values(opened(f"{url}&password_file={tmp_path / 'password'}")) == [b"a", b"b"]
    # A client that is refused learns of it soon, and why.
    authority = f"&ssl_cafile={quote(str(certificate.authority), safe='')}"
    for changed, password, kind, says in (
        (url, "wrong", errors.LogUnavailable, "refuses this client"),
        (url.replace(f"={USER}", "=stranger"), SECRET, errors.LogUnavailable, "refuses this client"),
        (url.replace("SCRAM-SHA-512", "SCRAM-SHA-256"), SECRET, errors.LogUnavailable, "refuses this client"),
        (url.replace(authority, ""), SECRET, errors.LogUnavailable, "CERTIFICATE_VERIFY_FAILED"),
        (url.replace(authority, f"&ssl_cafile={__file__}"), SECRET, errors.InvalidSetting, "PEM files"),
        (f"{url}&ssl_certfile={certificate.authority}", SECRET, errors.InvalidSetting, "PEM files"),
    ):
        monkeypatch.setenv(PASSWORD, password)
        began = paced_s()
        with pytest.raises(kind, match=says) as refused:
            opened(changed)
        assert SECRET not in str(refused.value)
        assert paced_s() - began < 15
    # A client may show a certificate of its own, whose key may be locked.
    folder = certificate.authority.parent
    lock = ["openssl", "rsa", "-aes256", "-passout", "pass:locked", "-in", "node.key", "-out", "locked.key"]
    subprocess.run(lock, cwd=folder, check=True, capture_output=True)
    certified = f"{url}&ssl_certfile={folder}/node.pem&ssl_keyfile={folder}/"
    monkeypatch.setenv(KEY_PASSWORD, "wrong")
    with pytest.raises(errors.InvalidSetting, match=KEY_PASSWORD):
        opened(f"{certified}locked.key")
    monkeypatch.setenv(KEY_PASSWORD, "locked")
    for key in ("locked.key", "node.key"):
        assert values(opened(certified + key)) == [b"a", b"b"]
    plain = f"kafka://{scram.secured_address}/{parse_kafka_url(url).topic}"
    with pytest.raises(errors.LogUnavailable, match="security_protocol"):
        opened(plain)


@pytest.mark.thorough
def test_tokens_from_a_file_and_from_an_endpoint(
    opened: Open, tokens: Node, certificate: Certificate, endpoint: TokenEndpoint, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "token"
    file.write_text(token(), encoding="utf-8")
    by_file = secured(tokens, certificate, sasl_mechanism="OAUTHBEARER", token_file=str(file))
    assert works(opened(by_file))
    file.write_text("rubbish", encoding="utf-8")
    with pytest.raises(errors.LogUnavailable):
        opened(by_file)

    monkeypatch.setenv(PASSWORD, SECRET)
    by_endpoint = secured(
        tokens, certificate, sasl_mechanism="OAUTHBEARER", token_url=endpoint.url, username=USER, token_scope="kafka"
    )
    assert works(opened(by_endpoint))
    basic = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    assert endpoint.asked[0] == (f"Basic {basic}", {"grant_type": ["client_credentials"], "scope": ["kafka"]})
    endpoint.status = 401
    with pytest.raises(errors.LogUnavailable, match=r"token endpoint .* returned no token \(HTTP 401\)"):
        opened(by_endpoint)


@pytest.mark.thorough
def test_a_token_is_asked_for_again_before_it_runs_out(
    opened: Open, tokens: Node, certificate: Certificate, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lastseen.engine.log.kafka.secrets import token_provider

    monkeypatch.setenv(PASSWORD, SECRET)
    url = secured(tokens, certificate, sasl_mechanism="OAUTHBEARER", token_url=endpoint.url, username=USER)
    provider = token_provider(parse_kafka_url(url))
    assert provider.token() == provider.token()
    assert len(endpoint.given) == 1, "a token is used as long as it lasts"
    endpoint.lifetime_s = 0.0
    short = token_provider(parse_kafka_url(url))
    assert short.token() != short.token()


@pytest.mark.thorough
def test_a_log_outlives_its_tokens(
    opened: Open, tokens: Node, certificate: Certificate, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, SECRET)
    endpoint.lifetime_s = 4.0
    url = secured(tokens, certificate, sasl_mechanism="OAUTHBEARER", token_url=endpoint.url, username=USER)
    log = opened(url)
    assert works(log)
    began, sent = time.monotonic(), 2
    while time.monotonic() - began < 10:  # over several lives of a token
        assert log.append([message(str(sent))]) == [Position(0, sent)]
        sent += 1
        assert log.end_offsets() == [sent]
        assert log.await_growth([sent], 0.05) == [sent]
    assert log.writer.producers == 1
    assert len(values(opened(url))) == sent
    assert len(endpoint.given) > 10


# ── what is never shown ──


@pytest.mark.thorough
def test_no_secret_is_shown(
    opened: Open, scram: Node, certificate: Certificate, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, endpoint: TokenEndpoint,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    url = secured(scram, certificate, sasl_mechanism="SCRAM-SHA-512", username=USER)
    monkeypatch.setenv(PASSWORD, SECRET)
    log = opened(url)
    assert works(log)
    for thing in (log, log._url, log._lookup, log.writer, vars(log), log._lookup._admin.config,
                  log._lookup._fetch._consumer.config, log.writer._producer._producer.config):  # fmt: skip
        shown += [repr(thing), str(thing)]
    monkeypatch.setenv(PASSWORD, f"{SECRET}-wrong")
    with pytest.raises(errors.LogUnavailable) as refused:
        opened(url)
    shown += traceback.format_exception(refused.value)
    for wrong in (
        f"kafka://{USER}:{SECRET}@host:9092/topic", f"{url}&password={SECRET}", f"{url}&sasl_password={SECRET}",
        f"kafka://{USER}:{SECRET}@host/topic#x", f"kafka://{USER}:{SECRET}@/", f"kafka:{USER}:{SECRET}@x",
    ):  # fmt: skip
        with pytest.raises(errors.InvalidSetting) as invalid:
            open_log(wrong, SystemClock())
        shown += traceback.format_exception(invalid.value)
        assert SECRET not in str(invalid.value), wrong
    log.close()
    printed = [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    assert any("Starting KafkaAdminClient with configuration" in line for line in printed), "the filter was tried"
    assert any("SaslAuthenticate" in line for line in printed)
    assert [line for line in [*printed, *shown] if SECRET in line and "monkeypatch" not in line] == []


@pytest.mark.thorough
def test_no_token_is_shown(
    opened: Open, tokens: Node, certificate: Certificate, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, endpoint: TokenEndpoint,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(PASSWORD, SECRET)
    log = opened(secured(tokens, certificate, sasl_mechanism="OAUTHBEARER", token_url=endpoint.url, username=USER))
    assert works(log)
    log.close()
    secrets = [*endpoint.given, SECRET, base64.b64encode(f"{USER}:{SECRET}".encode()).decode()]
    assert endpoint.given
    printed = [record.getMessage() for record in caplog.records]
    assert any("auth=Bearer ***" in line for line in printed), "the filter was tried"
    assert [line for line in printed for secret in secrets if secret in line] == []


@pytest.mark.parametrize("text", ["plain", "with 'quotes' \"both\"", "back\\slash", "пароль", "a\tb", "x" * 300])
def test_a_secret_is_redacted_however_it_is_printed(text: str, caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(text)
    assert secret.plain() == text
    assert len(secret) == len(text)
    for printed in (f"{secret}", str(secret), repr(secret), "%s" % secret, "%r" % [secret], str({"password": secret})):  # noqa: UP031
        assert text not in printed
    guard_loggers()
    caplog.set_level(logging.DEBUG)
    for line in (f"to {text}!", f"to {text!r}", f"to {text.encode()!r}", f"to {[text]}"):
        assert "***" in without_secrets(line)
        logging.getLogger("kafka.net.connection").debug("%s", line)
        logging.getLogger("kafka.net.connection").debug(line.replace("%", "%%"))
    assert all("***" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("thread", "is_logged"), [("kafka-io-lastseen@127.0.0.1:8001", False), ("kafka-io-their-own", True)]
)
def test_while_a_client_of_ours_closes_the_warnings_of_others_are_logged(
    thread: str, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    guard_loggers()
    logger = logging.getLogger("kafka.net.connection")

    def warn() -> None:
        beside = threading.Thread(target=logger.warning, args=("a connection was lost",), name=thread)
        beside.start()
        beside.join()

    with closing_quietly():
        with closing_quietly():
            logger.warning("a connection of ours was lost")
        logger.warning("another one, too")
        warn()
    assert caplog.messages == ["a connection was lost"] * is_logged
    warn()
    logger.warning("later")
    assert caplog.messages[is_logged:] == ["a connection was lost", "later"]


# ── what a URL may say ──


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://", "host:9092/topic"), ("kafka:///topic", "host:9092/topic"), ("kafka://host", "host:9092/topic"),
        ("kafka://host/", "host:9092/topic"), ("kafka://host/a/b", "host:9092/topic"),
        ("kafka://host/a b", "characters"),
        ("kafka://host/..", "characters"), ("kafka://host:port/topic", "is not host:port"),
        ("kafka://a,,b/topic", "is not host:port"),
        ("kafka://host/" + "x" * 244, "243"), ("kafka:host/topic", "host:9092/topic"),
        ("kafka://host/t?partitions=0", "partitions is a number"), ("kafka://host/t?partitions=x", "partitions"),
        ("kafka://host/t?delivery_timeout_ms=5", "from 1000"), ("kafka://host/t?compression=zstd", "none, lz4"),
        ("kafka://host/t?acks=1", "unknown option 'acks'"), ("kafka://host/t?username=", "empty"),
        ("kafka://host/t?security_protocol=TLS", "one of PLAINTEXT"),
        ("kafka://host/t?sasl_mechanism=SCRAM-SHA-512&username=a", "security_protocol=SASL_SSL"),
        ("kafka://host/t?security_protocol=SASL_SSL", "sasl_mechanism goes with"),
        ("kafka://host/t?security_protocol=SASL_SSL&sasl_mechanism=SCRAM-SHA-512", "need username"),
        ("kafka://host/t?security_protocol=SASL_SSL&sasl_mechanism=OAUTHBEARER", "needs token_file"),
        (
            "kafka://host/t?security_protocol=SASL_SSL&sasl_mechanism=OAUTHBEARER&token_url=http://idp/&username=a",
            "https",
        ),
        ("kafka://host/t?security_protocol=SASL_PLAINTEXT&sasl_mechanism=OAUTHBEARER&token_file=f", "without TLS"),
        ("kafka://host/t?security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN&username=a", "without TLS"),
        ("kafka://host/t?ssl_cafile=ca.pem", "go with security_protocol"),
        ("kafka://host/t?username=a", "go with a sasl_mechanism"), ("kafka://host/t?token_file=f", "OAUTHBEARER"),
    ],
)  # fmt: skip
def test_a_url_that_says_nothing_sensible_is_refused(url: str, says: str) -> None:
    with pytest.raises(errors.InvalidSetting, match=says):
        open_log(url, SystemClock())


def test_every_option_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "kafka-url.md").read_text(encoding="utf-8")
    assert [option for option in OPTIONS if f"`{option}`" not in page] == []
    assert f"`{PASSWORD}`" in page
    assert f"`{KEY_PASSWORD}`" in page


def test_a_url_is_read() -> None:
    kafka_url = parse_kafka_url(
        "kafka://one,two:9093,[::1]:9094/my.topic?partitions=3&compression=lz4&delivery_timeout_ms=5000"
    )
    assert kafka_url.servers == ("one:9092", "two:9093", "[::1]:9094")
    assert (kafka_url.topic, kafka_url.partitions, kafka_url.compression, kafka_url.delivery_timeout_ms) == (
        "my.topic",
        3,
        "lz4",
        5_000,
    )
    assert str(kafka_url) == "kafka://one:9092,two:9093,[::1]:9094/my.topic"
    assert KEY_PASSWORD.startswith("LASTSEEN_")
