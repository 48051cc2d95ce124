"""A broker that hangs under engines, and resumes later: callers get true outcomes in time, and readers notice nothing.

`test_kafka_outage.py` holds the same of a log alone; here are the engines, their callers and their readers.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka_fixtures import OwnBroker

import lastseen
from infra.kafka.node import Node
from lastseen.engine.errors import LogError, LogUnavailable, OutcomeUnknown
from tests.kafka.kafka_topics import eventually, new_url
from tests.kafka.test_engines_outage import PARTITIONS, Callers, check
from tests.kafka.test_kafka_outage import java_of
from tests.patience import paced_s

pytestmark = pytest.mark.thorough

TIMEOUT_S = 4.0
"""By then an append has succeeded or failed (`delivery_timeout_ms`)."""
HANGS_S = 9.0
SLACK_S = 6.0
"""For a machine that has other things to do, and for a call that needs two appends."""
READ_WITHIN_S = 1.0
_logger = logging.getLogger(__name__)


@contextmanager
def hanging(broker: Node) -> Iterator[None]:
    """In the block the broker is stopped: its connections stay open, and nothing is answered."""
    assert broker.pid is not None
    pid = java_of(broker.pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Timed(Callers):
    """Callers, and how long the slowest call took until it was answered, whatever the answer was."""

    slowest_s = 0.0

    def _use(self, engine: lastseen.Engine, key: str, number: int) -> None:
        began_s = paced_s()
        try:
            super()._use(engine, key, number)
        finally:
            self.slowest_s = max(self.slowest_s, paced_s() - began_s)


class Reads(threading.Thread):
    """A reader, and how long the slowest read took."""

    def __init__(self, engine: lastseen.Engine, key: str) -> None:
        super().__init__(daemon=True)  # where the test fails, nothing stops it
        self.engine, self.key, self.is_over = engine, key, threading.Event()
        self.slowest_s, self.count = 0.0, 0
        self.surprises: list[str] = []

    def run(self) -> None:
        while not self.is_over.wait(0.01):
            began_s = paced_s()
            try:
                assert self.engine.get(self.key) is not None
                assert self.engine.list(limit=5).sessions
            except BaseException as error:
                self.surprises.append(repr(error))
            self.slowest_s = max(self.slowest_s, paced_s() - began_s)
            self.count += 1


def test_engines_outlast_a_broker_that_hangs_and_no_caller_waits_forever(own_kafka_broker: OwnBroker) -> None:
    broker = own_kafka_broker()
    plain = new_url(broker.address, PARTITIONS)
    url = f"{plain}?delivery_timeout_ms={TIMEOUT_S * 1000:.0f}"
    with lastseen.open_engine(url) as one, lastseen.open_engine(url) as two:
        one.open("read", attributes={"a": 1})
        assert eventually(lambda: two.get("read") is not None)
        reads = [Reads(one, "read"), Reads(two, "read")]
        with Timed([one, two]) as callers:
            assert callers.goes_on()
            for each in reads:
                each.start()
            failed = callers.failed
            with hanging(broker):
                stopped_s = paced_s()
                with pytest.raises((OutcomeUnknown, LogUnavailable)):
                    one.touch("read")
                # The leader may be waiting for its record, after another reader; only then is it our turn.
                assert paced_s() - stopped_s < 3 * TIMEOUT_S + SLACK_S, "a caller returns in time"
                assert eventually(lambda: one.health() and two.health(), HANGS_S), "what goes wrong is said"
                threading.Event().wait(max(0.0, HANGS_S - (paced_s() - stopped_s)))
                failures = callers.failed - failed
            for each in reads:
                each.is_over.set()
                each.join()
            assert callers.goes_on(), [each.health() for each in (one, two)]
        _logger.info(
            "hung for %.0f s: %d calls refused or unknown, slowest %.1f s; reads: %d, slowest %.3f s",
            HANGS_S, failures, callers.slowest_s, sum(each.count for each in reads),
            max(each.slowest_s for each in reads),
        )  # fmt: skip
        assert failures > 0
        assert callers.slowest_s < 3 * TIMEOUT_S + SLACK_S
        for each in reads:
            assert each.surprises == []
            assert each.count > 100
            assert each.slowest_s < READ_WITHIN_S
        assert eventually(lambda: _touches(one))
        check(plain, [one, two], callers)


def test_an_engine_cannot_be_opened_on_a_broker_that_hangs_and_says_so(own_kafka_broker: OwnBroker) -> None:
    broker = own_kafka_broker()
    url = new_url(broker.address)
    with lastseen.open_engine(url) as engine:
        engine.open("kept")
    with hanging(broker):
        began_s = paced_s()
        with pytest.raises(LogUnavailable, match=r"broker is up"):
            lastseen.open_engine(url)
        assert paced_s() - began_s < 60
        _logger.info("refused to open after %.1f s", paced_s() - began_s)
    assert eventually(lambda: _opens(url))


def _touches(engine: lastseen.Engine) -> bool:
    try:
        return engine.touch("read") is not None
    except LogError:
        return False


def _opens(url: str) -> bool:
    try:
        with lastseen.open_engine(url) as engine:
            return engine.get("kept") is not None
    except LogUnavailable:
        return False
