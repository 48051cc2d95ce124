"""`lastseen doctor`: how a log, its snapshot and this machine stand, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastseen.cli.configuration import Assignments, ConfigFile, ProfileName
from lastseen.cli.exit_codes import FINDINGS
from lastseen.cli.options import Output, OutputFormat
from lastseen.cli.printing import put_json, put_rows, say

if TYPE_CHECKING:
    from lastseen.configuration.service_settings import ServiceSettings

_COLUMNS = {"check": "what", "severity": "how", "says": "found", "next_step": "next step"}


def doctor(
    log: Annotated[
        str | None,
        typer.Option(
            "--log", metavar="URL",
            help="The log: sqlite:///relative.db, sqlite:////absolute.db or kafka://host:9092/topic.",
        ),
    ] = None,
    config: ConfigFile = None,
    profile: ProfileName = None,
    assignments: Assignments = None,
    is_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:  # fmt: skip
    """Examine the log, its snapshot, this machine and the service.

    Settings are those that `lastseen serve` would use here. It reports the state of each part and what to do next:
    whether the log exists and can be used, clocks, how far the snapshot is behind, its digest, whether more sessions
    live than `max_sessions`, free space, memory, and the service, if it runs. It only reads, and may run beside a
    service. The exit code is 1 if there is a warning or an error.
    """
    from lastseen.configuration.configuration import configure
    from lastseen.doctor.examine import examine
    from lastseen.doctor.findings import Severity, Subject
    from lastseen.engine.clock import SystemClock

    configuration = configure({"log": log, "profile": profile}, assignments or [], config=config)
    settings, engine = configuration.service, configuration.engine
    subject = Subject(
        settings.log, engine["snapshot"], engine["max_body_bytes"], engine["max_memory_bytes"], settings.token_file,
        _address(settings), engine["max_sessions"],
    )  # fmt: skip
    found = list(examine(subject, SystemClock().now_ms()))
    is_well = not any(each.severity in (Severity.WARNING, Severity.ERROR) for each in found)
    rows = [each._asdict() for each in found]
    if is_json or output is OutputFormat.JSON:
        put_json({"ok": is_well, "findings": rows})
    else:
        put_rows(rows, output, _COLUMNS)
    if not is_well:
        say("lastseen: the warnings and errors above need attention")
        raise typer.Exit(FINDINGS)


def _address(settings: ServiceSettings) -> str | None:
    """The service's address from this machine; `None` if it is unknown."""
    if "api" not in settings.roles or not settings.port:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'http' if settings.tls_cert_file is None else 'https'}://{shown}:{settings.port}"
