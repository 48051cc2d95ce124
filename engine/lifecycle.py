"""The rules: which records take effect, and what they do. Pure: no clock, no configuration, no randomness, no I/O.

Theory of operation. A session is absent, active or suspended; once ended it is never anything again. Each record names
a session and is judged by `RULES` against the state that all earlier records left:

1. *settle*: a session that is due at the record's log time ends first, at its deadline (`settled_reason`);
2. *judge*: the verdict, from the general checks and then from the event's row of `RULES`;
3. *apply*: if the verdict is `APPLIED`, the row's effect.

`decide` asks the same table before anything is written, so an engine refuses a command for just the reason for which
the fold would void its record. The states and transitions page of the docs is drawn from `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lastseen.engine import events
from lastseen.engine.session import MAX_HOLDERS, Session, Status, pack_beginning
from lastseen.engine.verdicts import Verdict

MAX_AHEAD_MS = 60_000
"""How far a record's `time` may be ahead of its log time."""
MAX_BEHIND_MS = 600_000
"""How far it may be behind: how long a producer may keep retrying."""
REMEMBERED_ENDINGS = 65_536
"""Ids of ended sessions that a partition remembers, so as to say `ended` rather than `no_session`."""


class SessionIds(Protocol):
    """What the rules ask of a partition's memory of session ids."""

    def has_ended(self, session_id: str) -> bool: ...

    def is_known(self, session_id: str) -> bool:
        """Whether the id is live under any key, or among the remembered endings."""
        ...


# ── effects ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _no_effect(session: Session, event: Any, at_ms: int) -> None:
    """Beginning and ending are the partition's business."""


def _touch(session: Session, event: Any, at_ms: int) -> None:
    if at_ms > session.last_active_at_ms:
        session.last_active_at_ms = at_ms
    data = event.data
    if data.policy is not None:
        session.policy = data.policy
    patch = data.attributes
    if patch is not None and "owner" in patch:
        session.owner = owner_in(patch)


def _suspend(session: Session, event: Any, at_ms: int) -> None:
    session.suspended_at_ms = at_ms
    session.leases = None


def _resume(session: Session, event: Any, at_ms: int) -> None:
    suspended_at_ms = session.suspended_at_ms
    if suspended_at_ms is not None:
        session.suspended_ms += max(at_ms - suspended_at_ms, 0)
    session.suspended_at_ms = None
    session.last_active_at_ms = max(session.last_active_at_ms, at_ms)


def _hold(session: Session, event: Any, at_ms: int) -> None:
    lease_ms = event.data.lease_ms
    if session.policy.max_hold_ms is not None:
        lease_ms = min(lease_ms, session.policy.max_hold_ms)
    # Lapsed leases go now: they can move no deadline any more, and a list that only grows is a leak.
    live = {holder: until_ms for holder, until_ms in (session.leases or {}).items() if until_ms > at_ms}
    live[event.data.holder] = at_ms + lease_ms
    session.leases = live


def _release(session: Session, event: Any, at_ms: int) -> None:
    leases = {holder: until_ms for holder, until_ms in (session.leases or {}).items() if holder != event.data.holder}
    session.leases = leases or None


