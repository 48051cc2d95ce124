"""The exit codes, and the messages of commands that fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

OK, FINDINGS, INVALID, REFUSED, UNAVAILABLE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 4, 130, 141

EXIT_CODES = {
    OK: "done; checks found no fault",
    FINDINGS: "`rebuild` or `log copy` found a difference, `verify`, `doctor`, `topics check` or `producers check` a"
    " fault",
    INVALID: "wrong usage or malformed input; nothing was written",
    REFUSED: "no session under this key, or the session's state or the clock forbids it",
    UNAVAILABLE: "the log or the snapshot is missing, locked, damaged, or not the one that was expected; or the"
    " address to listen on is in use",
    INTERRUPTED: "interrupted with Ctrl-C; a replay or a copy continues when it is started again",
    BROKEN_PIPE: "the reader of the output has closed the pipe",
}
"""What each exit code means."""

_IS_JSON = "lastseen.is_json"
_UsageError: Any = typer.BadParameter.__base__
"""What a parser of arguments raises. Typer has no name for it: it is click's, or that of typer's own copy of click."""

EPILOG = "Exit codes: " + "; ".join(f"{code} {says.replace('`', '')}" for code, says in EXIT_CODES.items()) + "."


def code_of(error: Exception) -> int:
    """The exit code for an error of `lastseen.errors`."""
    from lastseen.engine.errors import InvalidInput, Refused

    if isinstance(error, InvalidInput):
        return INVALID
    return REFUSED if isinstance(error, Refused) else UNAVAILABLE


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether the arguments of a command ask for JSON. They are looked at as they stand: they may be invalid."""
    form = ""
    for number, each in enumerate(arguments):
        if each == "--":
            break
        if each in ("-o", "--output"):
            form = "".join(arguments[number + 1 : number + 2])
        elif each.startswith(("-o", "--output=")):
            form = each.removeprefix("--output=").removeprefix("-o")
        elif each == "--json":
            form = "json"
    return form.lower() in ("json", "jsonl")


class ErrorReportingGroup(TyperGroup):
    """Turns what a command raises into a message on stderr and an exit code; with `-o json`, also into JSON."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note what form of output is asked for, before anything can be wrong with the arguments."""
        ctx.meta[_IS_JSON] = asks_for_json(args)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return self._invoke(ctx)
        except BrokenPipeError as error:
            # What is left in the buffer would fail again when Python closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from error

    def _invoke(self, ctx: Any) -> Any:
        from lastseen.engine.errors import LastseenError

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except LastseenError as error:
            _report(ctx, type(error).__name__, str(error), code_of(error))
            raise typer.Exit(code_of(error)) from error
        except KeyboardInterrupt as error:
            _report(ctx, "Interrupted", "interrupted", INTERRUPTED)
            raise typer.Exit(INTERRUPTED) from error
        except _UsageError as error:
            # Its message, with the usage, goes to stderr as without JSON.
            _put_error(ctx, "UsageError", error.format_message(), INVALID)
            raise


def _report(ctx: Any, name: str, message: str, code: int) -> None:
    typer.echo(f"lastseen: {message}", err=True)
    _put_error(ctx, name, message, code)


def _put_error(ctx: Any, name: str, message: str, code: int) -> None:
    from lastseen.cli.printing import put_json

    if ctx.meta[_IS_JSON]:
        put_json({"error": {"type": name, "message": message, "exit_code": code}})
        sys.stdout.flush()
