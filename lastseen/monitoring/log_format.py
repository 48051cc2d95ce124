"""Log lines on stderr: JSON for programs, or lines for people. No secret in either, and no whole id of a session.

Every module logs with `logging`, its figures in `extra`; here it is decided how a line looks. Whoever may read the
lines should not be able to act as a caller, nor to name a session: so keys and ids are masked, and what looks like a
secret goes.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import Processor

from lastseen.monitoring.masking import masked

MASKED = frozenset(("key", "session_id", "subject", "owner", "holder"))
"""Fields that name a session or a person."""
_SECRET_NAMES = re.compile(r"password|secret|authorization|token(?!_file)", re.IGNORECASE)
_SECRETS = re.compile(r"""\bls_[A-Za-z0-9_-]{16,}|(?<=\bBearer )[\w.~+/=-]+|(?<=://)[^/\s:@"]*:[^/\s@"]*(?=@)""")
_BREAKS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
"""What JSON leaves as it is, and some programs and terminals take for the end of a line, or worse."""
_CONTROL = {code: f"\\x{code:02x}" for code in range(0x20)} | _BREAKS
QUIET = {"uvicorn": logging.WARNING, "asyncio": logging.WARNING, "httpx": logging.WARNING, "kafka": logging.CRITICAL}
"""Libraries whose every step is of no interest here, and that may log what they send. What fails in Kafka the engine
says itself, once; its client says each attempt three times."""


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """From now on this process logs to `stream` (stderr), from `level` on, as `json` or as `lines`."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        ExtraAdder(),
        _add_time,
        structlog.processors.format_exc_info,
        _mask,
    ]
    render = _as_json if form == "json" else _as_line
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, render])
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(logging.WARNING if root.level == logging.DEBUG else max(least, root.level))


def _add_time(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event["_record"]
    event["time"] = (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    return event


def _mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name in MASKED and value is not None:
            event[name] = masked(str(value))
        elif _SECRET_NAMES.search(name):
            event[name] = "***"
    return event


def _as_json(_: Any, __: str, event: Mapping[str, Any]) -> str:
    first = {name: event[name] for name in ("time", "level", "event")}
    rest = {name: value for name, value in event.items() if name not in first}
    line = msgspec.json.encode(first | rest, enc_hook=str).decode("utf-8")
    return _SECRETS.sub("***", line.translate(_BREAKS))


def _as_line(_: Any, __: str, event: Mapping[str, Any]) -> str:
    rest = "".join(
        f" {name}={_for_people(value)}"
        for name, value in event.items()
        if name not in ("time", "level", "event", "logger", "exception")
    )
    told = str(event["event"]).translate(_CONTROL)
    line = f"{str(event['time'])[11:23]} {event['level']:<7} {told}{rest}"
    trace = event.get("exception")
    if trace:
        # One line each, indented: nothing in it can pass for a line of ours.
        line += "".join(f"\n    {part.translate(_CONTROL)}" for part in str(trace).splitlines())
    return _SECRETS.sub("***", line)


def _for_people(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode("utf-8")
    return text.translate(_CONTROL)
