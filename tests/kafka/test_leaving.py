"""An engine that stops leaves the group first: whatever it is in the middle of, others have its partitions at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka_topics import eventually, new_url

import lastseen
from tests.kafka.filling import fill
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S, paced_s
from tests.service.running import Running, wait_until

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
HANDED_OVER_S = 5.0
"""In seconds of a quiet machine. It takes 1 to 2; after 10, the group finds out by itself that a member has gone."""
BIG_RECORDS = 30_000
"""In each partition: loading four of them takes seconds."""


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    """A log of the test's own, with the topics beside it."""
    return new_url(kafka_broker.address, PARTITIONS)


@pytest.fixture
def opened() -> Iterator[Callable[..., lastseen.Engine]]:
    """Opens engines, and shuts them down after the test."""
    engines: list[lastseen.Engine] = []

    def open_one(url: str, **settings: Any) -> lastseen.Engine:
        engines.append(lastseen.open_engine(url, **settings))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.shutdown()


class Stuck:
    """A call that does not return until it is released."""

    def __init__(self) -> None:
        self.is_in, self._may_go = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> Sequence[Any]:
        self.is_in.set()
        assert self._may_go.wait(PATIENCE_S)
        return []

    def release(self) -> None:
        self._may_go.set()


@pytest.mark.parametrize("task", ["repairing states", "folding", "flushing"])
def test_an_engine_leaves_the_group_before_it_waits_for_anything(
    url: str, opened: Callable[..., lastseen.Engine], task: str
) -> None:
    one = opened(url)
    assert eventually(lambda: one.owned() == ALL)
    two = opened(url)
    assert eventually(lambda: len(one.owned()) == len(two.owned()) == PARTITIONS // 2)
    stuck = Stuck()
    if task == "repairing states":
        one._duties._fact_publisher.written_by_others = stuck  # type: ignore[union-attr,method-assign,assignment]
    elif task == "folding":
        one._follower._log.read = stuck  # type: ignore[method-assign]
        two.open("ana")
    else:
        one._state.snapshot.flush = stuck  # type: ignore[method-assign,assignment]
        two.open("ana")
    assert stuck.is_in.wait(PATIENCE_S)
    closing = threading.Thread(target=one.shutdown)
    signalled_s = paced_s()
    closing.start()
    try:
        assert eventually(lambda: two.owned() == ALL)
        assert paced_s() - signalled_s < HANDED_OVER_S, "nothing was handed over: the group has only found it out"
        assert closing.is_alive(), "it was not in the middle of anything"
    finally:
        stuck.release()
        closing.join(PATIENCE_S)


def test_an_engine_that_has_left_the_group_goes_on_answering(url: str, opened: Callable[..., lastseen.Engine]) -> None:
    one = opened(url, view="owned")
    assert eventually(lambda: one.held() == ALL)
    session = one.open("ana")
    two = opened(url)
    one.leave_group()
    assert one.owned() == frozenset()
    assert eventually(lambda: two.owned() == ALL)
    assert one.touch("ana").session_id == session.session_id
    two.touch("ana")
    assert eventually(lambda: getattr(one.get("ana"), "version", 0) == 3), "it follows what others write, too"
    one.leave_group()


def test_sigterm_in_the_middle_of_a_big_fold(tmp_path: Path, url: str, opened: Callable[..., lastseen.Engine]) -> None:
    keys = fill(url, PARTITIONS, BIG_RECORDS)
    settings = ("--set", "view=owned", "--set", "snapshot=:memory:")
    with Running(tmp_path, "--log", url, "--port", "0", *settings) as one:
        address = one.address()

        def is_loading() -> bool:
            says = httpx.get(f"{address}/readyz?verbose", timeout=PATIENCE_S).text
            return re.search(r"serves \d of 4 partitions; still to be loaded", says) is not None

        wait_until(is_loading, "it owns all and folds them")
        two = opened(url, view="owned")
        wait_until(lambda: two.partitions().standby, "the other has joined")
        signalled_s = paced_s()
        one.tell()
        wait_until(lambda: two.partitions().expected == ALL, "the other engine has all")
        assert paced_s() - signalled_s < HANDED_OVER_S
        assert one.exit_code() == 0
        assert "Traceback" not in "".join(one.errors)
    assert eventually(lambda: two.held() == ALL)
    assert all(two.get(key) is not None for key in keys)
