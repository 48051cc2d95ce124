"""The program: its commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from lastseen.cli import (
    checking,
    configuring,
    doctoring,
    exporting,
    history,
    importing,
    logs,
    maintenance,
    replaying,
    serving,
    sessions,
    tokens,
    topics,
)
from lastseen.cli.exits import EPILOG, Guarded
from lastseen.version import __version__

app = typer.Typer(
    name="lastseen",
    cls=Guarded,
    help="Who is live, until when, and why: an event-sourced session lifecycle engine.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serving.serve)
app.command("dev")(serving.dev)
app.command("replay")(replaying.replay)
app.command("ls")(sessions.ls)
app.command("show")(sessions.show)
app.command("history")(history.history)
app.command("explain")(history.explain)
app.command("stats")(maintenance.stats)
app.command("prune")(maintenance.prune)
app.command("rebuild")(checking.rebuild)
app.command("verify")(checking.verify)
app.command("doctor")(doctoring.doctor)
importing.app.command("history")(exporting.import_history)
importing.app.command("sessions")(exporting.import_sessions)
app.add_typer(exporting.app, name="export")
app.add_typer(importing.app, name="import")
app.add_typer(logs.app, name="log")
app.add_typer(topics.app, name="topics")
app.add_typer(tokens.app, name="token")
app.add_typer(configuring.app, name="config")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"lastseen {__version__}")
        raise typer.Exit


@app.callback()
def lastseen(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Who is live, until when, and why: an event-sourced session lifecycle engine."""
