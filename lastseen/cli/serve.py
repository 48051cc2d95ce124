"""`lastseen serve` and `lastseen dev`: the service, for production and to try it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastseen.cli.configuration import Assignments, ConfigFile, ProfileName
from lastseen.cli.exit_codes import code_of

if TYPE_CHECKING:
    from lastseen.configuration.configuration import Configuration

DEV_LOG = "lastseen-dev.db"
_ADDRESSES = {
    "/docs": "the API, for people",
    "/v1/sessions": "sessions",
    "/v1/events/stream": "events, as they happen",
    "/v1/statistics": "figures",
    "/metrics": "metrics",
    "/readyz": "health",
    "/openapi.json": "the API, for programs",
}
"""The addresses that `lastseen dev` prints."""


def serve(
    log: Annotated[
        str | None,
        typer.Option(
            "--log", metavar="URL", help="The log: sqlite:///relative.db, sqlite:////absolute.db or kafka://host:9092/topic."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help="The address to listen on; needs --token-file unless loopback."),
    ] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="N", help="The port; 0 picks a free one.")] = None,
    roles: Annotated[
        str | None,
        typer.Option("--roles", metavar="ROLES", help="What this process does: api,view,snapshot,pruner,facts."),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option("--token-file", metavar="FILE", help="The token file, made by `lastseen token create`."),
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="FILE", help="Path of the snapshot; else beside the log.")
    ] = None,
    idle_ttl: Annotated[
        str | None, typer.Option("--idle-ttl", metavar="DURATION", help="A session ends this long after it was used.")
    ] = None,
    max_sessions: Annotated[
        str | None, typer.Option("--max-sessions", metavar="N", help="Above it, the least recently used sessions end.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="FORM", help="json for programs, lines for people.")
    ] = None,
    profile: ProfileName = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:  # fmt: skip
    """Run the service until SIGTERM or Ctrl-C.

    By default it listens on 127.0.0.1:8321 and has every role. Settings may also be in the environment
    (LASTSEEN_PORT=8400), in a TOML file, or in a profile: see docs/reference/configuration.md, and `lastseen
    config show`. On the first signal it accepts no more requests, finishes those in flight, flushes the snapshot and
    hands over its partitions; on the second it stops waiting. Either way nothing acknowledged is lost, and the exit
    code is 0.
    """
    from lastseen.configuration.configuration import configure

    flags = {
        "log": log, "host": host, "port": port, "roles": roles, "token_file": token_file, "snapshot": snapshot,
        "idle_ttl": idle_ttl, "max_sessions": max_sessions, "log_level": log_level, "log_format": log_format,
        "profile": profile,
    }  # fmt: skip
    _run(configure(flags, assignments or [], config=config))


def dev(
    port: Annotated[str | None, typer.Option("--port", metavar="N", help="The port; 0 picks a free one.")] = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help=f"Keep everything in memory: no {DEV_LOG} in this folder.")
    ] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Play recorded chat, so that sessions begin and end.")] = False,
    speed: Annotated[
        float, typer.Option("--speed", metavar="X", min=1, max=100_000, help="The playback speed, as a factor.")
    ] = 60,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Run the service on 127.0.0.1:8321 without tokens, to try it out.

    Its log is lastseen-dev.db in this folder, and the next start continues with it. With --demo it plays a chat channel
    of 2006, in which people join, talk and leave; at 60 times the speed, a session idles out after half a minute of
    silence.
    """
    from lastseen.configuration.configuration import configure
    from lastseen.configuration.sources import SourcedValue

    own = "lastseen dev"
    log = "memory://" if ephemeral else f"sqlite:///{DEV_LOG}"
    # Settings for production in the environment or in a file must not affect this command.
    fixed = {"log": log, "host": "127.0.0.1", "roles": ("api", "view", "snapshot", "pruner", "facts"), "view": "all"}
    nothing = dict.fromkeys(("token_file", "snapshot", "group", "member", "address", "partitions"))
    configuration = configure(
        {"port": port},
        assignments or [],
        config=config,
        defaults={"profile": SourcedValue("development", own), "statistics_interval": SourcedValue(None, own)},
        fixed={name: SourcedValue(value, own) for name, value in (fixed | nothing).items()},
    )
    companions = []
    if demo:
        from lastseen.service.demo import demonstration

        companions.append(demonstration(speed))

    def show(address: str | None) -> None:
        _show_addresses(address, None if ephemeral else Path(DEV_LOG), is_demo=demo)

    _run(configuration, ready=show, companions=companions)


def _run(configuration: Configuration, **more: Any) -> None:
    from lastseen.service.process import check_serving, serve

    check_serving()
    from lastseen.monitoring.log_format import set_up

    service = configuration.service
    set_up(service.log_level, service.log_format)
    with _errors_as_json() if service.log_format == "json" else nullcontext():
        serve(configuration, **more)


@contextmanager
def _errors_as_json() -> Iterator[None]:
    """Log the error that ends the service as a JSON line, for the programs that read the log."""
    import logging

    from lastseen.engine.errors import LastseenError

    try:
        yield
    except LastseenError as error:
        logging.getLogger("lastseen.service").error("%s", error, extra={"error": type(error).__name__})
        raise typer.Exit(code_of(error)) from error


def _show_addresses(address: str | None, log: Path | None, *, is_demo: bool) -> None:
    import sys

    from lastseen.cli.printing import put_table

    rows = [[what, f"{address}{path}"] for path, what in _ADDRESSES.items()]
    rows.append(["the log", "in memory: it ends with this command" if log is None else str(log)])
    if is_demo:
        rows.append(["demonstration", "recorded chat: sessions begin and end"])
    put_table(["", ""], rows, "lastseen is up; stop it with Ctrl-C")
    typer.echo("\nTry next, in another terminal:\n")
    session = '{"key": "telegram:42"}'
    typer.echo(f"  curl -s {address}/v1/sessions -H 'Content-Type: application/json' -d '{session}'")
    typer.echo(f"  curl -sN '{address}/v1/events/stream?last_event_id=0'")
    if log is not None:
        typer.echo(f"  lastseen ls --log sqlite:///{log}")
    typer.echo(f"\nThe API, in a browser: {address}/docs")
    sys.stdout.flush()
