"""Three services that hold what they own, six callers with all addresses: one service is killed, one is frozen.

Every answer is checked: a read reflects what its caller has written, an acknowledged message is there once, one whose
outcome is unknown at most once, and one that was refused not at all. And calls resume on the services that live.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kafka_topics import new_url

from lastseen import Client
from lastseen.engine.errors import LogUnavailable, NotOwner, OutcomeUnknown
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S
from tests.service.running import Running, wait_until

PARTITIONS = 6
CALLERS = 6
KEYS_EACH = 10
CALL_S = 20.0
"""Longer than Kafka waits for an engine that is dead (10 s)."""
_logger = logging.getLogger(__name__)


class Caller:
    """Writes to keys of its own, and checks what it is answered. One thread uses it."""

    def __init__(self, number: int, addresses: list[str]) -> None:
        self.client = Client(addresses, timeout=CALL_S, try_timeout=2.0)
        self.keys = [f"caller-{number}:{key}" for key in range(KEYS_EACH)]
        self.faults: list[str] = []
        """What was answered wrongly."""
        self.rounds = 0
        """How often each key had a call of each kind answered, one way or the other."""
        self.refused = 0
        self.longest_s = 0.0
        """The longest call that was answered."""
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        self.unknown: dict[str, set[int]] = defaultdict(set)
        self._versions = dict.fromkeys(self.keys, 0)
        self._ids: dict[str, str] = {}
        self._next = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"caller-{number}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the call that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for key in self.keys:
                    self._call(key)
                self.rounds += 1
        except BaseException as error:
            self.faults.append(f"ended by {error!r}")
            raise

    def _call(self, key: str) -> None:
        for kind in (self._open, self._say, self._touch, self._say, self._read):
            self._next += 1
            while not self._stop.is_set():
                began_s = time.monotonic()
                try:
                    kind(key)
                except (NotOwner, LogUnavailable):
                    self.refused += 1  # nothing was done; the checks at the end hold it to that
                    continue
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
                break

    def _open(self, key: str) -> None:
        session = self.client.open(key)
        self._seen(key, session.session_id, session.version)

    def _touch(self, key: str) -> None:
        session = self.client.touch(key)
        assert session is not None
        self._seen(key, session.session_id, session.version)

    def _say(self, key: str) -> None:
        message = self._next
        try:
            session = self.client.touch(key, message=message)
        except OutcomeUnknown:
            self.unknown[key].add(message)
            return
        assert session is not None
        self.acknowledged[key].add(message)
        self._seen(key, session.session_id, session.version)

    def _read(self, key: str) -> None:
        session = self.client.get(key)
        if session is None:
            self.faults.append(f"{key}: a read found no session")
        else:
            self._seen(key, session.session_id, session.version)

    def _seen(self, key: str, session_id: str, version: int) -> None:
        if self._ids.setdefault(key, session_id) != session_id:
            self.faults.append(f"{key}: another session")
        if version < self._versions[key]:
            self.faults.append(f"{key}: version {version} after {self._versions[key]}")
        self._versions[key] = max(version, self._versions[key])

    def check_messages(self) -> None:
        """Compare what is stored with what was answered."""
        for key in self.keys:
            stored = [message.value for message in self.client.messages(key)]
            if len(stored) != len(set(stored)):
                self.faults.append(f"{key}: a message is there twice: {stored}")
            if lost := self.acknowledged[key] - set(stored):
                self.faults.append(f"{key}: acknowledged and lost: {lost}")
            if others := set(stored) - self.acknowledged[key] - self.unknown[key]:
                self.faults.append(f"{key}: refused and stored: {others}")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    return port


@pytest.fixture
def services(kafka_broker: SharedBroker, tmp_path: Path) -> Iterator[dict[str, Running]]:
    """Three services that share the partitions, by their addresses."""
    url = new_url(kafka_broker.address, PARTITIONS)
    with ExitStack() as stack:
        running: dict[str, Running] = {}
        for port in (free_port() for _ in range(3)):
            settings = {"view": "owned", "address": f"127.0.0.1:{port}", "snapshot": ":memory:"}
            options = [each for name, value in settings.items() for each in ("--set", f"{name}={value}")]
            service = Running(tmp_path, "--log", url, "--port", str(port), *options)
            running[f"http://127.0.0.1:{port}"] = stack.enter_context(service)
        for service in running.values():
            service.address()
        yield running


@pytest.fixture
def callers(services: dict[str, Running]) -> Iterator[list[Caller]]:
    """Six callers, each of which knows all addresses; the first of them differs."""
    addresses = list(services)
    made = [Caller(number, addresses[number % 3 :] + addresses[: number % 3]) for number in range(CALLERS)]
    for caller in made:
        caller.start()
    yield made
    for caller in made:
        caller.stop()
        caller.client.shutdown()


def all_get_through(callers: list[Caller], what: str) -> None:
    """Wait until each caller had every kind of call answered for every key, begun after this."""
    # The round that is under way began before.
    wanted = [caller.rounds + 2 for caller in callers]
    wait_until(lambda: all(c.rounds >= w for c, w in zip(callers, wanted, strict=True)) or faults_of(callers), what)
    assert not faults_of(callers)


def faults_of(callers: list[Caller]) -> list[str]:
    """All that was answered wrongly."""
    return [fault for caller in callers for fault in caller.faults]


@pytest.mark.thorough
def test_calls_resume_on_the_services_that_live_and_no_answer_is_wrong(
    services: dict[str, Running], callers: list[Caller]
) -> None:
    killed, frozen, _ = services.values()
    all_get_through(callers, "all callers are served")
    killed.process.kill()
    all_get_through(callers, "all callers are served after one service was killed")
    frozen.process.send_signal(signal.SIGSTOP)
    try:
        all_get_through(callers, "all callers are served while one service is frozen")
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    all_get_through(callers, "all callers are served after it goes on")
    for caller in callers:
        caller.stop()
        caller.check_messages()
    assert not faults_of(callers)
    _logger.info(
        "rounds %s, longest call %.1f s, outcomes unknown %d, refused %d",
        [caller.rounds for caller in callers],
        max(caller.longest_s for caller in callers),
        sum(len(messages) for caller in callers for messages in caller.unknown.values()),
        sum(caller.refused for caller in callers),
    )
