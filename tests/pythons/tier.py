"""The quick tier: what shows in 2 to 3 minutes that lastseen works on a Python, with no broker, browser or root.

`python -m tests.pythons.tier` runs it with the Python that runs this.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("specs", "properties", "engine", "contracts", "style", "locks", "cli", "exchange")
HTTP = (
    "test_api_sessions.py", "test_api_problems.py", "test_api_stream.py", "test_api_heads.py",
    "test_api_description.py", "test_client_address.py", "test_guard_callers.py", "test_health.py",
)  # fmt: skip
"""The tests of the service that take least time."""
LEFT_OUT = ("tests/engine/test_shared_snapshot.py", "tests/contracts/test_kafka_log.py")
"""A long story of many histories; and a broker's."""
BROKERS = frozenset({"kafka_broker", "own_kafka_broker", "own_kafka_cluster"})
JOBS = 2


class WithoutBroker:
    """Leaves out the tests that need a broker."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Tell pytest which are left out."""
        left_out = [item for item in items if BROKERS & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def arguments() -> list[str]:
    """What pytest is called with."""
    places = [f"tests/{folder}" for folder in FOLDERS] + [f"tests/http/{file}" for file in HTTP]
    without = [f"--ignore={path}" for path in LEFT_OUT]
    return [
        *without,
        "-m",
        "not thorough and not full",
        "-n",
        str(JOBS),
        "--dist",
        "loadfile",
        "-p",
        __spec__.name,
        *places,
    ]


def pytest_configure(config: pytest.Config) -> None:
    """This file is a plugin of pytest too: so the processes of pytest-xdist, which collect, leave out the same."""
    config.pluginmanager.register(WithoutBroker(), "lastseen-without-broker")


if __name__ == "__main__":
    sys.exit(pytest.main(arguments()))
