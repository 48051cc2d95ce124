"""The options that commands share."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class OutputFormat(enum.StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


LogUrl = Annotated[
    str,
    typer.Option(
        "--log", envvar="LASTSEEN_LOG", metavar="URL", help="The log: sqlite:///relative.db or sqlite:////absolute.db."
    ),
]
Output = Annotated[
    OutputFormat,
    typer.Option(
        "--output", "-o", help="table for people; json, one value; jsonl, one value a line.", case_sensitive=False
    ),
]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The session key, such as irc:#ubuntu:ana.")]
DEFAULT_LOG = "sqlite:///lastseen.db"
