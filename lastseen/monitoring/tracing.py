"""Traces of an engine's commands, by OpenTelemetry, for programs that have set up a provider of traces.

A span names the command and how it ended. It never holds a key, a session's id or what was said: traces are kept
elsewhere, by others. Without a provider nothing is changed, and nothing costs anything.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from lastseen.engine.commands import Commands
from lastseen.engine.errors import LastseenError, LogError, SnapshotError

COMMANDS = (
    "open", "create", "rotate", "touch", "update", "touch_many", "suspend", "resume", "take_lease", "release", "close",
    "close_many", "suspend_many", "resume_many",
)  # fmt: skip
"""The commands that append to the log; `hold` takes leases."""
UNSET = ("ProxyTracerProvider", "NoOpTracerProvider")


def is_on() -> bool:
    """Whether this program has set up a provider of traces. It cannot have without loading OpenTelemetry."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    return trace is not None and type(trace.get_tracer_provider()).__name__ not in UNSET


def trace_commands(engine: Commands) -> None:
    """Have every command of `engine` leave a span, `lastseen.touch`, below the caller's own."""
    from opentelemetry import trace

    tracer = trace.get_tracer("lastseen")
    for name in COMMANDS:
        setattr(engine, name, _traced(tracer, f"lastseen.{name}", getattr(engine, name)))


def _traced(tracer: Any, name: str, command: Callable[..., Any]) -> Callable[..., Any]:
    from opentelemetry.trace import Status, StatusCode

    @functools.wraps(command)
    def traced(*args: Any, **kwargs: Any) -> Any:
        # The message of an error may contain a key: only its class is recorded.
        with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            try:
                return command(*args, **kwargs)
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                # A refusal is an answer; only what the caller can do nothing about is a failure.
                if not isinstance(error, LastseenError) or isinstance(error, LogError | SnapshotError):
                    span.set_status(Status(StatusCode.ERROR))
                raise

    return traced
