"""Two services that open the same key at the same moment get the same session."""

from __future__ import annotations

import threading

import lastseen
from tests.kafka.kafka_topics import new_url
from tests.kafka.published import refold
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S

ROUNDS = 1_000
PARTITIONS = 4


class Service(threading.Thread):
    """Opens one key after the other, each at the same moment as the other services, and notes the sessions it gets."""

    def __init__(self, url: str, start: threading.Barrier) -> None:
        super().__init__()
        self._url, self._start = url, start
        self.session_ids: list[str] = []

    def run(self) -> None:
        """Open them all."""
        with lastseen.open_engine(self._url, facts=False, prune=False) as engine:
            try:
                for number in range(ROUNDS):
                    self._start.wait(PATIENCE_S)
                    self.session_ids.append(engine.open(f"key-{number}").session_id)
            except BaseException:
                self._start.abort()  # or the other would wait for us
                raise


def test_a_key_that_two_open_at_once_has_one_session(kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, PARTITIONS)
    start = threading.Barrier(2)
    services = [Service(url, start), Service(url, start)]
    for service in services:
        service.start()
    for service in services:
        service.join()
    one, two = (service.session_ids for service in services)
    assert len(one) == len(two) == ROUNDS
    assert [number for number in range(ROUNDS) if one[number] != two[number]] == []
    assert len(set(one)) == ROUNDS
    partitions = refold(url)
    assert {session.key: session.session_id for part in partitions for session in part.by_id.values()} == {
        f"key-{number}": session_id for number, session_id in enumerate(one)
    }
    # Both have written in so many rounds: otherwise they were never there at the same moment.
    raced = sum(part.checkpoint for part in partitions) - ROUNDS
    assert raced > ROUNDS / 4, f"only {raced} of {ROUNDS} rounds were races"
