"""How many requests are let in while the service does not keep up, and who gets the places."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest

import lastseen
from lastseen.api.problems import Problem
from lastseen.auth.caller import ANONYMOUS, Caller, Scope
from lastseen.http import worker_threads
from lastseen.http.guard.concurrency import ConcurrencyLimit
from lastseen.http.guard.overload import SAMPLE_INTERVAL_S, SUSTAINED_S, AdaptiveLimit, LoopMonitor, current_limit
from lastseen.http.worker_threads import WorkerThreads
from tests.patience import PATIENCE_S

PLACES = 256
FEWEST = PLACES // 8
READ = frozenset([Scope.READ])


class Looks:
    """Looks at an event loop, one after another."""

    def __init__(self) -> None:
        self.limit = AdaptiveLimit(PLACES)
        self.now_s = 1_000.0

    def late(self, late_s: float, for_s: float, threads_s: float | None = None) -> int:
        """For so long it is so late at each look; the limit then."""
        until_s = self.now_s + for_s
        while self.now_s < until_s:
            self.now_s += SAMPLE_INTERVAL_S + late_s
            if threads_s is not None:
                self.limit.threads.record(threads_s)
            self.limit.observe(late_s, self.now_s)
        return self.limit.limit


def test_a_loop_that_stays_late_lets_fewer_in_and_more_again_once_it_rests() -> None:
    looks = Looks()
    assert looks.late(0.0, 1) == PLACES
    assert looks.late(0.03, 0.4) == FEWEST
    assert looks.late(0.03, 5) == FEWEST, "and never less"
    assert FEWEST < looks.late(0.0, 4 * SUSTAINED_S) < PLACES, "step by step"
    assert looks.late(0.0, 2) == PLACES
    assert looks.limit.is_unrestricted


def test_a_burst_is_let_in() -> None:
    looks = Looks()
    for _ in range(20):
        assert looks.late(0.03, 0.03) == PLACES
        assert looks.late(0.0, 0.2) == PLACES
    assert looks.late(0.001, 5) == PLACES, "nor does a little lateness matter"


def test_waiting_for_threads_counts_until_no_caller_waits() -> None:
    looks = Looks()
    assert looks.late(0.0, 1, threads_s=0.002) == PLACES
    assert looks.late(0.0, 1, threads_s=0.05) == FEWEST
    assert looks.late(0.0, 3) == PLACES, "no caller waits any more"


def test_few_places_stay_as_they_are() -> None:
    limit = AdaptiveLimit(6)
    assert limit.minimum == 6


def test_who_has_none_gets_a_place_while_others_are_kept_out() -> None:
    looks = Looks()
    looks.late(0.03, 1)
    room = ConcurrencyLimit("requests are in progress", PLACES, looks.limit)
    greedy, modest = Caller("greedy", READ), Caller("modest", READ)
    tenant, other = Caller("tenant", READ, "a:"), Caller("other", READ, "b:")

    async def story() -> None:
        with ExitStack() as in_use:
            for _ in range(FEWEST // 2):
                in_use.enter_context(room.slot(tenant))
            with pytest.raises(Problem, match=f"{FEWEST // 2} of this tenant's"), room.slot(tenant):
                pass
            while room.in_use < FEWEST:
                in_use.enter_context(room.slot(greedy))
            for full in (greedy, ANONYMOUS):
                with pytest.raises(Problem, match=f"{FEWEST} requests"), room.slot(full):
                    pass
            for first in (modest, other):
                with room.slot(first):
                    with pytest.raises(Problem), room.slot(first):
                        pass
                    assert room.in_use == FEWEST + 1
        assert room.in_use == 0
        with room.slot(greedy):
            pass

    asyncio.run(story())


def test_no_caller_is_admitted_when_all_places_are_taken() -> None:
    room = ConcurrencyLimit("requests are in progress", 2)
    with ExitStack() as in_use:
        for name in ("a", "b"):
            in_use.enter_context(room.slot(Caller(name, READ)))
        with pytest.raises(Problem, match="2 requests"), room.slot(Caller("c", READ)):
            pass


def test_the_loop_is_watched_while_that_matters() -> None:
    heard: list[float] = []

    class Noting(AdaptiveLimit):
        def observe(self, late_s: float, now_s: float) -> None:
            heard.append(late_s)
            super().observe(late_s, now_s)

    async def story() -> None:
        watch = LoopMonitor(Noting(PLACES), lambda: len(heard) < 3)
        for _ in range(2):
            watch.start()  # once is enough
        time.sleep(0.05)  # waits: keeps the event loop busy, which is what is measured
        async with asyncio.timeout(PATIENCE_S):
            while len(heard) < 3:
                await asyncio.sleep(0)  # waits: for the next turn of the loop only
        await asyncio.sleep(4 * SAMPLE_INTERVAL_S)  # waits: for a look that must not come
        assert len(heard) == 3

    asyncio.run(story())
    assert heard[0] >= 0.05 - SAMPLE_INTERVAL_S - 0.001


def test_a_command_tells_how_long_it_has_waited_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "COMMAND_THREADS", 1)
    limit = AdaptiveLimit(PLACES)
    heard: list[float] = []
    monkeypatch.setattr(limit.threads, "record", heard.append)
    gate = threading.Event()

    async def story(workers: WorkerThreads) -> float:
        current_limit.set(limit)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(workers.call(gate.wait, PATIENCE_S))
            group.create_task(workers.call(gate.is_set))
            while workers._limiter is None or workers._limiter.statistics().tasks_waiting == 0:
                await asyncio.sleep(0)  # waits: for the next turn of the loop only
            waits_since_s = time.perf_counter()
            for _ in range(1_000):
                await asyncio.sleep(0)  # waits: for the next turn of the loop only
            gate.set()
            return time.perf_counter() - waits_since_s

    with lastseen.open_engine("memory://", background=False) as engine:
        waited_s = asyncio.run(story(WorkerThreads(engine)))
    assert len(heard) == 2
    assert heard[1] >= waited_s > 0
