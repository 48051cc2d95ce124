"""The second opinion: the verdict on each record, by section 4 of the design, from the chronicle of those before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.simulation.chronicle import Chronicle, End, Entry, Said

BY_TIME = ("idle", "max_age", "suspend_ttl")


class Effect(NamedTuple):
    """What is published: an effect of a record, by its place."""

    offset: int
    k: int
    kind: str
    key: str
    session_id: str
    at_ms: int
    reason: str | None
    state: dict[str, Any] | None


class Oracle:
    """Judges one partition, record by record."""

    def __init__(self) -> None:
        self.chronicle = Chronicle()
        self.verdicts: list[str] = []
        self.effects: list[Effect] = []

    def judge_all(self, records: Iterable[Said]) -> None:
        """The verdicts and effects of all records."""
        for said in records:
            self.verdicts.append(self.verdict(said))

    def verdict(self, said: Said) -> str:
        """The verdict on the next record; lets it take effect."""
        if said.label is not None or said.event is None:
            return str(said.label)
        if said.name == "opened" and said.offset == 0:
            return "applied"  # whatever clock the program had that made the log
        if not -60_000 <= said.at_ms - said.sent_ms <= 600_000:
            return "clock_skew"
        if said.name in ("opened", "import_finished"):
            return "already"  # imports are not simulated: the genesis records are those of an ordinary log
        assert said.key is not None
        chronicle, at_ms, offset = self.chronicle, said.at_ms, said.offset
        session_id = chronicle.live(said.key, offset)
        settled = None
        if session_id is not None:
            due = chronicle.deadline(session_id, offset)
            if due is not None and at_ms >= due[0]:
                self._end(session_id, End(offset, *due))
                session_id, settled = None, session_id
        verdict = self._judge(said, session_id, settled)
        if verdict == "applied" and said.name != "expired":
            self._apply(said, session_id)
        elif verdict == "applied" and session_id is not None:
            self._end_by(said, session_id)
        return verdict

    def _judge(self, said: Said, session_id: str | None, settled: str | None) -> str:
        assert said.event is not None
        data, offset, chronicle = said.event["data"], said.offset, self.chronicle
        named, wanted = data["session_id"], data.get("if_version")
        if said.name == "created":
            named = data.get("replaces")
            if named is None:
                version = 0 if session_id is None else chronicle.version(session_id, offset)
                if wanted is not None and wanted != version:
                    return "version_conflict"
                if session_id is not None:
                    return "exists"
                return "id_reused" if chronicle.known(data["session_id"], offset) else "applied"
        by_time = said.name == "expired" and data["reason"] in BY_TIME
        if by_time and settled is not None and settled == named:
            return "applied" if wanted in (None, chronicle.version(settled, offset)) else "version_conflict"
        if session_id is None:
            return "ended" if chronicle.ended(named, offset + 1) else "no_session"
        if session_id != named:
            return "stale_session"
        if wanted is not None and wanted != chronicle.version(session_id, offset):
            return "version_conflict"
        return "not_due" if by_time else self._row(said.name, data, session_id, said)

    def _row(self, name: str, data: dict[str, Any], session_id: str, said: Said) -> str:
        """The table of events."""
        chronicle, offset, at_ms = self.chronicle, said.offset, said.at_ms
        suspended = chronicle.suspended_at(session_id, offset) is not None
        leases = chronicle.leases(session_id, offset)
        if name == "created":
            return "id_reused" if chronicle.known(data["session_id"], offset) else "applied"
        if name == "touched":
            return "suspended" if suspended else "applied"
        if name == "suspended":
            return "already" if suspended else "applied"
        if name == "resumed":
            return "applied" if suspended else "already"
        if name == "held":
            others = [holder for holder, until in leases.items() if until > at_ms and holder != data["holder"]]
            return "suspended" if suspended else "too_many" if len(others) >= 16 else "applied"
        if name == "released":
            return "applied" if data["holder"] in leases else "already"
        if name == "expired":
            held = any(until > at_ms for until in leases.values())
            return "suspended" if suspended else "held" if held else "applied"
        assert name == "closed", name
        return "applied"

    def _apply(self, said: Said, session_id: str | None) -> None:
        assert said.event is not None
        assert said.key is not None
        data = said.event["data"]
        entry = Entry(said.offset, said.at_ms, said.name, data, said.event["id"])
        if said.name == "closed":
            self._end_by(said, str(session_id))
            return
        if said.name == "created":
            if session_id is not None:
                self._end(session_id, End(said.offset, said.at_ms, data.get("reason") or "replaced"))
            session_id = data["session_id"]
            self.chronicle.begins(session_id, said.key, entry)
        else:
            assert session_id is not None
            self.chronicle.takes_effect(session_id, entry)
        state = self.chronicle.state(session_id, said.offset + 1)
        self._tell(said.offset, said.name, session_id, said.at_ms, None, state)

    def _end_by(self, said: Said, session_id: str) -> None:
        assert said.event is not None
        self._end(session_id, End(said.offset, said.at_ms, said.event["data"]["reason"]))

    def _end(self, session_id: str, end: End) -> None:
        self.chronicle.ends_with(session_id, end)
        self._tell(end.offset, "ended", session_id, end.at_ms, end.reason, None)

    def _tell(
        self, offset: int, kind: str, session_id: str, at_ms: int, reason: str | None, state: dict[str, Any] | None
    ) -> None:
        k = sum(effect.offset == offset for effect in self.effects[-2:])
        key = self.chronicle.keys[session_id]
        self.effects.append(Effect(offset, k, kind, key, session_id, at_ms, reason, state))
