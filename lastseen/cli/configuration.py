"""`lastseen config show` and `config validate`: which settings there are, what they are now, and who said so."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lastseen.cli.options import Output, OutputFormat, completed
from lastseen.cli.printing import put_json, put_rows, say

app = typer.Typer(help="The settings of the service.", no_args_is_help=True, rich_markup_mode=None)
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A TOML file of settings. Not given: the one that LASTSEEN_CONFIG names, or ./lastseen.toml.",
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Settings that go together: development, production, high_traffic, long_running.",
        autocompletion=completed("development", "production", "high_traffic", "long_running"),
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting of docs/reference/configuration.md; repeatable."),
]


@app.callback()
def config() -> None:
    """The settings of the service."""


@app.command()
def show(
    config: ConfigFile = None,
    profile: ProfileName = None,
    assignments: Assignments = None,
    origin: Annotated[bool, typer.Option("--origin", help="Show the origin of each value.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show every setting that `lastseen serve` would use here. Secrets are not settings and are not shown."""
    from lastseen.configuration.configuration import configure, shown_value

    configuration = configure({"profile": profile}, assignments or [], config=config)
    given = {"profile": configuration.profile, **configuration.values}
    if output is OutputFormat.JSON:
        values = {name: shown_value(name, each.value) for name, each in given.items()}
        origins = {name: each.origin for name, each in given.items()}
        put_json({name: {"value": values[name], "origin": origins[name]} for name in given} if origin else values)
        return
    rows: list[dict[str, Any]] = [
        {"setting": name, "value": shown_value(name, each.value)} | ({"origin": each.origin} if origin else {})
        for name, each in given.items()
    ]
    columns = {"setting": "setting", "value": "value"} | ({"origin": "from"} if origin else {})
    put_rows(rows, output, columns)


@app.command()
def validate(
    config: ConfigFile = None,
    profile: ProfileName = None,
    assignments: Assignments = None,
) -> None:
    """Check the settings, and name each fault. The exit code is 0 if there is none, else 2.

    Warns if `max_sessions` is below the number of sessions that live now, as far as a snapshot on this machine tells.
    """
    from lastseen.configuration.configuration import configure
    from lastseen.doctor.capacity import STEP, excess, snapshot_of, stored_sessions

    configuration = configure({"profile": profile}, assignments or [], config=config)
    most = configuration.engine["max_sessions"]
    snapshot = snapshot_of(configuration.service.log, configuration.engine["snapshot"])
    live = None if snapshot is None else stored_sessions(snapshot)
    if live is not None and most is not None and live > most:
        say(f"lastseen: warning: {excess(live, most)}. {STEP[0].upper()}{STEP[1:]}")
    say("lastseen: all settings are valid")
