"""The sections of the benchmarks, A to H, and the modules that measure them.

Each module has a function `run(folder: Path, size: Size) -> list[Row]`, which leaves nothing behind but files in its
folder. A peer that cannot be had is a row of `measure.missing`, or, where nothing of the section can be measured
without it, `servers.PeerMissing` raised. Its text `NOTES`, in Markdown, stands under the section's table on the page.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Row, Size, missing
from benchmarks.servers import PeerMissing


class Section(NamedTuple):
    """One section of the page."""

    letter: str
    title: str
    modules: tuple[str, ...]
    in_quick: bool = True
    """Whether `--quick` measures it unasked; not where nothing can be measured without a server that takes its
    time, nor where a figure is no ratio."""


SECTIONS = (
    Section("A", "Live operations, not waiting for the disk", ("live",)),
    Section("B", "Expiry", ("expiry",)),
    Section("C", "Durable operations", ("durable", "old_gateway")),
    Section("D", "Rebuild and restart", ("rebuild",)),
    Section("E", "Memory and disk per session", ("memory",)),
    Section("F", "Kafka", ("kafka_topic",), in_quick=False),
    Section("G", "HTTP", ("http_touches",)),
    Section("H", "How long reads wait for the lock of the view", ("lock_holds",), in_quick=False),
)


def measure(section: Section, folder: Path, size: Size) -> list[Row]:
    """All rows of a section, marked with it and with the time. A module that lacks what it needs becomes one row."""
    rows: list[Row] = []
    for module in section.modules:
        within = folder / module
        within.mkdir()
        try:
            found = list(import_module(f"benchmarks.{module}").run(within, size))
        except PeerMissing as error:
            found = [missing(error.name, error.why)]
        except ImportError as error:
            found = [missing(error.name or module, f"not installed: {error}")]
        for row in found:
            row.section, row.at = section.letter, datetime.now(UTC).isoformat(timespec="seconds")
        rows += found
    return rows


def notes(section: Section) -> str:
    """What stands under a section's table: what its modules say of their rows."""
    said = []
    for module in section.modules:
        try:
            said.append(getattr(import_module(f"benchmarks.{module}"), "NOTES", ""))
        except ImportError:
            continue  # its peers are not installed here; the results remember what it said when it was measured
    return "\n".join(text.strip("\n") + "\n" for text in said if text).rstrip("\n")
