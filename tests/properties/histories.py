"""Random histories: what several services, pruners, retries and vandals put on one partition of a log.

Drawn by `random.Random`, so that one function serves hypothesis (which draws the seed) and the counted run alike. The
writers keep some memory of what they saw, and act on it late: that is where zombies and stale versions come from.
"""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.log.port import Mark
from tests.properties.naive import NaiveFold

EPOCH_MS = 1_700_000_000_000
KEYS = ("irc:#ubuntu:ana", "irc:#ubuntu:bob", "telegram:42:é")
ROTTEN = (b"", b"hello", b"[]", b"{}", b"\xff\xfe", b"\0" * 40, b'{"specversion":"1.0"}', b"9" * 5000, b"[" * 3000)


class WrittenRecord(NamedTuple):
    """A record, and what the naive model gets: the event, or the verdict on a record that is none."""

    offset: int
    timestamp_ms: int
    key: str | None
    value: bytes | None
    event: dict[str, Any] | str
    mark: Mark | None = None


MARKS = {Mark.CONTROL: "control", Mark.TRANSACTIONAL: "transactional", Mark.UNREADABLE: "malformed"}
"""What stands for no record, and its verdict."""


def history(seed: int, length: int = 60, steady: bool = False) -> list[WrittenRecord]:
    """One history; the same for the same seed. `steady`: the log's clock never goes back, and nothing is imported."""
    return _Writers(random.Random(seed), steady).write(length)


