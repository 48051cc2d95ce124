"""A forked child leaves its parent's log alone, and may open its own."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Callable

import pytest
from kafka_fixtures import SharedBroker
from kafka_topics import Open, eventually, message, new_topic, open_kafka, values

from lastseen.engine import errors
from lastseen.engine.log.port import Position


def in_a_child(work: Callable[[], object]) -> int:
    """Run something in a forked child; its exit code, 0 if nothing was raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point
        pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        os._exit(0)
    left: list[int] = []

    def has_ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            left.append(os.waitstatus_to_exitcode(status))
        return bool(found)

    if not eventually(has_ended):
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return -1
    return left[0]


def test_a_child_leaves_the_parents_log_alone(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    log.append([message("before")])
    log.wait(Position(0, 1), 0.01)  # every client is there

    def use() -> None:
        for attempt in (
            lambda: log.append([message("x")]), lambda: log.append_soon([message("x")]), lambda: log.read(0, 0, 1),
            lambda: log.read(0, 1, 1), lambda: log.end_offsets(), lambda: log.wait(Position(0, 0), 1),
            lambda: log.known_ends(), lambda: log.await_growth([0], 1),
        ):  # fmt: skip
            with pytest.raises(errors.LogError, match="forked"):
                attempt()
        log.close()

    def collect() -> None:
        for name in list(vars(log)):
            setattr(log, name, None)
        gc.collect()
        atexit._run_exitfuncs()

    def open_another() -> None:
        own = open_kafka(url)
        assert values(own)[0] == b"before"
        own.append([message("child")])
        own.close()

    held_at_the_fork = log.writer._producer._producer._accumulator._incomplete._lock
    for work in (use, collect, open_another):
        with held_at_the_fork:  # the thread that holds it does not exist in the child, and never releases it
            assert in_a_child(work) == 0, work.__name__
        # The parent has noticed nothing.
        log.append([message("parent")])
    assert values(log) == [b"before", b"parent", b"parent", b"child", b"parent"]
    assert log.writer.producers == 1
