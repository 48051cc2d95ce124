"""The replay, said as plainly as can be: a dict, scanned from end to end at every event. Knows nothing of lastseen."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

Person = tuple[str, str, str]


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a recording."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def naive_replay(
    recording: Iterable[dict[str, Any]], idle_ttl_ms: int, max_sessions: int
) -> tuple[dict[str, Any], dict[Person, list[tuple[int, int | None, str | None]]]]:
    """The figures, and for every person their sessions as (start, end, reason), end and reason `None` if still live."""
    live: dict[Person, dict[str, int]] = {}
    lives: dict[Person, list[tuple[int, int | None, str | None]]] = defaultdict(list)
    ended: Counter[str] = Counter()
    events_read = created = peak_live = longest_ms = 0

    def end(person: Person, at_ms: int, reason: str) -> None:
        nonlocal longest_ms
        start_ms = live.pop(person)["start"]
        lives[person].append((start_ms, at_ms, reason))
        ended[reason] += 1
        longest_ms = max(longest_ms, at_ms - start_ms)

    for event in recording:
        events_read += 1
        now_ms = round(datetime.fromisoformat(event["at"]).timestamp() * 1000)
        person = (event["platform"], event["channel"], event["user"])
        for other in list(live):
            if live[other]["last"] + idle_ttl_ms <= now_ms:
                end(other, live[other]["last"] + idle_ttl_ms, "idle")
        if event["action"] == "leave":
            if person in live:
                end(person, now_ms, "logout")
        else:
            if person not in live:
                created += 1
                live[person] = {"start": now_ms}
            live[person].update(last=now_ms, turn=events_read)
        while len(live) > max_sessions:
            end(min(live, key=lambda other: live[other]["turn"]), now_ms, "capacity")
        peak_live = max(peak_live, len(live))

    for person, session in live.items():
        lives[person].append((session["start"], None, None))
    figures = {
        "events_read": events_read,
        "created": created,
        "ended": dict(ended),
        "live": len(live),
        "peak_live": peak_live,
        "longest_ms": longest_ms,
    }
    return figures, dict(lives)