class _Writers:
    def __init__(self, draw: random.Random, steady: bool) -> None:
        self.draw = draw
        self.steady = steady
        self.now_ms = EPOCH_MS + draw.randrange(10_000)
        self.known: dict[str, list[str]] = {key: [] for key in KEYS}
        self.ids = 0
        self.seen = NaiveFold()
        """What services see when they read, so that most records find the session they mean."""
        self.written: list[WrittenRecord] = []
        self.calm = draw.random() < 0.7
        """Whether the limits are so long that sessions live to see much."""

    def write(self, length: int) -> list[WrittenRecord]:
        if self.draw.random() < 0.5:
            self._open(imports=self.draw.random() < 0.3 and not self.steady)
        crowd = self.draw.random() < 0.25
        while len(self.written) < length:
            self._let_time_pass()
            if crowd and len(self.written) == 5:
                self._crowd_of_holders()
            self._one()
        return self.written

    def _one(self) -> None:
        chance = self.draw.random()
        if chance < 0.06:
            self._poison()
        elif chance < 0.14 and self.written:
            self._again()
        elif chance < 0.16:
            if self.written and self.draw.random() < 0.5:
                self._open(imports=True)
            else:
                self._tell("import_finished", self.draw.choice(KEYS), {}, "lastseen.log.import_finished.v1")
        else:
            self._event()

    def _open(self, imports: bool) -> None:
        number = 0 if self.draw.random() < 0.9 else 1
        data = {"log_id": "a log", "partition": number, "partitions": number + 1, "imports": imports}
        self._tell("opened", KEYS[0], data, "lastseen.log.opened.v1")

    def _let_time_pass(self) -> None:
        draw = self.draw
        step_ms = draw.choice([0, 0, 1, 10, 500, 999, 1000, 1001, draw.randrange(5_000), draw.randrange(120_000)])
        if draw.random() < 0.04:  # a clock jumps, back as well
            step_ms = draw.choice([3_600_000] if self.steady else [-1, -500, -1000, -59_000, 3_600_000])
        self.now_ms += step_ms

    def _sent_ms(self) -> int:
        draw = self.draw
        lag_ms = draw.choice([0, 0, 0, 1, 40, 5_000, 600_000, 600_001, -1, -60_000, -60_001, -draw.randrange(60_000)])
        return self.now_ms - (lag_ms if draw.random() < 0.3 else 0)

    def _policy(self) -> dict[str, Any]:
        draw = self.draw
        scale = 1000 if self.calm else 1
        policy: dict[str, Any] = {
            "idle_ttl_ms": draw.choice([None, 1000 * scale, 2500 * scale, 60_000 * scale]),
            "max_age_ms": draw.choice([None, None, 1000 * scale, 20_000 * scale]),
            "suspend_ttl_ms": draw.choice([None, 1000 * scale, 30_000 * scale]),
        }
        if draw.random() < 0.3:
            policy["touch_precision_ms"] = draw.choice([0, 1, 500])
        if draw.random() < 0.3:
            policy["max_hold_ms"] = draw.choice([1000, None])
        return {name: value for name, value in policy.items() if value is not None or draw.random() < 0.5}

    def _new_id(self, key: str) -> str:
        self.ids += 1
        session_id = f"session-{self.ids:014d}"
        self.known[key].append(session_id)
        return session_id

    def _id(self, key: str) -> str:
        """Mostly the one that lives; else a zombie's, another key's, or one that never was."""
        known = self.known[key]
        chance = self.draw.random()
        found = self.seen.live().get(key)
        if chance < 0.88 and found is not None:
            return str(found["id"])
        if chance < 0.93 and known:
            return self.draw.choice(known)
        if chance < 0.98:
            others = [each for ids in self.known.values() for each in ids]
            if others:
                return self.draw.choice(others)
        return "never-seen-before-0000"

    def _attributes(self) -> dict[str, Any]:
        return self.draw.choice([{}, {"owner": "u1"}, {"owner": "u2"}, {"owner": None}, {"owner": 7}, {"mood": [1]}])

    def _event(self) -> None:
        draw = self.draw
        key = draw.choice(KEYS)
        if draw.random() < (0.1 if key in self.seen.live() else 0.6):
            self._create(key)
            return
        data: dict[str, Any] = {"session_id": self._id(key)}
        name = draw.choice(
            ["touched"] * 7 + ["resumed", "held", "expired"] * 2 + ["suspended", "released", "pressed", "closed"]
        )  # fmt: skip
        if name == "touched":
            if draw.random() < 0.2:
                data["attributes"] = self._attributes()
            if draw.random() < 0.2:
                data["message"] = draw.choice(["hi", {"role": "user"}, 7, [None]])
            if draw.random() < 0.1:
                data["policy"] = self._policy()
        elif name in ("held", "released"):
            data["holder"] = draw.choice(["job-1", "job-2", "job-3"])
            if name == "held":
                data["lease_ms"] = draw.choice([1, 500, 5_000, 10**7])
        elif name == "expired":
            # A pruner with whatever clock: what it believes the deadline to be does not count.
            data |= {"reason": draw.choice(["idle", "max_age", "suspend_ttl"]), "deadline_ms": max(self.now_ms - 5, 0)}
        elif name == "pressed":
            name = "expired"
            data |= {"reason": draw.choice(["capacity", "memory"]), "deadline_ms": self.now_ms}
        elif name == "closed":
            data["reason"] = draw.choice(["logout", "deleted"])
        if draw.random() < 0.15:
            data["if_version"] = draw.randrange(5)
        self._tell(name, key, data)

    def _create(self, key: str) -> None:
        draw = self.draw
        replaces = self._id(key) if self.known[key] and draw.random() < 0.3 else None
        session_id = self._new_id(key) if draw.random() < 0.85 else self._id(key)
        data: dict[str, Any] = {"session_id": session_id, "policy": self._policy(), "attributes": self._attributes()}
        if replaces is not None:
            data["replaces"] = replaces
            if draw.random() < 0.5:
                data["reason"] = "reset"
        if draw.random() < 0.15:
            data["if_version"] = draw.choice([0, 0, 1, 2])
        self._tell("created", key, data)

    def _crowd_of_holders(self) -> None:
        key = self.draw.choice(KEYS)
        policy = {"max_hold_ms": None}
        found = self.seen.live().get(key)
        if found is not None:
            self._tell("closed", key, {"session_id": found["id"], "reason": "crowded"})
        self._tell("created", key, {"session_id": self._new_id(key), "policy": policy, "attributes": {}})
        for number in range(17):
            data = {"session_id": self.known[key][-1], "holder": f"crowd-{number}", "lease_ms": 10**6}
            self._tell("held", key, data)

    def _again(self) -> None:
        """A record that a producer sent twice, or that a network delivered late."""
        old = self.draw.choice(self.written[-20:])
        self._append(old.key, old.value, old.event, old.mark)

    def _poison(self) -> None:
        key = self.draw.choice(KEYS)
        chance = self.draw.random()
        if chance < 0.4:
            self._append(key, self.draw.choice([None, *ROTTEN, self.draw.randbytes(30)]), "malformed")
        elif chance < 0.5:  # a right event; but the log says that it is part of a transaction, or no record
            mark, verdict = self.draw.choice(list(MARKS.items()))
            event = self._envelope("closed", key, {"session_id": self._id(key), "reason": "marked"}, None)
            value = self.draw.choice([None, json.dumps(event).encode()])
            self._append(self.draw.choice([None, key]), value, verdict, mark)
        elif chance < 0.65:
            data = {"session_id": self._id(key)}
            self._tell("touched", key, data, "com.example.thing", written="unknown_type")
        elif chance < 0.8:
            data = {"session_id": self._id(key), "if_version": self.draw.choice(["1", -1, 1.5, True, 2**60])}
            self._tell("touched", key, data, written="malformed")
        else:  # a right event under a wrong record key
            event = self._envelope("touched", key, {"session_id": self._id(key)}, None)
            self._append("another key", json.dumps(event).encode(), "malformed")

    def _envelope(self, name: str, key: str, data: dict[str, Any], kind: str | None) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": f"event-{len(self.written)}",
            "source": "/service",
            "type": kind or f"lastseen.session.{name}.v1",
            "subject": key,
            "time": iso_from_ms(self._sent_ms()),
            "datacontenttype": "application/json",
            "data": data,
        }

    def _tell(
        self, name: str, key: str, data: dict[str, Any], kind: str | None = None, written: str | None = None
    ) -> None:
        event = self._envelope(name, key, data, kind)
        # Both ways of writing the same JSON: one takes the shortcut for plain touches, the other goes by the models.
        spaced = self.draw.random() < 0.3
        text = json.dumps(event, separators=(", ", ": ") if spaced else (",", ":"), ensure_ascii=spaced)
        self._append(key, text.encode(), written or event)

    def _append(
        self, key: str | None, value: bytes | None, event: dict[str, Any] | str, mark: Mark | None = None
    ) -> None:
        self.seen.take(len(self.written), self.now_ms, event)
        self.written.append(WrittenRecord(len(self.written), self.now_ms, key, value, event, mark))
