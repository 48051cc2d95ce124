"""The format of log lines on stderr: JSON for programs, or lines for people.

Every module logs with `logging` and passes its values in `extra`; a formatter of this module writes the line. A reader
of the lines must not be able to act as a caller or to identify a session, so keys and ids are masked, and text that
looks like a secret is removed.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from lastseen.monitoring.masking import masked

MASKED = frozenset(("key", "session_id", "subject", "owner", "holder"))
"""Fields that name a session or a person."""
_SECRET_NAMES = re.compile(r"password|secret|authorization|token(?!_file)", re.IGNORECASE)
_SECRETS = re.compile(r"""\bls_[A-Za-z0-9_-]{16,}|(?<=\bBearer )[\w.~+/=-]+|(?<=://)[^/\s:@"]*:[^/\s@"]*(?=@)""")
_BREAKS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
"""Characters that JSON does not escape, and that some programs and terminals take for the end of a line."""
_CONTROL = {code: f"\\x{code:02x}" for code in range(0x20)} | _BREAKS
QUIET = {"uvicorn": logging.WARNING, "asyncio": logging.WARNING, "httpx": logging.WARNING, "kafka": logging.CRITICAL}
"""Libraries that log every step, and perhaps what they send. The engine itself reports a failure of Kafka, once; its
client reports each attempt three times."""
_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
"""The attributes of a record that were not passed in `extra`. Python 3.12 added `taskName`."""


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """Make this process log to `stream` (stderr), from `level` on, as `json` or as `lines`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(logging.WARNING if root.level == logging.DEBUG else max(least, root.level))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `event`, `logger`, what was passed in `extra`, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        line = msgspec.json.encode(_fields(self, record), enc_hook=str).decode("utf-8")
        return _SECRETS.sub("***", line.translate(_BREAKS))


class LineFormatter(logging.Formatter):
    """One line for people: time, level, event, then `name=value` for what was passed in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record; the lines of a traceback follow, indented."""
        fields = _fields(self, record)
        time, level, event = (str(fields.pop(name)) for name in ("time", "level", "event"))
        del fields["logger"]
        trace = fields.pop("exception", None)
        values = "".join(f" {name}={_for_people(value)}" for name, value in fields.items())
        line = f"{time[11:23]} {level:<7} {event.translate(_CONTROL)}{values}"
        if trace:
            # Every line of it is indented, so that none can pass for a log line.
            line += "".join(f"\n    {part.translate(_CONTROL)}" for part in str(trace).splitlines())
        return _SECRETS.sub("***", line)


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a line, masked, in the order in which they are written."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"time": at, "level": record.levelname.lower(), "event": record.getMessage(), "logger": record.name}
    fields |= _masked({name: value for name, value in vars(record).items() if name not in _STANDARD})
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = formatter.formatException(record.exc_info)
    return fields


def _masked(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What was passed in `extra`, without secrets, and with keys and ids masked."""
    fields = dict(extra)
    for name, value in extra.items():
        if name in MASKED and value is not None:
            fields[name] = masked(str(value))
        elif _SECRET_NAMES.search(name):
            fields[name] = "***"
    return fields


def _for_people(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode("utf-8")
    return text.translate(_CONTROL)
