"""Settings that every test shares."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any
from weakref import ref

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

_numbers = count()
_connect = sqlite3.connect
_connections: list[ref[KnownConnection]] = []


class KnownConnection(sqlite3.Connection):
    """A connection that is known to `nothing_runs_on`, with the name of its file."""

    file = ""

    def is_open(self) -> bool:
        """Whether nothing has closed it."""
        try:
            return self.total_changes >= 0
        except sqlite3.ProgrammingError:
            return False


def known_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """`sqlite3.connect`, remembered."""
    connection: sqlite3.Connection = _connect(*arguments, **{"factory": KnownConnection, **options})
    if isinstance(connection, KnownConnection):
        connection.file = str(arguments[0] if arguments else options.get("database"))
        _connections.append(ref(connection))
    return connection


sqlite3.connect = known_connect


@pytest.fixture(autouse=True, scope="session")
def state_folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is set up for many tests keeps nothing in the account's folder for state either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
        yield


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What engines on Kafka keep in the account's folder for state is the test's own."""
    folder = tmp_path_factory.getbasetemp() / f"state-{next(_numbers)}"  # most tests make none
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A test ends the threads that it starts and closes what it opens on SQLite, or another test is blamed for it: a
    thread that runs on would disturb that one, and Python 3.13 warns of an unclosed connection where it is collected.
    What a fixture of many tests has open already, it may open once more while one of them uses it.
    """
    before, connected_before = set(threading.enumerate()), len(_connections)
    shared = {each.file for known in _connections if (each := known()) is not None and each.is_open()}
    yield
    started = [each for each in threading.enumerate() if each not in before and is_ours(each)]
    for thread in started:
        thread.join(PATIENCE_S)
    assert [thread.name for thread in started if thread.is_alive()] == [], "what the test opened, it must close"
    made = [connection for known in _connections[connected_before:] if (connection := known()) is not None]
    left = [connection.file for connection in made if connection.is_open() and connection.file not in shared]
    assert left == [], "what the test opened on SQLite, it must close"


def is_ours(thread: threading.Thread) -> bool:
    """Whether an engine, or the client of Kafka under it, has started a thread."""
    return "lastseen" in thread.name or "kafka" in thread.name
