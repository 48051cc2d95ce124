"""Settings of an engine, their units and their bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from lastseen.embedded.setting_checks import Check, check_bool, check_settings, matching, one_of, optional, path, whole
from lastseen.engine.durations import text_ms
from lastseen.engine.errors import InvalidPolicy, InvalidSetting, shown
from lastseen.engine.log.port import MAX_PARTITIONS
from lastseen.engine.session import MAX_LIMIT_MS, Policy
from lastseen.projections.bodies import DEFAULT_MAX_BODY_BYTES
from lastseen.projections.history_bound import DEFAULT_MAX_BYTES as DEFAULT_MAX_HISTORY_BYTES
from lastseen.projections.snapshot_file import IN_MEMORY

IN_MEMORY_NAMES = ("memory", IN_MEMORY)
"""Values of `snapshot` that keep snapshot and history in memory."""

_name = re.compile(r"[A-Za-z0-9._:/\[\]-]{1,200}")
_source = re.compile("[^\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]{1,256}")


def duration_ms(name: str, value: object) -> int:
    """Milliseconds of a duration: a whole number of milliseconds, a `timedelta`, or text such as `90s`, `1h30m`, `90d`.

    Raises `InvalidSetting` naming the setting.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        milliseconds = value
    else:
        found = text_ms(value)
        if found is None:
            raise InvalidSetting(
                f"{name} = {shown(value)}: give milliseconds, or a duration such as 90s, 30m, 4h or 90d"
            )
        milliseconds = found
    if not 0 < milliseconds <= MAX_LIMIT_MS:
        raise InvalidSetting(f"{name} = {shown(value)}: give more than zero, or leave it out for no limit")
    return milliseconds


