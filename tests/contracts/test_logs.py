"""The log contract, run by every adapter."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

pytest.register_assert_rewrite("log_contract")

from log_contract import DurableLogContract, LogContract, Make  # noqa: E402 - rewritten asserts tell what differs

from lastseen.engine.log import open_log  # noqa: E402
from lastseen.engine.log.memory import MemoryLog  # noqa: E402


@pytest.mark.parametrize("partitions", [1, 3])
class TestMemoryLog(LogContract):
    """`memory://`."""

    @pytest.fixture
    def place(self, partitions: int) -> Callable[[], Make]:
        return lambda: lambda clock: MemoryLog(clock, partitions)


@pytest.mark.parametrize("partitions", [1, 3])
class TestSqliteLog(DurableLogContract):
    """`sqlite:///path`."""

    @pytest.fixture
    def place(self, tmp_path: Path, partitions: int) -> Callable[[], Make]:
        numbers = count()

        def new_place() -> Make:
            url = f"sqlite:///{tmp_path / f'log-{next(numbers)}.db'}"
            return lambda clock: open_log(url, clock, partitions=partitions, genesis=False)

        return new_place
