"""Why a session lives, until when, or why it ended: one sentence, from the view and the history. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.events import TIMED_REASONS
from lastseen.engine.session import Policy, SessionView, Status, limit_of
from lastseen.projections.history import Entry
from lastseen.projections.session_spans import SessionSpan

_WITHOUT_VALUE = {"idle": "its idle limit", "max_age": "its greatest age", "suspend_ttl": "its limit for suspension"}
_LIMITS = {"idle": "the idle limit", "max_age": "the greatest age", "suspend_ttl": "the limit for suspension"}
WhenText = Callable[[int], str]
"""How times are written in a sentence."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to "why": `sentence` for people, the rest for programs."""

    key: str
    status: str
    """`active`, `suspended`, `ended` or `unknown`; with `at`, what it was then."""
    sentence: str
    session_id: str | None = None
    deadline_ms: int | None = None
    """When it is due; of an ended session, when it was due or would have been."""
    reason: str | None = None
    """Of a live session the limit that sets the deadline, of an ended one the reason of its end."""
    partition: int | None = None
    offset: int | None = None
    """The record that decided: the last activity of a live session, or the end of an ended one."""
    source: str | None = None
    """The service that wrote that record."""
    at_ms: int | None = None
    """The time that the answer is about; `None`: now."""
    began_at_ms: int | None = None
    last_active_at_ms: int | None = None
    ended_at_ms: int | None = None
    """When it ended, if it has by now: also of a session that was live at `at_ms`."""
    limit_ms: int | None = None
    """The value of the limit that `reason` names."""
    max_sessions: int | None = None
    """The bound on sessions that evicted it, where the record of its end says so."""
    displaced_by: str | None = None
    """The key of the session that was the last to begin before an eviction."""
    policy: Policy | None = None
    """The limits that it lives or lived under."""


class Displacement(NamedTuple):
    """What an eviction's record and the records before it tell."""

    max_sessions: int | None = None
    key: str | None = None
    """The last session to begin before it, in its partition."""
    offset: int | None = None
    """Where that began."""


