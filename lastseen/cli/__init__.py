"""The command line: `lastseen …`. Data goes to stdout, messages go to stderr."""

from __future__ import annotations


def main() -> None:
    """Run the command line, and leave with its exit code."""
    from lastseen.cli.program import app

    app(prog_name="lastseen")


__all__ = ["main"]
