"""What the figures were measured on: the machine, and the versions of everything that was measured."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "lastseen", "eventsourcing", "kafka-python", "msgspec", "pydantic", "cachetools", "theine", "diskcache", "redis",
    "hiredis", "psycopg", "rocksdict", "confluent-kafka", "uvicorn",
)  # fmt: skip
SERVERS = {"redis-server": ["redis-server", "--version"], "postgres": ["postgres", "--version"]}


def described() -> dict[str, Any]:
    """This machine and what is installed on it, in words and numbers that JSON can hold."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    for name, command in SERVERS.items():
        versions[name] = _server_version(command)
    return {
        "machine": f"{_processor()}, {platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": versions,
    }


def in_words(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    return (
        f"{machine['machine']}, {machine['cores']} cores, {machine['memory_gib']} GiB; Python {machine['python']},"
        f" SQLite {machine['sqlite']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _server_version(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "missing"
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()
    numbers = [word.removeprefix("v=") for word in said if word.removeprefix("v=")[:1].isdigit()]
    return numbers[0] if numbers else "unknown"
