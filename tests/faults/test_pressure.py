"""Which memory limit an engine takes for its own, what it does about pressure, and when it has done enough."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lastseen
from lastseen import Engine
from lastseen.embedded import memory_pressure
from lastseen.embedded.memory_pressure import MemoryPressure, trim_heap
from lastseen.engine.errors import SnapshotError

MIB = 1024 * 1024
UNLIMITED_1 = "9223372036854771712"
"""What version 1 says where there is no limit."""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int | None]:
    """Makes a tree of cgroups, tells which are ours, and answers with the limit that is found."""

    def limit_of(own: str, **limits: str) -> int | None:
        monkeypatch.setattr(memory_pressure, "_CGROUP", tmp_path / "cgroup")
        monkeypatch.setattr(memory_pressure, "_OWN_CGROUPS", tmp_path / "own")
        (tmp_path / "own").write_text(own, "ascii")
        for place, limit in limits.items():
            file = tmp_path / "cgroup" / place.replace("__", "/")
            file = file.with_name(file.name.replace("max", "memory.max").replace("limit", "memory.limit_in_bytes"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{limit}\n", "ascii")
        return MemoryPressure().limit_bytes

    return limit_of


V1_OF_A_CONTAINER = "9:name=systemd:/docker/abc\n4:cpu,memory:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("own", "limits", "found_mib"),
    [
        ("0::/app\n", {"app__max": str(200 * MIB)}, 200),
        ("0::/slice/app\n", {"slice__max": str(100 * MIB), "slice__app__max": "max"}, 100),
        ("0::/slice/app\n", {"slice__max": str(100 * MIB), "slice__app__max": str(300 * MIB)}, 100),
        ("0::/\n", {"max": str(150 * MIB)}, 150),
        ("4:memory:/app\n0::/\n", {"memory__app__limit": str(120 * MIB), "memory__limit": UNLIMITED_1}, 120),
        ("4:memory:/a/b\n", {"memory__a__limit": str(90 * MIB), "memory__a__b__limit": UNLIMITED_1}, 90),
        # The name is that of the machine's tree; here only the container's own part of it is to be seen.
        (V1_OF_A_CONTAINER, {"memory__limit": str(64 * MIB)}, 64),
    ],
)
def test_the_limit_is_that_of_our_cgroup_or_of_one_above_it(
    tree: Callable[..., int | None], own: str, limits: dict[str, str], found_mib: int
) -> None:
    assert tree(own, **limits) == found_mib * MIB


@pytest.mark.parametrize("limits", [{}, {"memory__limit": UNLIMITED_1}, {"max": "max"}, {"max": "nonsense"}])
def test_without_a_limit_it_is_the_machine_s_memory(tree: Callable[..., int | None], limits: dict[str, str]) -> None:
    assert tree("4:memory:/\n0::/\n", **limits) == memory_pressure._machine_bytes()


def test_freed_memory_is_returned_to_the_system() -> None:
    pieces = [bytearray(20_000) for _ in range(4_000)]
    kept = bytearray(1_000)  # at the end of the heap, so that it does not shrink by itself
    held, limit = MemoryPressure(2**40).share(), 2**40
    del pieces[:]
    trim_heap()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        assert (held - MemoryPressure(limit).share()) * limit > 40 * MIB
    assert len(kept) == 1_000


class Given:
    """Memory that is as short as a test says."""

    def __init__(self) -> None:
        self.now = 0.9

    def share(self) -> float:
        return self.now


@pytest.fixture
def short() -> Given:
    return Given()


def test_sessions_end_once_and_again_only_when_the_process_has_grown(short: Given) -> None:
    with lastseen.open_engine("memory://", background=False, evict_on_pressure=True) as engine:
        for number in range(100):
            engine.open(f"key-{number}")
        engine._maintenance.memory_relief.pressure = short  # type: ignore[assignment]
        left = [_after(engine, short, share) for share in (0.9, 0.9, 0.905, 0.95, 0.95, 0.7, 0.9, 0.9)]
    assert left == [95, 95, 95, 91, 91, 91, 87, 87]


def _after(engine: Engine, short: Given, share: float) -> int:
    short.now = share
    engine._maintenance.save_and_relieve()
    return engine.count()


def test_bodies_leave_memory_though_the_disk_takes_nothing(short: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    with lastseen.open_engine("memory://", background=False) as engine:
        engine.open("key", attributes={"a": "x" * 1_000})
        engine.flush()
        engine.touch("key")
        engine._maintenance.memory_relief.pressure = short  # type: ignore[assignment]
        with monkeypatch.context() as patched:
            patched.setattr(engine._state.snapshot, "flush", _refuse)
            with pytest.raises(SnapshotError):
                engine._maintenance.save_and_relieve()
        assert engine._state.bodies.whole_bytes == 0


def _refuse(*_: object) -> None:
    raise SnapshotError("there is no room on the disk")
