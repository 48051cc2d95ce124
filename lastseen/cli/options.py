"""The options that commands share."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lastseen.engine.arguments import Anything


class OutputFormat(enum.StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def completed(*values: str) -> Callable[[str], list[str]]:
    """The values of an option that a shell completes."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


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


def or_any(text: str | None) -> str | Anything:
    """The filter of an option: any where the option is not given. Empty text stays, and is refused."""
    from lastseen.engine.arguments import ANY

    return ANY if text is None else text