def duration_text(milliseconds: int) -> str:
    """A duration as people say it: the two largest units, such as `1 h 30 min`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds // 1000
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def limit_text(reason: str, limit_ms: int | None) -> str | None:
    """The limit that a reason names, with its value: `the idle limit (30 min)`; `None` for any other reason."""
    name = _LIMITS.get(reason)
    return name if name is None or limit_ms is None else f"{name} ({duration_text(limit_ms)})"


def unknown(
    key: str, latest: Entry | None, *, session_id: str | None = None, at_ms: int | None = None,
    when: WhenText = iso_from_ms, floor: int = 0,
) -> Explanation:  # fmt: skip
    """Explain that no session is known: none with the id, none that had begun, or none at all.

    `latest` is the latest record of the key. Before `floor`, an offset, the history knows nothing.
    """
    if floor:
        which = f"No session {session_id} lived" if session_id is not None else "No session lived"
        now = "No session lives" if session_id is None and at_ms is None else which
        return Explanation(
            key, "unknown",
            f"{now} under {key}, and none ended at offset {floor} or later: the history, which is in memory,"
            " goes back no further. Name a file with the setting `snapshot` to keep all of it.",
            session_id=session_id, at_ms=at_ms,
        )  # fmt: skip
    if session_id is not None:
        until = "" if at_ms is None else f" by {when(at_ms)}"
        return Explanation(
            key, "unknown", f"No session {session_id} had begun under {key}{until}.", session_id=session_id, at_ms=at_ms
        )
    if at_ms is not None and latest is not None:
        return Explanation(key, "unknown", f"No session had begun under {key} by {when(at_ms)}.", at_ms=at_ms)
    if latest is None:
        return Explanation(key, "unknown", f"No record names {key}: no session ever lived under it.", at_ms=at_ms)
    return Explanation(
        key, "unknown",
        f"No session ever lived under {key}: its latest record, {latest.name or 'no event'} at"
        f" {_record_name(latest.partition, latest.offset)}, is void ({latest.verdict.label}).",
        partition=latest.partition, offset=latest.offset, source=latest.source,
    )  # fmt: skip


def explain_live(
    now_ms: int, session: SessionView, last: Entry | None, *, at_ms: int | None = None, when: WhenText = iso_from_ms
) -> Explanation:
    """Explain a session that is live at `now_ms`; with `at_ms`, that was live then.

    `last` is the record of its last activity.
    """
    partition, offset = session.position
    source = last.source if last is not None else None
    event = last.name if last is not None and last.name is not None else "used"
    by = f" by {source}" if source else ""
    record = _record_name(partition, offset)
    created, used = when(session.created_at_ms), when(session.last_active_at_ms)
    if event == "created":
        began = f"it began {created}{by} ({record}) and was not used since"
    else:
        began = f"it began {created}, was last {event} {used}{by} ({record})"
    limit_ms = limit_of(session.policy, session.deadline_reason)
    if session.deadline_ms is None:
        until = "and no limit will end it"
    else:
        left = duration_text(max(session.deadline_ms - now_ms, 0))
        limit = limit_text(session.deadline_reason or "", limit_ms) or "a limit"
        lives, later, happens = (
            ("lives", "from now", "happens") if at_ms is None else ("would live", "later", "happened")
        )
        until = f"and {lives} until {when(session.deadline_ms)} ({left} {later}, {limit}) unless something {happens}"
    held = [holder for holder, lapses_ms in session.holders.items() if lapses_ms > now_ms]
    holds = ("hold", "holds") if at_ms is None else ("held", "held")
    holding = f"; {', '.join(held)} {holds[0]} it" if len(held) > 1 else f"; {held[0]} {holds[1]} it" if held else ""
    state = "suspended" if session.status is Status.SUSPENDED else "active"
    subject = f"{session.key} is" if at_ms is None else f"At {when(at_ms)}, {session.key} was"
    return Explanation(
        session.key, state,
        f"{subject} {state}: {began}, {until}{holding}.",
        session_id=session.session_id, deadline_ms=session.deadline_ms, reason=session.deadline_reason,
        partition=partition, offset=offset, source=source, at_ms=at_ms, began_at_ms=session.created_at_ms,
        last_active_at_ms=session.last_active_at_ms, limit_ms=limit_ms, policy=session.policy,
    )  # fmt: skip


def explain_ended(
    span: SessionSpan, displacement: Displacement, *, at_ms: int | None = None, when: WhenText = iso_from_ms
) -> Explanation:
    """Explain a session that has ended, or that is due though no record has ended it.

    A history that was damaged may lack its end.
    """
    if span.ended_at_ms is None or span.reason is None:
        return Explanation(
            span.key, Status.ENDED.value,
            f"{span.key} has ended: it began {when(span.began_at_ms)}, and the history lacks the record of its end.",
            session_id=span.session_id, partition=span.partition, offset=span.began_offset, source=span.began_by,
            at_ms=at_ms, began_at_ms=span.began_at_ms,
        )  # fmt: skip
    lived = duration_text(span.ended_at_ms - span.began_at_ms)
    used = "" if span.last_active_at_ms is None else f" it was last used {when(span.last_active_at_ms)},"
    return Explanation(
        span.key, Status.ENDED.value,
        f"{span.key} ended {when(span.ended_at_ms)} because {_why(span, displacement)};{used}"
        f"{' it' if not used else ''} began {when(span.began_at_ms)} and lived {lived}.",
        partition=span.partition, offset=span.ended_offset, source=span.ended_by, at_ms=at_ms,
        **_of_end(span, displacement), reason=span.reason, deadline_ms=span.deadline_ms,
        last_active_at_ms=span.last_active_at_ms, limit_ms=span.limit_ms, policy=span.policy,
    )  # fmt: skip


def with_end(
    explanation: Explanation, span: SessionSpan, displacement: Displacement, when: WhenText = iso_from_ms
) -> Explanation:
    """The explanation of a session that was live at an earlier time, with what became of it since."""
    if span.ended_at_ms is None:
        return replace(explanation, sentence=f"{explanation.sentence} It is still live.")
    later = f" It ended {when(span.ended_at_ms)} because {_why(span, displacement)}."
    return replace(explanation, sentence=explanation.sentence + later, **_of_end(span, displacement))


def _of_end(span: SessionSpan, displacement: Displacement) -> dict[str, Any]:
    return {
        "session_id": span.session_id, "began_at_ms": span.began_at_ms, "ended_at_ms": span.ended_at_ms,
        "max_sessions": displacement.max_sessions, "displaced_by": displacement.key,
    }  # fmt: skip


def _why(span: SessionSpan, displacement: Displacement) -> str:
    reason = span.reason or ""
    source = span.ended_by or "an unknown source"
    if span.ended_offset is None:
        settled = "no record has ended it yet"
        record = ""
    else:
        record = _record_name(span.partition, span.ended_offset)
        settled = f"settled by a record of {source}, {record}"
    announced = f"announced by {source}, {record}"
    value = "" if span.limit_ms is None else f" of {duration_text(span.limit_ms)}"
    if reason in TIMED_REASONS:
        limit = f"{_WITHOUT_VALUE[reason]}{value}"
        what = {"idle": "was not used for", "max_age": "reached", "suspend_ttl": "stayed suspended for longer than"}
        return f"it {what[reason]} {limit} ({reason}; {settled})"
    if reason == "capacity":
        bound = displacement.max_sessions
        many = "more sessions were live than the engine may have" if bound is None else (
            f"more than {bound:,} sessions were live (max_sessions)")  # fmt: skip
        pushed = "" if displacement.key is None or displacement.offset is None else (
            f" {displacement.key} was the last to begin before that,"
            f" {_record_name(span.partition, displacement.offset)};")  # fmt: skip
        return f"{many}, and it was the least recently used (capacity;{pushed} {announced})"
    if reason == "memory":
        return f"memory was short, and it was the least recently used (memory; {announced})"
    return f"{source} closed it ({reason}, {record})"


def _record_name(partition: int, offset: int) -> str:
    return f"record {partition}:{offset}"
