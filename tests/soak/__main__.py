"""`python -m tests.soak --minutes 30 --load 0.5`: the engine under a steady load, and whether everything stays flat.

On SQLite; with `--kafka` on a broker: the one that LASTSEEN_TEST_KAFKA names, or one that is started for it. Two
processes with several callers each use short-lived sessions on one log. Says how it goes, then what was found; the exit
code is 0 only if everything is flat and the digests are those of a refold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.kafka.choice import choose, running_elsewhere
from infra.kafka.cluster import Cluster
from tests.kafka.kafka_topics import new_url
from tests.soak.gauges import MIB
from tests.soak.run import WARM_UP, Outcome, Plan, soak
from tests.soak.traffic import SETTINGS

PARTITIONS = 2
"""Of the topic."""


@contextmanager
def _url(folder: Path, on_kafka: bool) -> Iterator[str]:
    if not on_kafka:
        yield f"sqlite:///{folder / 'log.db'}"
        return
    elsewhere = running_elsewhere()
    if elsewhere:
        yield new_url(elsewhere, PARTITIONS)
        return
    cluster = Cluster(choose(), folder / "kafka", 1)
    cluster.start()
    try:
        yield new_url(cluster.address, PARTITIONS)
    finally:
        cluster.kill()


def settings_of(folder: Path, on_kafka: bool, processes: int) -> list[dict[str, Any]]:
    """The settings of each process: on SQLite they share the snapshot, on Kafka each has its own."""
    if not on_kafka:
        return [SETTINGS] * processes
    return [{**SETTINGS, "snapshot": str(folder / f"{number}.snapshot")} for number in range(processes)]


def table(outcome: Outcome) -> str:
    """What was found, as text."""
    lines = [
        f"peak {outcome.peak:,.0f} calls/s; asked {outcome.asked:,.0f}, held {outcome.held:,.0f}; slowest call"
        f" {outcome.slowest_s * 1000:,.0f} ms; {outcome.records:,} records in the log",
        f"ended: {outcome.ended}; void: {outcome.void}",
        f"bodies: {outcome.bodies}",
        f"log {outcome.grown.log / max(outcome.grown_records, 1):,.0f} and history"
        f" {outcome.grown.history / max(outcome.grown_records, 1):,.0f} bytes a record (they grow by design)",
        "",
        f"{'gauge':24} {'median':>12} {'lowest':>12} {'highest':>12} {'growth':>12} {'allowed':>12}",
    ]
    for found in outcome.found:
        is_bytes = found.median >= MIB
        shown = [
            f"{value / MIB:.2f} MiB" if is_bytes else f"{value:,.1f}"
            for value in (found.median, found.lowest, found.highest, found.growth, found.allowed)
        ]
        lines.append(f"{found.name:24} {' '.join(f'{each:>12}' for each in shown)}{'' if found.is_flat else '  GROWS'}")
    lines += ["", *(f"WRONG: {sentence}" for sentence in outcome.wrong)]
    lines.append("good: all flat, digests as refolded" if outcome.is_good else "NOT GOOD")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, report, and say by the exit code whether all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long; caches fill for one or two")
    parser.add_argument("--load", type=float, default=0.5, help="the share of the peak, which is measured first")
    parser.add_argument("--seed", type=int, default=1, help="of what the callers do")
    parser.add_argument("--kafka", action="store_true", help="on a broker instead of SQLite")
    parser.add_argument("--folder", type=Path, default=None, help="where the files go; else a folder that is deleted")
    chosen = parser.parse_args()
    if chosen.minutes <= 0 or not 0 < chosen.load <= 1:
        parser.error("give more than 0 minutes, and a load above 0 and up to 1")

    began_s = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began_s:5.0f} s] {line}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="lastseen-soak-") as made:
        folder = chosen.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        say(f"soak: {chosen.minutes:g} min, judged after {WARM_UP:.0%} of them")
        with _url(folder, chosen.kafka) as url:
            plan = Plan(url, folder, chosen.minutes * 60, chosen.load, chosen.seed)
            outcome = soak(plan, settings_of(folder, chosen.kafka, plan.processes), say)
    sys.stdout.write(table(outcome))
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
