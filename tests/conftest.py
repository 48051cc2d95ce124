"""Settings that every test shares."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.patience import PATIENCE_S

pytest_plugins = ["kafka_fixtures"]

settings.register_profile(
    "lastseen",
    deadline=None,  # Colleagues' machines differ; what is too slow is a benchmark's business.
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("lastseen")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As it is for whatever a script has put in the background; the programs that tests start and interrupt inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A test ends the threads that it starts: one that runs on would disturb another test, which is then blamed."""
    before = set(threading.enumerate())
    yield
    started = [each for each in threading.enumerate() if each not in before and is_ours(each)]
    for thread in started:
        thread.join(PATIENCE_S)
    assert [thread.name for thread in started if thread.is_alive()] == [], "what the test opened, it must close"


def is_ours(thread: threading.Thread) -> bool:
    """Whether an engine, or the client of Kafka under it, has started a thread."""
    return "lastseen" in thread.name or "kafka" in thread.name
