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
from lastseen.engine import plain_touch
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Message
from lastseen.engine.partitioner import partition_of
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S, paced_s
from tests.service.running import Running, wait_until

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
HANDED_OVER_S = 5.0
"""In seconds of a quiet machine. It takes 1 to 2; after 10, the group finds out by itself that a member has gone."""
BIG_RECORDS = 30_000
"""In each partition: loading two of them takes a second or more."""


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
    told_s = paced_s()
    closing.start()
    try:
        assert eventually(lambda: two.owned() == ALL)
        assert paced_s() - told_s < HANDED_OVER_S, "nothing was handed over: the group has only found it out"
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


def fill(url: str, count: int) -> list[str]:
    """Append so many touches of one session to each partition; the keys."""
    keys = [
        next(f"big-{n}" for n in range(1_000) if partition_of(f"big-{n}", PARTITIONS) == partition)
        for partition in range(PARTITIONS)
    ]
    with lastseen.open_engine(url, prune=False, facts=False, background=False) as engine:
        ids = {key: engine.open(key).session_id for key in keys}
    log, clock = open_log(url, SystemClock()), SystemClock()
    try:
        for start in range(0, count, 5_000):
            for partition, key in enumerate(keys):
                now_ms = clock.now_ms()
                touches = [
                    plain_touch.written(event_id, "/filler", key, iso_from_ms(now_ms), ids[key])
                    for event_id in new_event_ids(now_ms, min(5_000, count - start))
                ]
                log.append([Message(partition, key, touch) for touch in touches])
    finally:
        log.close()
    return keys


def test_sigterm_in_the_middle_of_a_big_fold(tmp_path: Path, url: str, opened: Callable[..., lastseen.Engine]) -> None:
    keys = fill(url, BIG_RECORDS)
    two = opened(url, facts=False)
    assert eventually(lambda: two.owned() == ALL)
    settings = ("--set", "view=owned", "--set", "snapshot=:memory:")
    with Running(tmp_path, "--log", url, "--port", "0", *settings) as one:
        address = one.address()

        def loading() -> str | None:
            says = httpx.get(f"{address}/readyz?verbose", timeout=PATIENCE_S).text
            found = re.search(r"answers for (\d) of 2 partitions; still to be loaded", says)
            return found and found[1]

        wait_until(loading, "it folds its partitions")
        told_s = paced_s()
        one.tell()
        wait_until(lambda: two.owned() == ALL, "the other engine has all")
        assert paced_s() - told_s < HANDED_OVER_S
        assert one.exit_code() == 0
        assert "Traceback" not in "".join(one.errors)
    assert all(two.get(key) is not None for key in keys)
