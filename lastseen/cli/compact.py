"""Tables that fit the terminal: one line a row, long texts cut in the middle, times as a distance from now.

They are for people at a terminal. Where the output goes to another program, a table has whole texts and times, as with
`--wide`, unless COLUMNS says how wide it is to be.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer

Wide = Annotated[bool, typer.Option("--wide", help="Whole keys, all columns and whole times, however wide.")]
_EDGE, _GAP, _SHORTEST, _ROOM_FOR_KEYS = 1, 3, 5, 24
_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s"))


class Column(NamedTuple):
    """A column of a table that fits."""

    heading: str
    is_cut: bool = False
    """Whether its texts are cut where the room is short: keys and names."""
    rank: int = 0
    """Where the room is short, the columns with the highest rank are left out first; with 0, never."""


def is_compact(wide: bool) -> bool:
    """Whether a table is to fit the terminal."""
    return not wide and (sys.stdout.isatty() or "COLUMNS" in os.environ)


def distance_text(ms: int) -> str:
    """A span of time in its two largest units: 42s, 3h 5m, 12d 4h."""
    seconds = ms // 1000
    for size, unit, next_size, next_unit in _UNITS:
        if seconds >= size:
            rest = seconds % size // next_size
            return f"{seconds // size}{unit}" + (f" {rest}{next_unit}" if rest and seconds < 100 * size else "")
    return f"{seconds}s"


def when_text(at_ms: int | None, now_ms: int | None, local: bool) -> str | None:
    """A time for people: its distance from now; the time itself to the minute where there is no now, or for `local`."""
    from lastseen.cli.printing import time_text

    if at_ms is None:
        return None
    if now_ms is None or local:
        text = time_text(at_ms, local) or ""
        return text[:16].replace("T", " ")
    return f"in {distance_text(at_ms - now_ms)}" if at_ms > now_ms else f"{distance_text(now_ms - at_ms)} ago"


def cut(text: str, room: int, mark: str = "…") -> str:
    """The text in at most `room` columns of a terminal, cut in the middle: keys often differ at their ends."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= room:
        return text
    kept = max(room - len(mark), 0)
    start = set_cell_size(text, kept - kept // 2).rstrip()
    end = text[len(text) - kept // 2 :] if kept // 2 else ""
    while cell_len(end) > kept // 2:
        end = end[1:]
    return f"{start}{mark}{end}"


def put_compact(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]) -> None:
    """A table on stdout, a line a row, as wide as the terminal at most."""
    from rich.cells import cell_len

    from lastseen.cli.printing import cell_text, put_table

    width = max(shutil.get_terminal_size().columns, 20)
    texts = {name: [cell_text(row.get(name)) for row in rows] for name in columns}
    widths = {
        name: max([cell_len(columns[name].heading), *map(cell_len, found)]) for name, found in texts.items()
    }  # fmt: skip
    shown = list(columns)
    while _least_width(shown, widths, columns) > width:
        last = max(shown, key=lambda name: columns[name].rank)
        if not columns[last].rank:
            break
        shown.remove(last)
    # What the whole columns leave goes to those that are cut, the first of which has the keys.
    room = width - _EDGE - sum(_GAP + (0 if columns[name].is_cut else widths[name]) for name in shown)
    flexible = [name for name in shown if columns[name].is_cut]
    for name in flexible[1:]:
        widths[name] = max(min(widths[name], room // (len(flexible) + 1)), len(columns[name].heading))
    for name in flexible[:1]:
        widths[name] = max(room - sum(widths[each] for each in flexible[1:]), _SHORTEST)
    mark = "…" if (sys.stdout.encoding or "").lower().startswith("utf") else "..."
    cells = [[cut(texts[name][place], widths[name], mark) for name in shown] for place in range(len(rows))]
    put_table([columns[name].heading for name in shown], cells)


def _least_width(shown: list[str], widths: Mapping[str, int], columns: Mapping[str, Column]) -> int:
    """How wide the table is at least; its first column, the keys, has a fair room."""
    first = shown[0]
    return _EDGE + sum(
        _GAP + min(widths[name], _ROOM_FOR_KEYS if name == first else 8 if columns[name].is_cut else widths[name])
        for name in shown
    )
