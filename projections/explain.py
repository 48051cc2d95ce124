"""Why a session lives, until when, or why it ended: one sentence, from the view and the history. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.session import SessionView, Status
from lastseen.projections.history import Entry, SessionSpan

_LIMITS = {
    "idle": "it was not used for its idle limit",
    "max_age": "it reached its greatest age",
    "suspend_ttl": "it stayed suspended for longer than its limit",
    "capacity": "more sessions were live than the engine may have, and it was the least recently used",
    "memory": "memory was short, and it was the least recently used",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to "why": `sentence` for people, the rest for programs."""

    key: str
    status: str
    """`active`, `suspended`, `ended` or `unknown`."""
    sentence: str
    session_id: str | None = None
    deadline_ms: int | None = None
    reason: str | None = None
    partition: int | None = None
    offset: int | None = None
    """The record that decided: the last activity of a live session, or the end of an ended one."""
    source: str | None = None
    """The service that wrote that record."""


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


def explain(
    key: str,
    now_ms: int,
    session: SessionView | None,
    last: Entry | None,
    span: SessionSpan | None,
    latest: Entry | None,
    floor: int = 0,
) -> Explanation:
    """Explain a key at `now_ms`.

    `session` is what is live under it, `last` the record of its last activity, `span` the latest session that the
    history knows, `latest` the latest record of the key. Before `floor`, an offset, the history knows nothing.
    """
    if session is not None:
        return _explain_live(now_ms, session, last)
    if span is not None:
        return _explain_ended(key, now_ms, span)
    if floor:
        return Explanation(
            key, "unknown",
            f"No session lives under {key}, and none ended at offset {floor} or later: the history, which is in memory,"
            " goes back no further. Name a file with the setting `snapshot` to keep all of it.",
        )  # fmt: skip
    if latest is None:
        return Explanation(key, "unknown", f"No record names {key}: no session ever lived under it.")
    return Explanation(
        key, "unknown",
        f"No session ever lived under {key}: its latest record, {latest.name or 'no event'} at"
        f" {_record_name(latest.partition, latest.offset)}, is void ({latest.verdict.label}).",
        partition=latest.partition, offset=latest.offset, source=latest.source,
    )  # fmt: skip


def _explain_live(now_ms: int, session: SessionView, last: Entry | None) -> Explanation:
    partition, offset = session.position
    source = last.source if last is not None else None
    event = last.name if last is not None and last.name is not None else "used"
    by = f" by {source}" if source else ""
    record = _record_name(partition, offset)
    created, used = iso_from_ms(session.created_at_ms), iso_from_ms(session.last_active_at_ms)
    if event == "created":
        began = f"it began {created}{by} ({record}) and was not used since"
    else:
        began = f"it began {created}, was last {event} {used}{by} ({record})"
    if session.deadline_ms is None:
        until = "and no limit will end it"
    else:
        left = duration_text(max(session.deadline_ms - now_ms, 0))
        limit = {"idle": "the idle limit", "max_age": "the greatest age", "suspend_ttl": "the limit for suspension"}
        until = (
            f"and lives until {iso_from_ms(session.deadline_ms)} ({left} from now,"
            f" {limit.get(session.deadline_reason or '', 'a limit')}) unless something happens"
        )
    held = [holder for holder, lapses_ms in session.holders.items() if lapses_ms > now_ms]
    holding = f"; {', '.join(held)} hold it" if len(held) > 1 else f"; {held[0]} holds it" if held else ""
    state = "suspended" if session.status is Status.SUSPENDED else "active"
    return Explanation(
        session.key, state,
        f"{session.key} is {state}: {began}, {until}{holding}.",
        session_id=session.session_id, deadline_ms=session.deadline_ms, reason=session.deadline_reason,
        partition=partition, offset=offset, source=source,
    )  # fmt: skip


def _explain_ended(key: str, now_ms: int, span: SessionSpan) -> Explanation:
    began = f"it began {iso_from_ms(span.began_at_ms)}"
    if span.ended_at_ms is None or span.reason is None:
        return Explanation(
            key, Status.ENDED.value,
            f"{key} has ended: {began}, and a limit passed before {iso_from_ms(now_ms)}; no record says so yet.",
            session_id=span.session_id, partition=span.partition, offset=span.began_offset, source=span.began_by,
        )  # fmt: skip
    why = _LIMITS.get(span.reason)
    source = span.ended_by or "an unknown source"
    record = _record_name(span.partition, span.ended_offset or 0)
    if why is None:
        what = f"{source} closed it ({span.reason}, {record})"
    else:
        what = f"{why} ({span.reason}; settled by a record of {source}, {record})"
    lived = duration_text(span.ended_at_ms - span.began_at_ms)
    return Explanation(
        key, Status.ENDED.value,
        f"{key} ended {iso_from_ms(span.ended_at_ms)} because {what}; {began} and lived {lived}.",
        session_id=span.session_id, reason=span.reason, partition=span.partition, offset=span.ended_offset,
        source=span.ended_by,
    )  # fmt: skip


def _record_name(partition: int, offset: int) -> str:
    return f"record {partition}:{offset}"
