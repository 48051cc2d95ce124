"""E: what a live session takes, in memory and on the disk: each subject in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.measure import Row, Size, at_most, missing
from benchmarks.memory_probe import LIVE_VIEW, ON_FILE, REDIS, RESTARTED
from benchmarks.servers import PeerMissing

ROOT = Path(__file__).parent.parent
CACHES = {
    "OrderedDict": "collections", "cachetools TTLCache": "cachetools", "cachetools TLRUCache": "cachetools",
    "theine": "theine",
}  # fmt: skip
"""Each with the module that it needs."""

NOTES = """
- *Memory* is resident memory of a process with all sessions, each begun and touched once, less without; of
  redis-server, what its allocator has handed out (`INFO memory`). Caches keep for each session an object with slots for
  its id, its beginning and its last activity, which is less than the engine knows of it (state, version, limits,
  leases). No subject keeps a body.
- *Live view* is what the engine's answers come from; *whole engine* is a process that has started on the log, snapshot
  and history of as many sessions, with all that it keeps beside the view.
- *On disk*: the log holds two events for each session, and the history as many; the snapshot one row.
"""


def run(folder: Path, size: Size) -> list[Row]:
    """All rows of section E."""
    many, some = size.many, size.middle
    view = _probe(LIVE_VIEW, many, folder)["memory"]
    row = at_most(f"memory of a live session, of {many:,}: engine, live view", [view], "bytes", 450)
    rows = [_marked(row, "engine, live view", many)]
    found = {}
    for name, module in CACHES.items():
        if find_spec(module) is None:
            rows.append(missing(name, f"not installed: no module {module}"))
            continue
        found[name] = _probe(name, many, folder)["memory"]
        rows.append(_marked(_figure("memory of a live session", name, found[name], many), name, many))
    rows += _redis(many, folder)
    if ttl := found.get("cachetools TTLCache"):
        rows.append(at_most("memory of a live session: engine, live view / cachetools TTLCache", [view / ttl], "×", 1))
    floor = found["OrderedDict"]
    rows.append(Row("memory of a live session: engine, live view / OrderedDict", view / floor, "×"))
    return rows + _on_disk(folder, some)


def _redis(many: int, folder: Path) -> list[Row]:
    if find_spec("redis") is None:
        return [missing(REDIS, "not installed: no module redis")]
    try:
        found = _probe(REDIS, many, folder)["memory"]
    except PeerMissing as error:
        return [missing(error.name, error.why)]
    return [_marked(_figure("memory of a live session", "redis-server", found, many), "redis-server", many)]


def _on_disk(folder: Path, sessions: int) -> list[Row]:
    """What an engine on SQLite takes on the disk, and in memory when it is started on that."""
    files = folder / "files"
    files.mkdir()
    rows = []
    for what, found in _probe(ON_FILE, sessions, files).items():
        rows.append(_figure(f"{what} on disk for a live session", "engine, sqlite://", found, sessions))
    whole = _probe(RESTARTED, sessions, files)["memory"]
    rows.append(_figure("memory of a live session", "whole engine, sqlite://, once started", whole, sessions))
    return rows


def _figure(what: str, subject: str, found: float, sessions: int) -> Row:
    return Row(f"{what}, of {sessions:,}: {subject}", found, "bytes", subject=subject, sessions=sessions)


def _marked(row: Row, subject: str, sessions: int) -> Row:
    row.subject, row.sessions, row.plot = subject, sessions, f"memory of a live session, of {sessions:,}"
    return row


def _probe(name: str, sessions: int, folder: Path) -> dict[str, float]:
    """What the probe says of a subject. Raises `PeerMissing` in its words."""
    command = [sys.executable, "-m", "benchmarks.memory_probe", name, str(sessions), str(folder.resolve())]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode and "PeerMissing: " in last:
        peer, _, why = last.partition("PeerMissing: ")[2].partition(": ")
        raise PeerMissing(peer, why)
    if done.returncode:
        raise ChildProcessError(f"the memory probe of {name} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found
