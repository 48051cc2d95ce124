"""The end of a log is unknown while nothing is heard from the broker, and then it is reported as unknown."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kafka_topics import Open, message, new_topic

from lastseen.engine.errors import LogUnavailable
from tests.kafka_fixtures import SharedBroker


def test_ends_of_a_log_that_is_out_of_reach_are_not_known(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(new_topic(kafka_broker.address))
    log.append([message("a")])
    assert log.known_ends() == [1]
    monkeypatch.setattr(log, "_stream", SimpleNamespace(failure=None, trouble=LogUnavailable("cut off: try again")))
    with pytest.raises(LogUnavailable, match="the end of the log is not known: cut off: try again"):
        log.known_ends()
    monkeypatch.undo()
    assert log.known_ends() == [1]
