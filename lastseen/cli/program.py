"""The program: its commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from lastseen.cli import (
    bulk,
    configuration,
    doctor,
    exports,
    history,
    imports,
    logs,
    maintenance,
    producers,
    replay,
    serve,
    sessions,
    tokens,
    topics,
    verification,
    versions,
)
from lastseen.cli.exit_codes import EPILOG, ErrorReportingGroup
from lastseen.version import __version__

app = typer.Typer(
    name="lastseen",
    cls=ErrorReportingGroup,
    help="Live sessions, their deadlines, and why they ended: an event-sourced session lifecycle engine.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("dev")(serve.dev)
app.command("replay")(replay.replay)
app.command("ls")(sessions.ls)
app.command("show")(sessions.show)
app.command("history")(history.history)
app.command("explain")(history.explain)
app.command("close")(bulk.close)
app.command("suspend")(bulk.suspend)
app.command("resume")(bulk.resume)
app.command("stats")(maintenance.stats)
app.command("prune")(maintenance.prune)
app.command("rebuild")(verification.rebuild)
app.command("verify")(verification.verify)
app.command("doctor")(doctor.doctor)
app.command("version")(versions.show_version)
imports.app.command("history")(exports.import_history)
imports.app.command("sessions")(exports.import_sessions)
app.add_typer(exports.app, name="export")
app.add_typer(imports.app, name="import")
app.add_typer(logs.app, name="log")
app.add_typer(topics.app, name="topics")
app.add_typer(producers.app, name="producers")
app.add_typer(tokens.app, name="token")
app.add_typer(configuration.app, name="config")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"lastseen {__version__}")
        raise typer.Exit


@app.callback()
def lastseen(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Live sessions, their deadlines, and why they ended: an event-sourced session lifecycle engine."""
