"""The caller's result is the outcome of its record."""

from __future__ import annotations

import json
from collections.abc import Iterator

from lastseen.engine.errors import ClockSkew, InvalidEvent, LogUnavailable, NotOwner, OutcomeUnknown, Refused
from tests.simulation.node import Answer
from tests.simulation.world import World

SAYS = "the caller's answer equals the verdict in the log"
ERRORS = {
    "clock_skew": "ClockSkew", "no_session": "SessionNotFound", "stale_session": "StaleSession",
    "ended": "SessionEnded", "version_conflict": "VersionConflict", "exists": "SessionExists",
    "id_reused": "SessionExists", "suspended": "SessionSuspended", "already": "AlreadyDone",
    "too_many": "TooManyHolders", "not_due": "NotDue", "held": "SessionHeld",
}  # fmt: skip


def check(world: World) -> Iterator[str]:
    """Every answer of a single command."""
    verdicts = {event_id: folded.verdict.label for event_id, folded in world.first_copies().items()}
    for answer in world.evidence.answers:
        if answer.command != "touch many":
            for says in _judged(answer, verdicts):
                yield f"node {answer.node}, {answer.command} of {answer.key}: {says}"
        elif answer.error is not None and not isinstance(answer.error, LogUnavailable | OutcomeUnknown):
            yield f"node {answer.node}, touch many: {answer.error!r}"
        elif answer.error is None and answer.wait == "applied":
            yield from _many(answer, verdicts)


def _judged(answer: Answer, verdicts: dict[str, str]) -> Iterator[str]:
    sent = [json.loads(message.value)["id"] for each in answer.appended for message in each.messages]
    found = [verdicts.get(event_id) for event_id in sent]
    error = answer.error
    if error is None and answer.wait == "applied":
        # Another caller was faster; decided again, there was nothing to write: `open` finds the session, a touch is too
        # soon.
        was_beaten = answer.command in ("open", "touch") and not answer.pinned
        was_beaten = was_beaten and answer.view is not None and _named(answer) != answer.view[0]
        if found and found[-1] != "applied" and not was_beaten:
            yield f"went well, and its record is {found[-1]}"
        if [verdict for verdict in found[:-1] if verdict == "applied"]:
            yield f"took effect more than once: {found}"
        if not found and answer.view is None:
            yield "went well, and nothing was sent"
    elif isinstance(error, Refused):
        if "applied" in found:
            yield f"was refused ({error!r}), and took effect: {found}"
        # A command that may be decided again can be refused later for another reason; these cannot.
        is_last = answer.command in ("open", "create") or (answer.pinned and answer.command != "rotate")
        if found and (is_last or isinstance(error, ClockSkew)) and not _fits(found[-1], type(error).__name__):
            yield f"was refused with {error!r}, and its record is {found[-1]}"
    elif isinstance(error, NotOwner):
        if found:
            yield f"got NotOwner, and sent {found}"
    elif isinstance(error, LogUnavailable):
        if found[-1] is not None:
            yield f"got an error that nothing was written, and its record is {found[-1]}"
    elif error is not None and not isinstance(error, OutcomeUnknown | InvalidEvent):
        yield f"got {error!r}"


def _fits(verdict: str | None, error: str) -> bool:
    """Whether an error is that of a verdict. Of a session that the fold has forgotten, the history may know its end."""
    return error == ERRORS.get(str(verdict)) or (verdict, error) == ("no_session", "SessionEnded")


def _many(answer: Answer, verdicts: dict[str, str]) -> Iterator[str]:
    """Of a call about many keys, each result by itself."""
    for message in (message for each in answer.appended for message in each.messages):
        verdict = verdicts.get(json.loads(message.value)["id"], "not in the log")
        is_right = answer.many[message.key] == "SessionView" if verdict == "applied" else _fits(
            verdict, answer.many[message.key])  # fmt: skip
        if not is_right:
            yield f"node {answer.node}, touch many: {message.key} got {answer.many[message.key]}, and it is {verdict}"


def _named(answer: Answer) -> str | None:
    """The session that the last record of a call was about."""
    sent = [message.value for each in answer.appended for message in each.messages]
    return str(json.loads(sent[-1])["data"]["session_id"]) if sent else None
