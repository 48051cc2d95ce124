"""`lastseen token create`, `list` and `revoke`: who may call the HTTP service."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lastseen.cli.options import Output, OutputFormat, completed, or_any
from lastseen.cli.printing import put_json, put_listing, say, time_text

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, list and revoke the tokens of the HTTP service. A running service notices within two seconds.",
)

DEFAULT_FILE = "lastseen-tokens.json"
_COLUMNS = {"name": "name", "scopes": "scopes", "prefix": "prefix", "created": "created", "expires": "expires"}

File = Annotated[
    str,
    typer.Option("--token-file", envvar="LASTSEEN_TOKEN_FILE", metavar="PATH", help="The token file."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name, which log lines show.")]


@app.command("create")
def create(
    name: Name,
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="read, touch, manage or admin; give it once for each.",
            autocompletion=completed("read", "touch", "manage", "admin"),
        ),
    ],
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", help="Only sessions whose keys have this prefix; the token gives no access to others."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DURATION", help="How long the token is valid, such as 90d.")
    ] = None,
    file: File = DEFAULT_FILE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Make a token and print it once. Only its SHA-256 is stored."""
    from lastseen.auth.token_file import TokenFile
    from lastseen.embedded.settings import duration_ms
    from lastseen.engine.clock import SystemClock

    expires_in_ms = None if expires is None else duration_ms("expires", expires)
    secret, token = TokenFile(file).create(name, scope, or_any(prefix), SystemClock().now_ms(), expires_in_ms)
    if output is OutputFormat.TABLE:
        typer.echo(secret)
    else:
        put_json({"token": secret, "name": token.name, "expires_at_ms": token.expires_at_ms})
    if prefix and prefix[-1].isalnum():
        say(f"note: the prefix {prefix} covers keys such as {prefix}2:… too; end it with a separator such as a colon")
    say("Save it now: it is not shown again. Send it in a header: Authorization: Bearer <token>")


@app.command("list")
def list_tokens(file: File = DEFAULT_FILE, output: Output = OutputFormat.TABLE) -> None:
    """List the tokens by name. Shows their scopes, prefixes and times, never the tokens themselves."""
    from lastseen.auth.caller import Scope
    from lastseen.auth.token_file import TokenFile
    from lastseen.engine.clock import SystemClock

    now_ms = SystemClock().now_ms()
    tokens = TokenFile(file).read()
    if output is OutputFormat.TABLE:
        rows: list[dict[str, Any]] = [
            {
                "name": each.name,
                "scopes": ", ".join(scope for scope in Scope if scope in each.scopes),
                "prefix": each.prefix or None,
                "created": time_text(each.created_at_ms),
                "expires": "expired" if each.is_expired(now_ms) else time_text(each.expires_at_ms),
            }
            for each in tokens
        ]
    else:
        rows = [
            {
                "name": each.name,
                "scopes": sorted(each.scopes),
                "prefix": each.prefix,
                "created_at_ms": each.created_at_ms,
                "expires_at_ms": each.expires_at_ms,
                "expired": each.is_expired(now_ms),
            }
            for each in tokens
        ]
    put_listing("tokens", rows, output, _COLUMNS)


@app.command("revoke")
def revoke(name: Name, file: File = DEFAULT_FILE) -> None:
    """Revoke a token. Requests with it are refused within two seconds, without a restart."""
    from lastseen.auth.token_file import TokenFile

    TokenFile(file).revoke(name)
    say(f"{name} is revoked")
