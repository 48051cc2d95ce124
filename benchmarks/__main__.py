"""`python -m benchmarks [--quick]`: measure, print tables, write `benchmarks/results/` and `docs/benchmarks.md`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import durable, http_door, kafka_topic, old_gateway, population
from benchmarks.measure import Row

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
NOTES = """What the rows are:

- *Bare sqlite3* commits prepared rows of the same size into a table of the same schema, `synchronous=FULL`, in
  batches as large as ours, and does nothing else: it knows no session, checks nothing, and answers nobody. It is a
  floor, no peer.
- *Durable touches* are decided on the live view, encoded, appended, flushed to the disk, read back, judged, applied
  to the view and answered with the session; history and snapshot are flushed beside them by the engine's own threads.
- *64 callers* are threads, each of which waits for its own answer before it sends the next.
- *Expiry* plans, appends, flushes and folds one `expired` record a session.
- *Memory* is resident memory of a process that has folded as many sessions and two touches of each.
- *HTTP* is the service's own application on uvicorn in a process of its own, with guard and limits, no tokens. The
  empty handler is one more route of it. Callers are 32 connections of another process (one connection for batches),
  which shares the two cores.
- *Gateway* rows stand beside a stand-in that does what the old gateway did at each message: write all sessions as one
  JSON file, fsync, rename.
- *Kafka* is one node on the same machine, which shares its cores with the clients. `send()` and librdkafka append the
  same bytes, header included, with acks=all and idempotence, 5 ms of linger and batches of 512 KiB; each
  acknowledgement is looked at.
"""


def main() -> int:
    """Measure everything; the exit code is 1 if a figure falls short."""
    arguments = argparse.ArgumentParser(description="Measure the engine beside its floors.")
    arguments.add_argument("--quick", action="store_true", help="fewer repetitions, a tenth of the sessions")
    arguments.add_argument(
        "--only", choices=["durable", "live", "expiry", "refold", "restart", "memory", "kafka", "http", "gateway"]
    )
    arguments.add_argument("--folder", default="var", help="where the logs go: a disk like the one in production")
    chosen = arguments.parse_args()
    repetitions, many = (3, 100_000) if chosen.quick else (7, 1_000_000)
    Path(chosen.folder).mkdir(parents=True, exist_ok=True)
    console = Console()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="bench-") as name:
        folder = Path(name)
        works = {
            "durable": lambda: durable.run(folder, repetitions),
            "live": lambda: population.live_figures(repetitions, many),
            "expiry": lambda: population.expiry(folder, many, many // 10),
            "refold": lambda: population.refold(folder, repetitions),
            "restart": lambda: population.restart(folder, many, 3),
            "memory": lambda: population.memory(many),
            "http": lambda: http_door.run(folder, repetitions),
            "gateway": lambda: old_gateway.run(folder, 3, 10_000 if chosen.quick else 100_000),
            "kafka": lambda: kafka_topic.run(folder, repetitions, 60_000 if chosen.quick else 300_000),
        }
        for name, work in works.items():
            if chosen.only in (None, name):
                with console.status(f"measuring: {name}"):
                    found = work()
                rows += found
                console.print(_table(found))
    if chosen.only is None:
        _write(rows, quick=chosen.quick)
    return 0 if all(row.reached for row in rows) else 1


def _table(rows: list[Row]) -> Table:
    table = Table("figure", "median", "least … greatest", "target", "reached", "")
    for row in rows:
        spread = "" if row.spread is None else f"{_number(row.spread[0])} … {_number(row.spread[1])}"
        mark = "[green]yes[/]" if row.reached else "[red]no[/]"
        table.add_row(row.name, f"{_number(row.value)} {row.unit}", spread, row.target, mark, row.note)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _write(rows: list[Row], *, quick: bool) -> None:
    RESULTS.mkdir(exist_ok=True)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "sqlite": sqlite3.sqlite_version,
        "versions": {name: version(name) for name in ("lastseen", "eventsourcing", "pydantic", "msgspec")},
        "quick": quick,
        "rows": [asdict(row) for row in rows],
    }
    name = "quick" if quick else "latest"
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if not quick:
        PAGE.write_text(_page(report, rows), "utf-8")


def _page(report: dict[str, Any], rows: list[Row]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. Every figure is the median of interleaved repetitions, with the least",
        "and the greatest beside it. What counts are the ratios: both sides were measured in turn, in the same run.",
        "",
        f"Measured {report['at']} on {report['machine']}, {report['cores']} cores; Python {report['python']},"
        f" SQLite {report['sqlite']}; {versions}.",
        "",
        "| figure | median | least … greatest | target | reached | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = "" if row.spread is None else f"{_number(row.spread[0])} … {_number(row.spread[1])}"
        mark = "yes" if row.reached else "**no**"
        lines.append(
            f"| {row.name} | {_number(row.value)} {row.unit} | {spread} | {row.target} | {mark} | {row.note} |"
        )
    return "\n".join([*lines, "", NOTES])


if __name__ == "__main__":
    sys.exit(main())
