"""The command line: `lastseen …`. Data goes to stdout, messages go to stderr."""

from __future__ import annotations


def main() -> None:
    """Run the command line, and leave with its exit code.

    A terminal or a pipe that has no Unicode gets the characters that it cannot show as escapes.
    """
    import io
    import sys

    from lastseen.cli.program import app

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="lastseen")


__all__ = ["main"]