def policy(
    *,
    idle_ttl: int | str | None = None,
    max_age: int | str | None = None,
    suspend_ttl: int | str | None = None,
    touch_precision: int | str | None = None,
    max_hold: int | str | None = "1h",
    max_messages: int | None = 1000,
) -> Policy:
    """A policy from durations (`"30m"`, or milliseconds); `None` disables a limit. Raises `InvalidSetting`."""
    limits = {
        f"{name}_ms": None if value is None else duration_ms(name, value)
        for name, value in (
            ("idle_ttl", idle_ttl),
            ("max_age", max_age),
            ("suspend_ttl", suspend_ttl),
            ("max_hold", max_hold),
        )
    }
    precision_ms = duration_ms("touch_precision", touch_precision) if touch_precision not in (None, 0) else 0
    try:
        return Policy(**limits, touch_precision_ms=precision_ms, max_messages=max_messages)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidPolicy(f"{first['loc'][0]} = {shown(first['input'])}: {first['msg']}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an engine runs. Durations are whole milliseconds or text such as `30m`; `None` means no limit."""

    idle_ttl: int | str | None = "30m"
    """Ends an active session this long after its last activity."""
    max_age: int | str | None = None
    """Ends an active session this long after its beginning, time spent suspended not counted."""
    suspend_ttl: int | str | None = None
    """Ends a suspended session this long after it was suspended."""
    touch_precision: int | str | None = None
    """A plain touch within this time of the last one is not written."""
    max_hold: int | str | None = "1h"
    """The longest lease that a holder gets at a time."""
    max_messages: int | None = 1000
    """How many of the newest messages are kept with a session."""
    max_sessions: int | None = None
    """When more sessions are live, the least recently used end; suspended and held sessions are exempt."""
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    """Memory for attributes and messages; the rest is read from the snapshot at each request."""
    max_memory_bytes: int | None = None
    """The process's memory limit; `None` takes the cgroup's, or the machine's. Above 80% of it bodies leave memory."""
    evict_on_pressure: bool = False
    """Whether sessions, least recently used first, end for `memory` when dropping bodies from memory does not help."""
    snapshot: str | None = None
    """The path of the snapshot, or `memory`. `None`: beside an SQLite log; for a log on Kafka in the account's folder
    for state (`$STATE_DIRECTORY`, `$XDG_STATE_HOME` or `~/.local/state`), and in memory where there is none."""
    max_history_bytes: int = DEFAULT_MAX_HISTORY_BYTES
    """Memory for the history where snapshot and history are in memory: beyond it, the oldest records leave it. On the
    disk the history keeps all."""
    snapshot_interval: int | str = "1s"
    """How often changes are flushed; sooner when bodies grow fast."""
    archive_interval: int | str | None = "1h"
    """How often a copy of the snapshot is archived; `None`: never."""
    source: str = "/lastseen"
    """The name under which this service writes events."""
    freeze: bool = False
    """Whether to call `gc.freeze` after the engine has started, and to raise the garbage collector's thresholds: at a
    million sessions every full collection takes 0.1 s, and finds nothing. It is meant for a process that exists for the
    engine: it concerns everything in the process, and is not undone."""
    background: bool = True
    """Whether threads follow, prune and flush; without them the caller does, with `refresh`, `prune` and `flush`."""
    prune: bool = True
    """Whether this engine announces sessions that are due."""
    view: Literal["all", "owned"] = "all"
    """Whether this engine holds every partition of such a log, or only those that it owns, and refers callers to the
    owners of the others."""
    standbys: int = 1
    """With `view="owned"`: how many engines besides its owner hold each partition, so that it need not be loaded when
    its owner stops or crashes. 0 saves the memory, and costs the loading."""
    acceptable_lag: int = 1_000
    """With `view="owned"`: how many records a partition may be behind when this engine begins to serve it. Only then
    does it become this engine's own, as long as another one serves it."""
    facts: bool = True
    """Whether this engine publishes facts and states, in the other two topics of a log that several machines share."""
    group: str | None = None
    """The group that divides the owner's duties on such a log; `None` names it after the log."""
    member: str | None = None
    """This engine's fixed name in the group: with one, a restart within 10 s moves no duties, and a shutdown passes
    none on before that time; without one, they move at once."""
    address: str | None = None
    """This engine's address for callers and for engines that refer them to it as an owner."""
    partitions: int | None = None
    """The number of partitions of a new log; `None` takes that of an existing log, or 1."""

    @classmethod
    def of(cls, **given: Any) -> Settings:
        """Settings from keyword arguments; raises `InvalidSetting` for those that do not exist or are out of range."""
        check_settings(_CHECKS, given)
        return cls(**given)

    def default_policy(self) -> Policy:
        """The policy of sessions that are created without an explicit one."""
        return policy(
            idle_ttl=self.idle_ttl,
            max_age=self.max_age,
            suspend_ttl=self.suspend_ttl,
            touch_precision=self.touch_precision,
            max_hold=self.max_hold,
            max_messages=self.max_messages,
        )


def _check_limit(name: str, value: Any) -> None:
    policy(**{name: value})


_check_name: Check = optional(matching(_name, "1 to 200 of the characters A-Z a-z 0-9 . _ - : / [ ]"))
_CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(
        ("idle_ttl", "max_age", "suspend_ttl", "touch_precision", "max_hold", "max_messages"), _check_limit
    ),
    "max_sessions": optional(whole(1, MAX_LIMIT_MS)),
    "max_body_bytes": whole(1, MAX_LIMIT_MS),
    "max_memory_bytes": optional(whole(1, MAX_LIMIT_MS)),
    "evict_on_pressure": check_bool,
    "snapshot": optional(path("the path of a file, or memory")),
    "max_history_bytes": whole(1, MAX_LIMIT_MS),
    "snapshot_interval": duration_ms,
    "archive_interval": optional(duration_ms),
    "source": matching(_source, "text of 1 to 256 characters without control characters"),
    "freeze": check_bool,
    "background": check_bool,
    "prune": check_bool,
    "view": one_of("all", "owned"),
    "standbys": whole(0, MAX_PARTITIONS),
    "acceptable_lag": whole(0, MAX_LIMIT_MS),
    "facts": check_bool,
    "group": _check_name,
    "member": _check_name,
    "address": _check_name,
    "partitions": optional(whole(1, MAX_PARTITIONS)),
}
"""The check of every setting."""
