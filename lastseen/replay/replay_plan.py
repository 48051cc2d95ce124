"""The plan of a replay: the records that a recording becomes, line by line.

Each line becomes the events that a gateway would have sent. They are folded into a partition of the plan's own as they
are made, so that the next line is decided on the sessions that are live by then. The plan, ids included, depends on
nothing but the recording and the options: the same lines give the same bytes.

The text of messages is not in a recording, and a session does not need their size: a message is a plain touch.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lastseen.engine import events, plain_touch
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.errors import InvalidEvent
from lastseen.engine.genesis import SUBJECT, genesis
from lastseen.engine.log.port import Message, Record
from lastseen.engine.session import Policy, Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Partition
from lastseen.replay.recording import ChatEvent

SOURCE = "/replay"


@dataclass(slots=True)
class Figures:
    """Counts of a replay. They depend on the recording and the options, not on how many runs it took."""

    events_read: int = 0
    created: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """By reason."""
    live: int = 0
    """Live at the end."""
    peak_live: int = 0
    """The most that were live after an event."""
    records: int = 0
    """Records of the log, the marks of the import included."""
    longest_ms: int = 0
    """The longest duration of a session that has ended."""
    digest: str = ""
    """The log's digest, in hexadecimal."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__} | {"ended": dict(sorted(self.ended.items()))}


class ReplayPlan:
    """The records that a recording becomes, line by line."""

    def __init__(self, sha256: str, idle_ttl_ms: int, max_sessions: int, latest_ms: int) -> None:
        self.figures = Figures()
        self.partition = Partition(0)
        self.messages: list[Message] = []
        """The messages since they were last taken."""
        self._sha256 = sha256
        self._policy = Policy(idle_ttl_ms=idle_ttl_ms)
        self._max_sessions = max_sessions
        self._latest_ms = latest_ms
        self._line = self._step = 0
        self._source = f"{SOURCE}/{sha256}?idle_ttl_ms={idle_ttl_ms}&max_sessions={max_sessions}"

    def opening(self, at_ms: int) -> Message:
        """The first record: it names the recording and the options, so that another replay is recognised."""
        self._check_past(1, at_ms)
        log_id = hashlib.sha256(self._source.encode()).hexdigest()[:32]
        return genesis(log_id, 0, 1, at_ms, source=self._source, event_id="replay-opening", imports=True)

    def finish(self, at_ms: int) -> None:
        """Write the mark that ends the import."""
        event = events.ImportFinished(id="replay-end", source=self._source, subject=SUBJECT, time=iso_from_ms(at_ms))
        self._write(Message(0, SUBJECT, encode(event)))

    def take(self, chat: ChatEvent) -> None:
        """Write the events of one line."""
        if chat.at_ms > self._latest_ms:
            self._check_past(chat.line, chat.at_ms)
        self._line, self._step = chat.line, 0
        live = self.partition.active
        for session in self._due(chat.at_ms):
            self._expire(session, session.deadline_reason() or "idle", session.deadline_ms() or 0, chat.time)
        own = live.get(chat.key)
        if chat.action == "leave":
            if own is not None:
                self._close(own, chat.time)
        elif own is not None:
            self._touch(own, chat.time)
        else:
            self._create(chat)
        while len(live) > self._max_sessions:
            oldest = live.oldest()
            assert oldest is not None
            self._expire(oldest, "capacity", chat.at_ms, chat.time)
        figures = self.figures
        figures.events_read += 1
        figures.peak_live = max(figures.peak_live, len(live))

    def fold(self, record: Record) -> None:
        """Fold a record. Raises `InvalidEvent` where it takes no effect: every record of a plan does."""
        outcome = self.partition.fold(record)
        if outcome.verdict is not Verdict.APPLIED:
            raise InvalidEvent(
                f"line {self._line} of the recording becomes a record that is void ({outcome.verdict.label});"
                " report this"
            )
        figures = self.figures
        figures.records += 1
        if outcome.ended is not None and outcome.ending is not None:
            figures.ended[outcome.ending.reason] += 1
            figures.longest_ms = max(figures.longest_ms, outcome.ending.at_ms - outcome.ended.created_at_ms)

    def result(self) -> Figures:
        """The figures so far."""
        self.figures.live = len(self.partition)
        self.figures.digest = self.partition.digest.hex()
        return self.figures

    def _check_past(self, line: int, at_ms: int) -> None:
        if at_ms > self._latest_ms:
            raise InvalidEvent(
                f"line {line} of the recording: its time {iso_from_ms(at_ms)} is in the future, and only the past"
                " can be imported; correct this machine's clock, or the recording"
            )

    def _due(self, at_ms: int) -> list[Session]:
        due = self.partition.deadlines.due(at_ms, len(self.partition))
        if len(due) > 1:
            due.sort(key=lambda session: (session.deadline_ms() or 0, session.born_offset))
        return due

    def _create(self, chat: ChatEvent) -> None:
        self.figures.created += 1
        session_id = hashlib.sha256(f"{self._sha256}:{chat.line}".encode("ascii")).digest()
        self._write_event(
            events.Created(
                id=self._event_id(), source=SOURCE, subject=chat.key, time=chat.time,
                data=events.CreatedData(
                    session_id=base64.urlsafe_b64encode(session_id)[:22].decode("ascii"), policy=self._policy
                ),
            )
        )  # fmt: skip

    def _touch(self, session: Session, at: str) -> None:
        self._write_event(plain_touch.made(self._event_id(), SOURCE, session.key, at, session.session_id))

    def _close(self, session: Session, at: str) -> None:
        self._write_event(
            events.Closed(
                id=self._event_id(), source=SOURCE, subject=session.key, time=at,
                data=events.ClosedData(session_id=session.session_id, reason="logout"),
            )
        )  # fmt: skip

    def _expire(self, session: Session, reason: Any, deadline_ms: int, at: str) -> None:
        version = session.version if reason == "capacity" else None
        self._write_event(
            events.Expired(
                id=self._event_id(), source=SOURCE, subject=session.key, time=at,
                data=events.ExpiredData(
                    session_id=session.session_id, reason=reason, deadline_ms=deadline_ms, if_version=version
                ),
            )
        )  # fmt: skip

    def _event_id(self) -> str:
        self._step += 1
        return f"replay-{self._line}-{self._step}"

    def _write_event(self, event: events.SessionEvent) -> None:
        self._write(Message(0, event.subject, encode(event)))

    def _write(self, message: Message) -> None:
        self.messages.append(message)
        self.fold(Record(0, self.partition.checkpoint, self._latest_ms, message.key, message.value))
