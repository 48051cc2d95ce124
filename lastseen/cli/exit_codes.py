"""The exit codes, and the messages of commands that fail."""

from __future__ import annotations

import os
import sys
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

EPILOG = "Exit codes: " + "; ".join(f"{code} {says.replace('`', '')}" for code, says in EXIT_CODES.items()) + "."


def code_of(error: Exception) -> int:
    """The exit code for an error of `lastseen.errors`."""
    from lastseen.engine.errors import InvalidInput, Refused

    if isinstance(error, InvalidInput):
        return INVALID
    return REFUSED if isinstance(error, Refused) else UNAVAILABLE


class ErrorReportingGroup(TyperGroup):
    """Turns what a command raises into a message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from lastseen.engine.errors import LastseenError

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except LastseenError as error:
            typer.echo(f"lastseen: {error}", err=True)
            raise typer.Exit(code_of(error)) from error
        except KeyboardInterrupt as error:
            typer.echo("lastseen: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # What is left in the buffer would fail again when Python closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from error
