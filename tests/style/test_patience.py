"""How tests wait: by a clock that slows down with the machine, and without bounds of their own."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sources import Source, python_files

from tests.patience import MEASURED_EVERY_S, PacedClock, ends_within, eventually, eventually_async, slowness

LONG_S = 3
"""A wait for so many seconds is not for something that a test does not expect; a shorter one may be."""
WAITS = {"wait", "join", "result", "exception", "flush", "communicate", "wait_for", "timeout"}


class Wall:
    """A clock of the wall that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_process_has_as_long_as_the_machine_is_slow() -> None:
    readings = [0.0, 1.0, 2.0]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        assert not ends_within(waiting, 2.0, lambda: readings.pop(0))
        assert readings == []
        assert waiting.returncode not in (0, None)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as done:
        assert ends_within(done, 2.0, lambda: 0.0)


def test_a_second_takes_as_long_as_the_machine_is_slow() -> None:
    pace, wall = [1.0, 4.0, 4.0, 1.0, 1.0], Wall()
    clock = PacedClock(lambda: pace.pop(0), wall)
    wall.now_s += 8
    assert clock() == pytest.approx(2.0), "the worse of the two measurements holds"
    wall.now_s += 8
    assert clock() == pytest.approx(4.0)
    wall.now_s += 8
    assert clock() == pytest.approx(6.0), "it was slow at the beginning"
    wall.now_s += 8
    assert clock() == pytest.approx(14.0)
    assert pace == []


def test_reading_it_often_does_not_measure_often() -> None:
    measured, wall = [], Wall()

    def measure() -> float:
        measured.append(wall.now_s)
        return 1.0

    clock = PacedClock(measure, wall)
    for _ in range(100):
        wall.now_s += MEASURED_EVERY_S / 49
        clock()
    assert len(measured) == 3


def test_slowness_is_a_factor_of_at_least_one() -> None:
    assert slowness(0.001) >= 1.0


def test_a_wait_for_what_never_comes_ends() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s of a quiet machine: rain"):
        eventually(lambda: False, "rain", within_s=0.05)
    with pytest.raises(AssertionError, match=r"not within 0\.05 s of a quiet machine: rain"):
        asyncio.run(eventually_async(lambda: False, "rain", within_s=0.05))


def test_what_comes_is_returned() -> None:
    looks = iter([None, "", "rain"])
    assert eventually(lambda: next(looks)) == "rain"
    looks = iter([None, "rain"])
    assert asyncio.run(eventually_async(lambda: next(looks))) == "rain"


def bounds_of_their_own(source: Source) -> Iterator[str]:
    """Waits whose end is a number in the test: on a machine that is busy enough, it fails."""
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [each.value for each in node.keywords if each.arg == "timeout"]
        given += node.args[-1:] if name in WAITS else []
        for each in given:
            if isinstance(each, ast.Constant) and isinstance(each.value, int | float) and each.value >= LONG_S:
                yield f"{source.path}:{node.lineno} waits for {each.value} s; see tests/patience.py"


ALLOWED = ("tests/soak/", "tests/fuzz/", "tests/compat/node_program.py", "tests/style/")
"""Programs that are no tests: their bounds are those of hours of work."""


def test_no_test_waits_for_a_number_of_seconds_of_its_own() -> None:
    checked = [source for source in python_files("tests") if not source.path.startswith(ALLOWED)]
    assert len(checked) > 100
    assert [fault for source in checked for fault in bounds_of_their_own(source)] == []


@pytest.mark.parametrize("line", ["thread.join(10)", "done = run(command, timeout=30)", "process.wait(5.0)"])
def test_such_a_wait_is_found(line: str) -> None:
    assert len(list(bounds_of_their_own(Source("tests/kafka/test_log.py", line)))) == 1


@pytest.mark.parametrize(
    "line", ["thread.join(PATIENCE_S)", "gone.wait(0.1)", "producer.poll(1_000)", "waited.get(10)"]
)
def test_another_is_not(line: str) -> None:
    assert list(bounds_of_their_own(Source("tests/kafka/test_log.py", line))) == []
