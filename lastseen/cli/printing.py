"""Printing: data as JSON for programs, as a table for people. Data goes to stdout, messages to stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import typer

from lastseen.cli.options import OutputFormat

WIDEST = 100_000
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
ESCAPED_CONTROLS = str.maketrans({code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))})
"""Keys and attributes are untrusted: none of their bytes may control a terminal."""


def say(message: str) -> None:
    """Print a message on stderr."""
    typer.echo(message, err=True)


def put_json(value: Any) -> None:
    """One JSON value on a line of stdout; with all but ASCII escaped where that is not UTF-8, so that it stays JSON.

    Names of files, and what another program has written, may have unpaired surrogates: those are escaped, too.
    """
    try:
        text = msgspec.json.encode(value).decode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), separators=(",", ":"))
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write((text if is_unicode else _NOT_ASCII.sub(_json_escape, text)) + "\n")


def _json_escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def put_rows(
    rows: Iterable[Mapping[str, Any]],
    form: OutputFormat,
    columns: Mapping[str, str],
    title: str = "",
    *,
    is_wide: bool = False,
) -> None:
    """Rows: one JSON array, one JSON object a line, or a table with `columns` (name in the row → heading)."""
    if form is OutputFormat.JSONL:
        for row in rows:
            put_json(row)
    elif form is OutputFormat.JSON:
        put_json(list(rows))
    else:
        put_table(list(columns.values()), [[row.get(name) for name in columns] for row in rows], title, is_wide=is_wide)


def put_listing(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    form: OutputFormat,
    columns: Mapping[str, str],
    cursor: str | int | None = None,
    *,
    is_wide: bool = False,
    failed: Mapping[int, Exception] | None = None,
) -> None:
    """A page of a listing. As JSON, one object: the rows under the name of what is listed, and `cursor`.

    `cursor` fetches the next page; `None` on the last, and for what has no pages. `failed` are the partitions that are
    missing, and why: they are named on stderr, and in JSON as `failed_partitions`.
    """
    say_failed(failed or {})
    if form is OutputFormat.JSON:
        put_json({name: list(rows), "cursor": cursor} | ({"failed_partitions": sorted(failed)} if failed else {}))
        return
    put_rows(rows, form, columns, is_wide=is_wide)
    say_more(name, cursor)


def say_more(name: str, cursor: str | int | None) -> None:
    """Say how the next page of a listing is fetched, if there is one."""
    if cursor is not None:
        say(f"more {name} follow: --cursor {cursor}")


def say_failed(failed: Mapping[int, Exception]) -> None:
    """Say which partitions a listing lacks, and why."""
    for number, why in sorted(failed.items()):
        say(f"partition {number} cannot be read, so its sessions are missing here: {why}")


def put_values(
    value: Mapping[str, Any], form: OutputFormat, shown: Mapping[str, Any] | None = None, title: str = ""
) -> None:
    """One JSON object; or a table of `shown`, or else of what is in the object, a figure a line."""
    if form is not OutputFormat.TABLE:
        put_json(value)
        return
    put_table(["", ""], [[name, each] for name, each in flat(value if shown is None else shown)], title)


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Nested figures in one list: `ended.idle`."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def put_table(
    headings: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", *, is_wide: bool = False
) -> None:
    """A table on stdout. Off a terminal, or if `is_wide`, it is as wide as its content: other programs cut it up."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    has_headings = any(headings)
    table = Table(title=title or None, box=box.SIMPLE_HEAD, show_header=has_headings, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # `Text`, because rich would read `[…]` in a plain string as markup.
        table.add_row(*(Text(cell_text(each)) for each in row))
    console = Console(file=sys.stdout)
    if is_wide or not console.is_terminal:
        console = Console(file=sys.stdout, width=WIDEST, no_color=True)
        console.width = max(console.measure(table).maximum, 1)
    console.print(table)


def cell_text(value: Any) -> str:
    """A value in a table, with nothing in it that controls a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, str | int):
        return str(value).translate(ESCAPED_CONTROLS)
    return msgspec.json.encode(value).decode("utf-8").translate(ESCAPED_CONTROLS)


def time_text(at_ms: int | None, local: bool = False) -> str | None:
    """A time in milliseconds for people, in UTC or in this machine's time zone."""
    from lastseen.cli.times import zone
    from lastseen.engine.clock import iso_from_ms, local_text

    if at_ms is None:
        return None
    tz = zone(local)
    return iso_from_ms(at_ms) if tz is None else local_text(at_ms, tz)
