"""The fold once more, from DESIGN section 4 alone: plain dicts, everything recomputed and scanned, no code of ours.

Sessions are dicts in one list, ended ones too; what is live, due or remembered is found by looking at all of them.
A record comes as (offset, log clock, event as the dict that was sent); bytes that are no event come as a verdict.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

NO_LIMIT = {"idle_ttl_ms": None, "max_age_ms": None, "suspend_ttl_ms": None, "touch_precision_ms": 0}
DEFAULTS = NO_LIMIT | {"max_hold_ms": 3_600_000, "max_messages": 1000}


class NaiveFold:
    def __init__(self) -> None:
        self.sessions: list[dict[str, Any]] = []
        self.endings: list[str] = []
        self.importing = False

    def live(self) -> dict[str, dict[str, Any]]:
        return {s["key"]: s for s in self.sessions if s["ended"] is None}

    def deadline(self, s: dict[str, Any]) -> tuple[int, str] | None:
        """When the session is due, and by which limit."""
        limits = s["policy"]
        if s["suspended_at"] is not None:
            ttl = limits["suspend_ttl_ms"]
            return None if ttl is None else (s["suspended_at"] + ttl, "suspend_ttl")
        candidates = []
        if limits["max_age_ms"] is not None:
            candidates.append((s["created"] + limits["max_age_ms"] + s["suspended"], "max_age"))
        if limits["idle_ttl_ms"] is not None:
            idle = s["last_active"] + limits["idle_ttl_ms"] + limits["touch_precision_ms"]
            candidates.append((max([idle, *s["leases"].values()]), "idle"))
        return min(candidates, key=lambda c: c[0]) if candidates else None

    def end(self, s: dict[str, Any], reason: str, at: int, offset: int) -> None:
        assert s["ended"] is None, "a session ends at most once"
        s["ended"] = {"reason": reason, "at": at, "offset": offset}
        self.endings.append(s["id"])

    def remembers(self, session_id: str) -> bool:
        return session_id in self.endings[-65_536:]

    def take(self, offset: int, clock: int, event: dict[str, Any] | str) -> str:
        """The verdict on the next record, after letting it take effect."""
        if isinstance(event, str):
            return event
        sent = _ms(event["time"])
        name = event["type"].split(".")[2]
        is_genesis = name == "opened" and offset == 0
        imports = event["data"]["imports"] if is_genesis else self.importing
        at = sent if imports else clock
        if is_genesis and not (imports and sent - clock > 60_000):
            if not event["data"]["partition"] == 0 < event["data"]["partitions"]:
                return "already"
            self.importing = imports
            return "applied"
        if imports:
            if sent - clock > 60_000:
                return "clock_skew"
        elif not -60_000 <= clock - sent <= 600_000:
            return "clock_skew"
        if name == "opened":
            return "already"
        if name == "import_finished":
            was, self.importing = self.importing, False
            return "applied" if was else "already"
        return self.judge(name, event["subject"], event["data"], at, offset)

    def judge(self, name: str, key: str, data: dict[str, Any], at: int, offset: int) -> str:
        s = self.live().get(key)
        settled = None
        if s is not None:
            due = self.deadline(s)
            if due is not None and at >= due[0]:
                self.end(s, due[1], due[0], offset)
                s, settled = None, s
        named = data["session_id"]
        wanted = data.get("if_version")
        if name == "created" and data.get("replaces") is None:
            if wanted is not None and wanted != (0 if s is None else s["version"]):
                return "version_conflict"
            if s is not None:
                return "exists"
            if self.is_known(named):
                return "id_reused"
            self.begin(key, data, at, offset)
            return "applied"
        if name == "created":
            named = data["replaces"]
        by_time = name == "expired" and data["reason"] in ("idle", "max_age", "suspend_ttl")
        if by_time and settled is not None and settled["id"] == named:
            return "applied" if wanted in (None, settled["version"]) else "version_conflict"
        if s is None:
            return "ended" if self.remembers(named) else "no_session"
        if s["id"] != named:
            return "stale_session"
        if wanted is not None and wanted != s["version"]:
            return "version_conflict"
        if by_time:
            return "not_due"
        verdict = self.effect(name, s, data, at, offset)
        if verdict == "applied":
            s["version"] += 1
        return verdict

    def is_known(self, session_id: str) -> bool:
        return self.remembers(session_id) or any(s["id"] == session_id for s in self.live().values())

    def begin(self, key: str, data: dict[str, Any], at: int, offset: int) -> None:
        self.sessions.append(
            {"key": key, "id": data["session_id"], "policy": DEFAULTS | data["policy"], "created": at, "born": offset,
             "last_active": at, "last_offset": offset, "version": 1, "suspended_at": None, "suspended": 0, "leases": {},
             "owner": _owner(data.get("attributes", {})), "ended": None}
        )  # fmt: skip

    def effect(self, name: str, s: dict[str, Any], data: dict[str, Any], at: int, offset: int) -> str:
        """The row of the table for `name`, on a live session that the record names rightly."""
        suspended = s["suspended_at"] is not None
        if name == "created":
            if self.is_known(data["session_id"]):
                return "id_reused"
            self.end(s, data.get("reason") or "replaced", at, offset)
            self.begin(s["key"], data, at, offset)
        elif name == "touched":
            if suspended:
                return "suspended"
            s["last_active"] = max(s["last_active"], at)
            s["last_offset"] = offset
            if data.get("policy") is not None:
                s["policy"] = DEFAULTS | data["policy"]
            if "owner" in (data.get("attributes") or {}):
                s["owner"] = _owner(data["attributes"])
        elif name == "suspended":
            if suspended:
                return "already"
            s["suspended_at"] = at
            s["leases"] = {}
        elif name == "resumed":
            if not suspended:
                return "already"
            s["suspended"] += max(0, at - s["suspended_at"])
            s["suspended_at"] = None
            s["last_active"] = max(s["last_active"], at)
            s["last_offset"] = offset
        elif name == "held":
            if suspended:
                return "suspended"
            others = {h: until for h, until in s["leases"].items() if until > at and h != data["holder"]}
            if len(others) >= 16:
                return "too_many"
            longest = s["policy"]["max_hold_ms"]
            lease = data["lease_ms"] if longest is None else min(data["lease_ms"], longest)
            s["leases"] = others | {data["holder"]: at + lease}
        elif name == "released":
            if data["holder"] not in s["leases"]:
                return "already"
            s["leases"] = {h: until for h, until in s["leases"].items() if h != data["holder"]}
        elif name == "expired":
            if suspended:
                return "suspended"
            if any(until > at for until in s["leases"].values()):
                return "held"
            self.end(s, data["reason"], at, offset)
        else:
            self.end(s, data["reason"], at, offset)
        return "applied"


def _ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def _owner(attributes: dict[str, Any]) -> str | None:
    owner = attributes.get("owner")
    return owner if isinstance(owner, str) and 1 <= len(owner) <= 512 else None