def owner_in(attributes: Mapping[str, Any]) -> str | None:
    """The owner that attributes name: text of 1 to 512 characters, else `None`."""
    owner = attributes.get("owner")
    return owner if isinstance(owner, str) and 0 < len(owner) <= events.MAX_KEY_CHARACTERS else None


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition under which a record is void although the session's status would allow it."""

    verdict: Verdict
    when: str
    """The condition in words, for the docs."""
    holds: Callable[[Session | None, Any, int, SessionIds], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: what a record of this kind does in each status, if no guard refuses it."""

    name: str
    active: Status | Verdict
    """The next status of an active session, or the verdict that refuses it."""
    suspended: Status | Verdict
    effect: Callable[[Session, Any, int], None]
    says: str
    guards: tuple[Guard, ...] = ()
    is_activity: bool = False
    """Whether the session becomes the most recently used."""
    absent: Status | Verdict = Verdict.NO_SESSION
    refusal: dict[bool, Verdict | None] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for suspended, cell in ((False, self.active), (True, self.suspended)):
            self.refusal[suspended] = cell if isinstance(cell, Verdict) else None


def _leases(session: Session | None) -> Mapping[str, int]:
    return (session.leases if session else None) or {}


_held = Guard(
    Verdict.HELD,
    "a lease is live",
    lambda session, event, at_ms, ids: any(until_ms > at_ms for until_ms in _leases(session).values()),
)
_full = Guard(
    Verdict.TOO_MANY,
    f"{MAX_HOLDERS} other leases are live",
    lambda session, event, at_ms, ids: (
        sum(until_ms > at_ms for holder, until_ms in _leases(session).items() if holder != event.data.holder)
        >= MAX_HOLDERS
    ),
)
_not_holding = Guard(
    Verdict.ALREADY,
    "the holder has no lease",
    lambda session, event, at_ms, ids: event.data.holder not in _leases(session),
)
_seen = Guard(
    Verdict.ID_REUSED,
    "the session id was seen before",
    lambda session, event, at_ms, ids: ids.is_known(event.data.session_id),
)

ACTIVE, SUSPENDED, ENDED = Status.ACTIVE, Status.SUSPENDED, Status.ENDED

_EVICTED = Rule(
    "expired (capacity, memory)", ENDED, Verdict.SUSPENDED, _no_effect, "ended at the log time", guards=(_held,)
)  # fmt: skip
RULES: Mapping[type[Any], Rule] = {
    events.Created: Rule(
        "created", Verdict.EXISTS, Verdict.EXISTS, _no_effect, "begins at version 1", absent=ACTIVE,
        guards=(_seen,), is_activity=True,
    ),
    events.Touched: Rule(
        "touched", ACTIVE, Verdict.SUSPENDED, _touch, "last activity; patch, message, policy", is_activity=True
    ),
    events.Suspended: Rule("suspended", SUSPENDED, Verdict.ALREADY, _suspend, "suspended; holds dropped"),
    events.Resumed: Rule("resumed", Verdict.ALREADY, ACTIVE, _resume, "counts as activity", is_activity=True),
    events.Held: Rule(
        "held", ACTIVE, Verdict.SUSPENDED, _hold, "lease until log time + min(lease_ms, max_hold_ms)", guards=(_full,)
    ),
    events.Released: Rule("released", ACTIVE, Verdict.ALREADY, _release, "lease gone", guards=(_not_holding,)),
    events.Expired: Rule(
        "expired (idle, max_age, suspend_ttl)", Verdict.NOT_DUE, Verdict.NOT_DUE, _no_effect,
        "applied to the session that this very record settled",
    ),
    events.Closed: Rule("closed", ENDED, ENDED, _no_effect, "ended at the log time, held or not"),
}  # fmt: skip
"""The rules. A cell is the next status, or the verdict of a record that finds the session so."""


def rule_of(event: events.SessionEvent) -> Rule:
    """The row for an event: `expired` has two, by its reason."""
    if type(event) is events.Expired and event.data.reason not in events.TIMED_REASONS:
        return _EVICTED
    return RULES[type(event)]


def rows() -> list[Rule]:
    """All rows, in the order of the docs."""
    table = list(RULES.values())
    table.insert(table.index(RULES[events.Expired]) + 1, _EVICTED)
    return table


# ── judging ────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_fresh(sent_at_ms: int, at_ms: int) -> bool:
    """Whether a record's own time agrees with its log time well enough to be believed."""
    return -MAX_AHEAD_MS <= at_ms - sent_at_ms <= MAX_BEHIND_MS


def judge(
    event: events.SessionEvent, session: Session | None, settled: Session | None, at_ms: int, ids: SessionIds
) -> Verdict:
    """The verdict on a fresh, well-formed record.

    `session` is the live session under the key, after settling; `settled` is the one that this very record settled.
    """
    data = event.data
    rule = rule_of(event)
    named = data.session_id
    if type(event) is events.Created:
        if event.data.replaces is None:
            return _judge_new(rule, event, session, at_ms, ids)
        named = event.data.replaces
    elif settled is not None and rule is RULES[events.Expired] and settled.session_id == named:
        # The one event that applies to a session which its own record has just settled.
        is_current = data.if_version is None or data.if_version == settled.version
        return Verdict.APPLIED if is_current else Verdict.VERSION_CONFLICT
    if session is None:
        was_settled = settled is not None and settled.session_id == named
        return Verdict.ENDED if was_settled or ids.has_ended(named) else Verdict.NO_SESSION
    if session.session_id != named:
        return Verdict.STALE_SESSION
    if data.if_version is not None and data.if_version != session.version:
        return Verdict.VERSION_CONFLICT
    # A replacement takes the session's place, whatever its status is.
    refusal = None if type(event) is events.Created else rule.refusal[session.suspended_at_ms is not None]
    if refusal is not None:
        return refusal
    return _guarded(rule, session, event, at_ms, ids) if rule.guards else Verdict.APPLIED


def _judge_new(rule: Rule, event: events.Created, session: Session | None, at_ms: int, ids: SessionIds) -> Verdict:
    """A `created` that replaces nothing. The version of a session that is not there is 0."""
    if event.data.if_version is not None and event.data.if_version != (session.version if session else 0):
        return Verdict.VERSION_CONFLICT
    return Verdict.EXISTS if session is not None else _guarded(rule, None, event, at_ms, ids)


def _guarded(rule: Rule, session: Session | None, event: events.SessionEvent, at_ms: int, ids: SessionIds) -> Verdict:
    for guard in rule.guards:
        if guard.holds(session, event, at_ms, ids):
            return guard.verdict
    return Verdict.APPLIED


def decide(event: events.SessionEvent, session: Session | None, at_ms: int, ids: SessionIds) -> Verdict:
    """The verdict that a record would get if it were the next, at log time `at_ms`. Changes nothing."""
    if session is not None and session.is_due(at_ms):
        return judge(event, None, session, at_ms, ids)
    return judge(event, session, None, at_ms, ids)


def apply(session: Session, event: events.SessionEvent, at_ms: int, offset: int) -> Rule:
    """Let an applied record take effect on a live session (not `created`); returns the row that said so."""
    rule = rule_of(event)
    rule.effect(session, event, at_ms)
    session.version += 1
    if rule.is_activity:
        session.last_active_offset = offset
    return rule


def touch_plainly(session: Session, event: events.Touched, at_ms: int, offset: int) -> bool:
    """Settle, judge and apply in one, for most records by far: a touch of a live session that is not near its end.

    A shortcut with no rules of its own: where anything but plain activity may follow, it changes nothing and says
    `False`, and the record goes the long way. A differential test holds it to that: `tests/properties/test_fold.py`.
    """
    data = event.data
    if data.if_version is not None or data.attributes is not None or data.policy is not None:
        return False
    return note_activity(session, data.session_id, at_ms, offset)


def note_activity(session: Session, session_id: str, at_ms: int, offset: int) -> bool:
    """Settle, judge and apply a touch that says no more than which session: `touch_plainly` without the event."""
    if session.session_id != session_id or not is_far_from_due(session, at_ms):
        return False
    last_active_at_ms = session.last_active_at_ms
    if at_ms > last_active_at_ms:
        session.last_active_at_ms = at_ms
    session.last_active_offset = offset
    session.version += 1
    return True


def is_far_from_due(session: Session, at_ms: int) -> bool:
    """Whether a session is active, and certainly not due at `at_ms`; where `False`, the full rules decide."""
    policy = session.policy
    # Both are bounds on the deadline from below: precision, leases and time spent suspended only add to it.
    return (
        session.suspended_at_ms is None
        and (policy.idle_ttl_ms is None or at_ms < session.last_active_at_ms + policy.idle_ttl_ms)
        and (policy.max_age_ms is None or at_ms < session.created_at_ms + policy.max_age_ms)
    )


def begin(event: events.Created, at_ms: int, offset: int) -> Session:
    """The session that an applied `created` record begins."""
    data = event.data
    return Session(
        key=event.subject,
        session_id=data.session_id,
        policy=data.policy,
        began=pack_beginning(at_ms, offset),
        last_active_at_ms=at_ms,
        last_active_offset=offset,
        owner=owner_in(data.attributes),
    )


def end_of(event: events.SessionEvent) -> str | None:
    """The reason with which an applied record ends the live session under its key; `None` if it ends none."""
    if type(event) is events.Closed or type(event) is events.Expired:
        return event.data.reason
    if type(event) is events.Created and event.data.replaces is not None:
        return event.data.reason or "replaced"
    return None
