"""`lastseen version`: what runs here, for scripts and for reports of faults."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from lastseen.cli.options import Output, OutputFormat
from lastseen.cli.printing import put_json
from lastseen.version import __version__

_LIBRARIES = ("eventsourcing", "kafka-python", "msgspec", "pydantic", "fastapi", "uvicorn")


def show_version(output: Output = OutputFormat.TABLE) -> None:
    """Print the version. With -o json, also those of Python, SQLite and the main libraries."""
    import sqlite3

    if output is OutputFormat.TABLE:
        typer.echo(f"lastseen {__version__}")
        return
    put_json(
        {
            "version": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "sqlite": sqlite3.sqlite_version,
            "libraries": {name: _installed(name) for name in _LIBRARIES},
        }
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
