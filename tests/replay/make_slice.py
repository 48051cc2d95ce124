"""Cut the demo's slice out of the full chat recording: `python tests/replay/make_slice.py ubuntu-irc.jsonl.gz`.

The slice is the run of consecutive recorded days that holds the most leaves and the most oddly named people, among
the runs that fit in 300,000 bytes of gzip. Lines are copied unchanged. The same input gives the same bytes: the gzip
header carries neither a time nor a name.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

LIMIT_BYTES = 300_000
SLICE = Path(__file__).resolve().parents[2] / "lastseen" / "replay" / "data" / "ubuntu-irc-slice.jsonl.gz"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DATE_CHARACTERS = len("2004-12-25")


@dataclass
class Day:
    """The lines of one recorded day, and what makes them worth choosing."""

    date: str
    lines: list[bytes] = field(default_factory=list)
    leaves: int = 0
    odd_names: set[str] = field(default_factory=set)


def days_of(lines: Iterator[bytes]) -> list[Day]:
    """The recording, a day at a time."""
    events = ((line, json.loads(line)) for line in lines)
    days = []
    for date, group in groupby(events, key=lambda event: event[1]["at"][:_DATE_CHARACTERS]):
        day = Day(date)
        for line, event in group:
            day.lines.append(line)
            day.leaves += event["action"] == "leave"
            if not _PLAIN_NAME.fullmatch(event["user"]):
                day.odd_names.add(event["user"])
        days.append(day)
    return days


def packed(days: list[Day]) -> bytes:
    """The days' lines as reproducible gzip."""
    content = io.BytesIO()
    # Not `gzip.compress`: what that writes in the header differs between Python versions.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=content, mtime=0) as stream:
        stream.write(b"".join(line for day in days for line in day.lines))
    return content.getvalue()


def leaves(days: list[Day]) -> int:
    """How often a person left in these days."""
    return sum(day.leaves for day in days)


def odd_names(days: list[Day]) -> set[str]:
    """Names in these days with more in them than letters, digits, `_` and `-`."""
    return set().union(*(day.odd_names for day in days))


def score(days: list[Day]) -> int:
    """What the replay's rules and the key rules are best tested by."""
    return leaves(days) + len(odd_names(days))


def best_run(days: list[Day], limit_bytes: int) -> list[Day]:
    """The run with the highest score that fits; the earliest of equals."""
    best: list[Day] = []
    stop = 0
    for start in range(len(days)):
        # A run that fits still fits without its first day, so `stop` only ever moves on.
        while stop < len(days) and len(packed(days[start : stop + 1])) <= limit_bytes:
            stop += 1
        run = days[start:stop]
        if run and (not best or score(run) > score(best)):
            best = run
        stop = max(stop, start + 1)
    return best


def main() -> int:
    """Write the slice and say what is in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", type=Path, help="the full ubuntu-irc.jsonl.gz")
    parser.add_argument("--to", type=Path, default=SLICE, help="where to write the slice (default: %(default)s)")
    arguments = parser.parse_args()
    with gzip.open(arguments.recording, "rb") as lines:
        days = days_of(iter(lines))
    run = best_run(days, LIMIT_BYTES)
    if not run:
        sys.stderr.write(f"{arguments.recording}: no whole day fits in {LIMIT_BYTES} bytes\n")
        return 1
    content = packed(run)
    arguments.to.write_bytes(content)
    events = sum(len(day.lines) for day in run)
    sys.stderr.write(
        f"{arguments.to}: {len(run)} days, {run[0].date} to {run[-1].date}; {events} events, "
        f"{leaves(run)} leaves, {len(odd_names(run))} odd names; {len(content)} bytes\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
