"""C: the gateway's way before and now. Every message rewrites a JSON file of all sessions, or appends one record."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.gateway_store import GatewayStore, RealStore, StandIn, key_of, source_of
from benchmarks.measure import Row, Size, at_most, in_turn, missing, pairs, seconds
from benchmarks.servers import PeerMissing
from lastseen.compat.gateway import GatewayConfig, SessionResetPolicy, SessionStore
from lastseen.compat.gateway.importing import import_sessions

NOTES = """
- *Gateway* rows stand beside `gateway.session.SessionStore` of hermes-agent 0.13.0, unpacked from its wheel and run in
  a process of its own, unchanged; its first sessions are put into it at once. A message is one
  `get_or_create_session` of a session that lives: it rewrites sessions.json, flushed to the disk. Ours is the same call
  of `lastseen.compat.gateway`, on the same sessions, imported from that file. A row that could not have the real one,
  and every short run, says that it has a stand-in, which only writes the same file.
"""

TOUCHES = 500
DAYS = 90


class NewStore:
    """The new way, on the sessions of an old store."""

    def __init__(self, folder: Path, sessions_json: Path) -> None:
        self._folder = folder
        self._url = f"sqlite:///{folder / 'gateway.db'}"
        self.import_s = seconds(lambda: import_sessions(sessions_json, self._url))
        self.restart(0)  # the first start after an import folds it

    def open(self, number: int) -> SessionStore:
        """The store, once it has answered for a session."""
        config = GatewayConfig(sessions_dir=self._folder, default_reset_policy=SessionResetPolicy("none"))
        store = SessionStore(self._folder, config, url=self._url)
        assert store._entries[key_of(number)].session_key == key_of(number)
        return store

    def restart(self, number: int) -> float:
        """Seconds from the start to the first answer."""
        started = time.perf_counter()
        store = self.open(number)
        spent = time.perf_counter() - started
        store.close()
        return spent


def run(folder: Path, size: Size) -> list[Row]:
    """A message, a prune of half, and a restart, both ways, on the same sessions."""
    old_folder, new_folder = folder / "old", folder / "new"
    old_folder.mkdir()
    new_folder.mkdir()
    absent: list[Row] = []
    try:
        old: GatewayStore = _old_store(old_folder, size)
    except PeerMissing as error:
        absent.append(missing(error.name, error.why))
        stand_in = folder / "stand-in"
        stand_in.mkdir()
        old = StandIn(stand_in, size.middle)
    with closing(old):
        return [*compared(new_folder, old, size), *absent]


def _old_store(folder: Path, size: Size) -> GatewayStore:
    # A short run must not wait for downloads, nor its guard depend on whether there were any.
    return StandIn(folder, size.middle) if size.is_quick else RealStore(folder, size.middle)


def compared(folder: Path, old: GatewayStore, size: Size) -> list[Row]:
    """All rows, on so many sessions as the old store has."""
    sessions, repetitions = size.middle, min(size.repetitions, 3)
    new = NewStore(folder, old.path)
    restarts = in_turn(repetitions, {"old": lambda: old.restart(2), "new": lambda: new.restart(2)})
    with new.open(0) as store:
        touched = [source_of(number * 2 * max(sessions // 2 // TOUCHES, 1) % sessions) for number in range(TOUCHES)]

        def touch_all() -> float:
            return seconds(lambda: [store.get_or_create_session(source) for source in touched]) / TOUCHES

        touches = in_turn(repetitions, {"old": lambda: old.touch(0), "new": touch_all})
        prune_new = _pruned(lambda: store.prune_old_entries(DAYS), sessions // 2)
        assert len(store.list_sessions()) == sessions - sessions // 2
    removed, prune_old = old.prune(DAYS)
    assert removed == sessions // 2
    rows = [
        _times("a durable message", touches, old.name, None if size.is_quick else 1_000),
        _times("half of them pruned", {"old": [prune_old], "new": [prune_new]}, old.name),
        _times("restart to the first answer", restarts, old.name),
        at_most(f"gateway: {sessions:,} sessions brought over", [new.import_s], "s", 60),
    ]
    for row in rows:
        row.sessions = sessions
    rows[0].durability = "nothing"
    return rows


def _pruned(prune: Callable[[], int], expected: int) -> float:
    counts: list[int] = []
    spent = seconds(lambda: counts.append(prune()))
    assert counts == [expected]
    return spent


def _times(what: str, samples: dict[str, list[float]], old_name: str, at_least: float | None = None) -> Row:
    """How many times as fast the new way is, pair by pair."""
    found = pairs(samples, "old", "new")
    median = statistics.median(found)
    old, new = (statistics.median(samples[name]) * 1e3 for name in ("old", "new"))
    return Row(
        f"gateway: {what} / {old_name}", median, "× as fast", "" if at_least is None else f"≥ {at_least:,g}",
        None if at_least is None else median >= at_least, (min(found), max(found)),
        f"{new:,.2f} ms against {old:,.0f} ms", samples,
    )  # fmt: skip
