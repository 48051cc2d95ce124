"""Progress on stderr: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MIN_TOTAL = 10_000
"""Fewer are done too quickly to show progress."""


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that takes how many are done, and how many there are."""
    if not sys.stderr.isatty():
        yield _lines(what, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(what: str, unit: str) -> Callable[[int, int], None]:
    tenths_done = 0

    def report(done: int, total: int) -> None:
        nonlocal tenths_done
        reached = done * 10 // max(total, 1)
        if reached > tenths_done and total >= MIN_TOTAL:
            tenths_done = reached
            sys.stderr.write(f"{what}: {done:,} of {total:,} {unit}\n")
            sys.stderr.flush()

    return report
