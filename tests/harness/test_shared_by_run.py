"""One for all processes of a run: started by the first, there for all, ended when none uses it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.shared_by_run import shared_by_run

pytestmark = pytest.mark.thorough

SPAWNING = multiprocessing.get_context("spawn")


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """Leaves a mark while it runs."""
    mark = folder / "runs"
    mark.touch()
    yield f"{os.getpid()}:{mark}"
    mark.unlink()


def use(run: Path, pipe: Connection) -> None:
    """Say what is used, and use it until asked to stop."""
    with shared_by_run(run, started) as address:
        pipe.send(address)
        pipe.recv()
        pipe.send(Path(address.partition(":")[2]).exists())
    pipe.send("left")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Callable[[], Connection]]:
    """Starts processes that use it."""
    processes = []

    def start() -> Connection:
        ours, theirs = SPAWNING.Pipe()
        process = SPAWNING.Process(target=use, args=(tmp_path, theirs))
        process.start()
        processes.append(process)
        return ours

    yield start
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0


def test_all_use_one_and_the_starter_waits_for_the_others(user: Callable[[], Connection]) -> None:
    users = [user() for _ in range(3)]
    addresses = [each.recv() for each in users]
    assert len(set(addresses)) == 1
    starter = addresses[0].partition(":")[0]
    for each in users:
        each.send("stop")
    assert [each.recv() for each in users] == [True] * 3
    assert [each.recv() for each in users] == ["left"] * 3
    assert starter.isdecimal()
    assert not Path(addresses[0].partition(":")[2]).exists()


def test_it_runs_on_while_another_uses_it(tmp_path: Path, user: Callable[[], Connection]) -> None:
    another: list[Connection] = []
    is_shared, ended = threading.Event(), threading.Event()

    def use_it_first() -> None:
        with shared_by_run(tmp_path, started) as address:
            another.append(user())
            assert another[0].recv() == address
            is_shared.set()
        ended.set()

    thread = threading.Thread(target=use_it_first)
    thread.start()
    assert is_shared.wait(PATIENCE_S), "the other's process starts in its own time"
    assert not ended.wait(1.0), "it waits for the other"
    another[0].send("stop")
    assert another[0].recv() is True
    thread.join(PATIENCE_S)
    assert ended.is_set()
    assert another[0].recv() == "left"


def test_who_comes_later_starts_another(tmp_path: Path) -> None:
    def one() -> AbstractContextManager[str]:
        return shared_by_run(tmp_path, started)

    with one() as first:
        pass
    with one() as second:
        assert Path(second.partition(":")[2]).exists()
    assert first != second
